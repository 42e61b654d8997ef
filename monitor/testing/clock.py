"""A clock that moves when told."""

import asyncio
import heapq

from monitor.core.instants import Millis


class ManualClock:
    """Wall and monotonic time in one hand; sleepers wake when `advance` reaches their instant."""

    def __init__(self, now: Millis = 1_795_000_000_000) -> None:
        """Start at this wall time."""
        self._now = now
        self._origin = now
        self._sleepers: list[tuple[Millis, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> Millis:
        """Wall clock, milliseconds since the epoch."""
        return self._now

    def monotonic(self) -> Millis:
        """Milliseconds since this clock was made."""
        return self._now - self._origin

    def advance(self, duration: Millis) -> None:
        """Move on, and wake whoever slept until then, in order."""
        if duration < 0:
            raise ValueError("time only moves on")
        self._now += duration
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    async def sleep(self, duration: Millis) -> None:
        """Return once the clock has been advanced by this much."""
        sleeper = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + max(0, duration), self._count, sleeper))
        await sleeper
