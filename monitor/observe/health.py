"""The two answers an orchestrator wants: whether the process is alive, and whether it is ready for work."""

from collections.abc import Collection, Mapping
from typing import Final, Protocol

import msgspec

from monitor.core.instants import SECOND, Millis

STALLED_AFTER: Final[Millis] = 10 * SECOND
"""A loop that has not turned for this long is not alive."""


class Verdict(msgspec.Struct, frozen=True):
    """An answer, with the reason an operator reads."""

    ok: bool
    reason: str


class Failure(Protocol):
    """Where a worker's first broken promise is left: `asyncio.Future` is one."""

    def done(self) -> bool:
        """Whether there is one."""

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""

    def exception(self) -> BaseException | None:
        """What it is."""


class Working(Protocol):
    """A worker as seen from here."""

    @property
    def owned(self) -> Collection[int]:
        """The partitions it owns."""

    @property
    def recovering(self) -> Collection[int]:
        """The partitions it is about to own."""

    @property
    def stopped(self) -> Mapping[int, str]:
        """The partitions that it can't decide for, and why."""

    @property
    def failed(self) -> Failure:
        """Its end."""


class Health:
    """Answers from what the worker says of itself, and from when its event loop last turned."""

    def __init__(self, worker: Working | None = None) -> None:
        """`beat` is to be called from the event loop. Without a worker yet, it is starting: see `attach`."""
        self._worker = worker
        self.last_beat: Millis | None = None
        """The monotonic instant at which the loop last turned."""

    def attach(self, worker: Working) -> None:
        """Answer for this worker from now on."""
        self._worker = worker

    def beat(self, now: Millis) -> None:
        """The event loop turns."""
        self.last_beat = now

    def alive(self, now: Millis) -> Verdict:
        """Whether the process is to be left running."""
        if self.last_beat is None:
            return Verdict(ok=True, reason="starting")
        late = now - self.last_beat
        if late > STALLED_AFTER:
            return Verdict(ok=False, reason=f"the event loop has not turned for {late / 1000:.1f} s")
        return Verdict(ok=True, reason="the event loop turns")

    def ready(self) -> Verdict:
        """Whether it owns partitions and decides for all of them. A spare, which owns none, is not ready."""
        worker = self._worker
        if worker is None:
            return Verdict(ok=False, reason="starting")
        failed = worker.failed
        if failed.done():
            error = None if failed.cancelled() else failed.exception()
            return Verdict(ok=False, reason=f"failed: {error}" if error else "stopping")
        if worker.recovering:
            numbers = ", ".join(map(str, sorted(worker.recovering)))
            return Verdict(ok=False, reason=f"recovering partitions {numbers}")
        if worker.stopped:
            number, reason = min(worker.stopped.items())
            return Verdict(ok=False, reason=f"partition {number} is stopped: {reason}")
        if not worker.owned:
            return Verdict(ok=False, reason="no partition is assigned")
        return Verdict(ok=True, reason=f"{len(worker.owned)} partitions are recovered and decided for")
