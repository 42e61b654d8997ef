"""This machine's clock, the one real implementation of `Clock`."""

import asyncio
import time

from monitor.core.instants import Millis


class SystemClock:
    """Wall clock and monotonic clock of this machine, in milliseconds."""

    def now(self) -> Millis:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> Millis:
        """Milliseconds that never step."""
        return time.monotonic_ns() // 1_000_000

    async def sleep(self, duration: Millis) -> None:
        """Give the turn to others for at least `duration`."""
        await asyncio.sleep(max(0, duration) / 1000)


class BrokerClock:
    """What the broker's clock says now, learnt from acknowledgements; never ahead of it.

    For an append sent at s and acknowledged at a with append time A, the broker's clock was A somewhere
    between s and a, so `A - a` bounds its lead over ours from below. The best bound of the last window counts.
    """

    WINDOW: Millis = 30_000

    def __init__(self, now: Millis, monotonic: Millis) -> None:
        """Until the first acknowledgement, the wall clock stands in."""
        self._lead = now - monotonic
        self._best: tuple[Millis, Millis] | None = None
        self.learnt = False

    def learn(self, appended_at: Millis, acked_at: Millis) -> None:
        """Take in one acknowledgement: the append time, and our monotonic clock when it came."""
        lead = appended_at - acked_at
        if self._best is None or lead >= self._best[0] or acked_at - self._best[1] > self.WINDOW:
            self._best = (lead, acked_at)
            self._lead = lead
            self.learnt = True

    def at(self, monotonic: Millis) -> Millis:
        """The broker's clock at an instant of ours: not later than it really is."""
        return monotonic + self._lead
