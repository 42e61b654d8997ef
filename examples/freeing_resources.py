"""A model worker that frees a session's memory (KV cache, adapter slot) the moment the session ends.

python examples/freeing_resources.py HOST:PORT [TOPIC_PREFIX]

Each line of stdin names a session that wants memory. It is held until the monitor ends the session. docs/freeing-resources.md explains it.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Any

from monitor.broker import Connection
from monitor.gateway import Facts, Posture, check
from monitor.gateway.changes import Change, ChangeKind
from monitor.gateway.follower import Follower, present
from monitor.wire import Topics

OVER = {ChangeKind.ENDED, ChangeKind.FORGOTTEN}
ANYBODY = {ChangeKind.CONTROLS, ChangeKind.POLICY}


class SessionMemory:
    """What is held for each session; `release` gets it back when the session is over, in a thread that may take its time."""

    def __init__(self, follower: Follower, release: Callable[[str, Any], None], left_over: Iterable[tuple[Facts, Any]] = ()) -> None:
        """`left_over`: what an earlier run has left, on a disk say. Make it before the follower starts."""
        self._follower, self._release = follower, release
        self._held = {facts.session_id: (facts, memory) for facts, memory in left_over}
        self._over: SimpleQueue[tuple[str, Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._release_all, daemon=True)
        follower.subscribe(self._hear)

    def start(self, seconds: float) -> bool:
        """Once the view is loaded, look at all that is left over: of what ended meanwhile nobody tells. False: no view within `seconds`."""
        self._thread.start()
        loaded = self._follower.wait_ready(seconds)
        self._look_at_all()
        return loaded

    def stop(self) -> None:
        """Release what is still to be released, and end."""
        self._over.put(None)
        self._thread.join()

    def hold(self, facts: Facts, memory: Any) -> bool:
        """Keep memory for a session; False, and nothing is kept, where it may not go on."""
        # First held, then asked: an end that comes in between finds it. The other way round it would find nothing.
        self._held[facts.session_id] = facts, memory
        if self._may_go_on(facts):
            return True
        self._held.pop(facts.session_id, None)
        return False

    def _hear(self, changes: Sequence[Change]) -> None:
        # In the thread that keeps the view up: quick, and nothing in it raises or waits.
        for change in changes:
            if change.kind in OVER:
                self._let_go(change.session_id)
            elif change.kind in ANYBODY:
                self._look_at_all()

    def _look_at_all(self) -> None:
        for session_id, (facts, _) in list(self._held.items()):
            if not self._may_go_on(facts):
                self._let_go(session_id)

    def _let_go(self, session_id: str) -> None:
        held = self._held.pop(session_id, None)
        if held is not None:
            self._over.put((session_id, held[1]))

    def _may_go_on(self, facts: Facts) -> bool:
        return check(self._follower.view, facts, present()).admitted

    def _release_all(self) -> None:
        while (one := self._over.get()) is not None:
            self._release(*one)


def main(servers: str, prefix: str = "") -> None:
    """Hold a megabyte for each session that stdin names."""
    follower = Follower(Connection(bootstrap_servers=servers), Topics(prefix))
    memory = SessionMemory(follower, lambda session_id, freed: print(f"freed {session_id}: {len(freed)} bytes", flush=True))
    follower.start()
    if not memory.start(60):
        sys.exit(f"no view of ended sessions: {follower.last_error}")
    print("ready", flush=True)
    for line in sys.stdin:
        # Best effort: an outage of the pipeline frees nobody's memory.
        facts = Facts(session_id=line.strip(), posture=Posture.BEST_EFFORT)
        print(f"{'held' if memory.hold(facts, bytearray(1 << 20)) else 'refused'} {facts.session_id}", flush=True)
    follower.stop()
    memory.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
