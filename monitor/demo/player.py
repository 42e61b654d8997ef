"""Plays a schedule of acts into Kafka, in real time."""

import threading
import time
from collections.abc import Iterable
from typing import Any, Final, Protocol

from monitor.core.errors import MonitorError
from monitor.core.events import EventType
from monitor.core.instants import Millis
from monitor.demo.traffic import Act

STOP_SECONDS: Final = 3.0


class Stage(Protocol):
    """Where events go: `monitor.publish.Publisher` is one."""

    def opened(self, session_id: str, **fields: Any) -> None:
        """A session began."""

    def activity(self, session_id: str, **fields: Any) -> None:
        """It was used."""

    def reauthenticated(self, session_id: str, **fields: Any) -> None:
        """Its principal proved again who it is."""

    def closed(self, session_id: str, **fields: Any) -> None:
        """It ended by itself."""


class Player:
    """A thread that publishes each act when its time has come, and those that are late at once.

    `stop` is idempotent and returns within seconds. Where publishing fails it ends, and `failure` says why.
    """

    def __init__(self, acts: Iterable[Act], stage: Stage) -> None:
        """Nothing is published before `start`."""
        self.failure: MonitorError | None = None
        self.played = 0
        """Events handed to the stage so far."""
        self._acts = acts
        self._stage = stage
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play, name="session-monitor-demo", daemon=True)

    def start(self) -> None:
        """Begin with the schedule; its offset 0 is now."""
        self._thread.start()

    def stop(self) -> None:
        """Publish nothing more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _play(self) -> None:
        begun = _now()
        try:
            for act in self._acts:
                if self._stopping.wait(max(0, begun + act.offset - _now()) / 1000):
                    return
                perform(act, self._stage)
                self.played += 1
        except MonitorError as error:
            if not self._stopping.is_set():
                self.failure = error


def perform(act: Act, stage: Stage) -> None:
    """One act, now. The SDK's word for the wire's `activity` is `kind`."""
    said = dict(act.event)
    type_, session_id = EventType(str(said.pop("type"))), str(said.pop("session_id"))
    if "activity" in said:
        said["kind"] = said.pop("activity")
    _VERBS[type_](stage, session_id, said)


_VERBS: Final = {
    EventType.OPENED: lambda stage, session_id, said: stage.opened(session_id, **said),
    EventType.ACTIVITY: lambda stage, session_id, said: stage.activity(session_id, **said),
    EventType.REAUTHENTICATED: lambda stage, session_id, said: stage.reauthenticated(session_id, **said),
    EventType.CLOSED: lambda stage, session_id, said: stage.closed(session_id, **said),
}


def _now() -> Millis:
    return time.monotonic_ns() // 1_000_000
