"""`InFlight`: a session is in use as long as a request of it runs, for adapters that see when requests end.

While one runs, its session is told as active every few seconds, with the kind `inflight`, and once more when it ends; up to
the policy's `inflight_cap`, counted from the request's beginning, so that a request that hangs holds no session for ever. One thread
for all. A proxy that asks `/check` does not say when the request has ended: the sidecar can't use this.
"""

import threading
from collections.abc import Callable
from typing import Final

from monitor.core.instants import SECOND, Millis
from monitor.gateway.activity import Takes
from monitor.gateway.commanded import Kind
from monitor.gateway.enforcer import Following
from monitor.gateway.evidence import in_flight
from monitor.gateway.facts import Facts, Now

PERIOD: Final[Millis] = 5 * SECOND
"""From one activity to the next: far below every idle limit. A request that is shorter tells nothing but its beginning."""


class Request:
    """One request that runs."""

    __slots__ = ("_began", "_in_flight", "session_id")

    def __init__(self, in_flight: "InFlight", session_id: str, began: Millis) -> None:
        """Made by `InFlight.begin`."""
        self._in_flight, self.session_id, self._began = in_flight, session_id, began

    def end(self) -> None:
        """It has ended. Idempotent; neither raises nor waits."""
        self._in_flight.ended(self)

    def runs(self, now: Now) -> Millis:
        """For how long."""
        return now.monotonic - self._began


class InFlight:
    """The requests that run. `start` and `stop` its thread; all else may be called from any thread."""

    def __init__(self, following: Following, dispatch: Takes, now: Callable[[], Now], *, period: Millis = PERIOD) -> None:
        """`following` has the policy, and its cap."""
        self._following, self._dispatch, self._now, self._period = following, dispatch, now, period
        self._requests: dict[Request, None] = {}
        """In the order of their beginnings."""
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """How many run."""
        return len(self._requests)

    def start(self) -> None:
        """Tell of them, every period. Idempotent."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="gateway-inflight", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Tell no more. Idempotent."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def begin(self, facts: Facts) -> Request | None:
        """A request has been admitted, and runs until its `end`. None: it has no session that could be in use."""
        if facts.session_id is None:
            return None
        request = Request(self, facts.session_id, self._now().monotonic)
        with self._changing:
            self._requests[request] = None
        return request

    def ended(self, request: Request) -> None:
        """It runs no more: what `Request.end` says."""
        with self._changing:
            known = request in self._requests
            self._requests.pop(request, None)
        now = self._now()
        if known and self._period <= request.runs(now) <= self._cap and self._lives(request.session_id):
            self._dispatch.put(in_flight(request.session_id, now.wall))

    def tell(self) -> None:
        """Tell of each session that has a request running for a period or more, and not past the cap."""
        now, cap = self._now(), self._cap
        with self._changing:
            running = list(self._requests)
        sessions = dict.fromkeys(request.session_id for request in running if self._period <= request.runs(now) <= cap)
        for session_id in filter(self._lives, sessions):
            self._dispatch.put(in_flight(session_id, now.wall))

    def _lives(self, session_id: str) -> bool:
        """Of a session that has ended, a request that is being cut is no use: the monitor would take it for one that was let in."""
        commanded = self._following.view.commanded
        packed = commanded.get(session_id)
        return packed is None or commanded.shared(packed).kind is Kind.REINSTATE

    @property
    def _cap(self) -> Millis:
        return self._following.view.timing.inflight_cap

    def _run(self) -> None:
        while not self._stopping.wait(self._period / SECOND):
            self.tell()
