"""`Backlog`: evidence that waits for the broker, thinned as it grows. Pure.

Of a session that is used all the time, what matters is that no gap appears that was not there. So of evidence that says the same, the
first and the last are kept, and enough between them that none that was left out lies in a gap of more than `apart`. Where that
becomes too much, `apart` is doubled and what is there is thinned once more: an outage of many minutes takes no more room than one
of seconds, and its sessions' idle limits still see them in use.
"""

from bisect import insort
from typing import Final, TypeAlias

from monitor.core.events import EventType
from monitor.core.instants import MINUTE, SECOND, EventMillis, Millis
from monitor.gateway.enforcer import Seen
from monitor.gateway.evidence import Evidence
from monitor.gateway.facts import Facts

APART: Final[Millis] = SECOND // 4
"""At first: the publisher coalesces by its own granularity."""
FURTHEST: Final[Millis] = MINUTE
"""Still below the shortest idle limits that people set; what is too much even then is lost."""

_Key: TypeAlias = tuple[EventType, Facts, Seen]


class Backlog:
    """For one thread. Adding takes a microsecond; thinning, now and then, a few milliseconds for each 10,000 pieces."""

    def __init__(self, limit: int, *, apart: Millis = APART, furthest: Millis = FURTHEST) -> None:
        """`limit`: pieces at the most; a repetition within `apart` (up to `furthest`) takes no place."""
        self._limit, self._least, self._furthest = limit, apart, furthest
        self.apart = apart
        """No piece that was left out lies in a gap of more than this."""
        self.folded = 0
        """Pieces that were left out."""
        self._times: dict[_Key, list[EventMillis]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Pieces that are here."""
        return self._count

    def add(self, evidence: Evidence) -> bool:
        """Whether there was room for it."""
        key, time = (evidence.type, evidence.facts, evidence.seen), evidence.time
        times = self._times.get(key)
        if times is not None and time >= times[-1] and len(times) > 1 and time - times[-2] <= self.apart:
            times[-1] = time
            self.folded += 1
            return True
        if self._count >= self._limit and not self._thinned():
            return False
        # What was thinned is there still, by its first and its last.
        if times is None:
            self._times[key] = [time]
        else:
            insort(times, time)
        self._count += 1
        return True

    def take(self) -> list[Evidence]:
        """All that is here, in the order of its time; then there is nothing, and as much room as at first."""
        taken = [Evidence(*key, time) for key, times in self._times.items() for time in times]
        self._times, self._count, self.apart = {}, 0, self._least
        return sorted(taken, key=lambda one: one.time)

    def _thinned(self) -> bool:
        """Make room: a quarter of it at least, so that it isn't done for each. False: there is none to be made."""
        while self._count > self._limit * 3 // 4 and self.apart < self._furthest:
            self.apart = min(2 * self.apart, self._furthest)
            for times in self._times.values():
                _thin(times, self.apart)
            left = sum(map(len, self._times.values()))
            self.folded += self._count - left
            self._count = left
        return self._count < self._limit


def _thin(times: list[EventMillis], apart: Millis) -> None:
    kept = times[:2]
    for time in times[2:]:
        if time - kept[-2] <= apart:
            kept[-1] = time
        else:
            kept.append(time)
    times[:] = kept
