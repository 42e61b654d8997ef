"""`Window`: how often something has happened lately. The newest instants are kept as they are, older ones rounded down.

What it holds is a function of what was added, whatever the order, and so is a merger of two. Bounded: `EXACT` instants, and about
`BUCKETS` counts. A number of up to `EXACT` is exact to the millisecond; beyond, what lies in the bucket that the window's edge cuts is left
out: a count may be too small by that, and is never too large.
"""

from bisect import bisect_right, insort
from typing import Final

import msgspec

from monitor.core.instants import NEVER, Millis

EXACT: Final = 64
"""Instants that are kept to the millisecond."""
BUCKETS: Final = 32
"""Into so many parts a window is cut for what is older than those."""


class Window(msgspec.Struct, array_like=True):
    """Instants by how long ago they were. `window` is the same in all calls; where a policy makes it longer, what was let go stays away."""

    exact: list[Millis] = []
    """The newest, ascending."""
    rounded: list[tuple[Millis, int]] = []
    """Older ones: the beginning of their bucket, and how many they are. Ascending."""

    def add(self, at: Millis, window: Millis) -> None:
        """It happened at `at`. What lies `window` or more before the newest is let go."""
        insort(self.exact, at)
        if len(self.exact) > EXACT:
            self._round(self.exact.pop(0), 1, window)
        self.trim(self.exact[-1], window)

    def merge(self, other: "Window", window: Millis) -> None:
        """All that happened in the other as well."""
        self.exact = sorted([*self.exact, *other.exact])
        for start, count in other.rounded:
            self._round(start, count, window)
        spilled = max(0, len(self.exact) - EXACT)
        for at in self.exact[:spilled]:
            self._round(at, 1, window)
        del self.exact[:spilled]
        if self.exact:
            self.trim(self.exact[-1], window)

    def trim(self, now: Millis, window: Millis) -> None:
        """Let go of what lies `window` or more before `now`."""
        edge = now - window
        if self.exact and self.exact[0] <= edge:
            del self.exact[: bisect_right(self.exact, edge)]
        if self.rounded and self.rounded[0][0] <= edge:
            self.rounded = [part for part in self.rounded if part[0] > edge]

    def count(self, now: Millis, window: Millis) -> int:
        """How often it happened less than `window` before `now`."""
        edge = now - window
        recent = len(self.exact) - bisect_right(self.exact, edge)
        return recent + sum(count for start, count in self.rounded if start > edge)

    def below(self, count: int, window: Millis) -> Millis:
        """The instant from which on it is fewer than `count`, if nothing comes; `NEVER` where it is fewer anyway."""
        if 0 < count <= len(self.exact):
            return self.exact[-count] + window
        left = count - len(self.exact)
        for start, several in reversed(self.rounded):
            left -= several
            if left <= 0:
                return start + window
        return NEVER

    def __bool__(self) -> bool:
        """Whether anything is held."""
        return bool(self.exact or self.rounded)

    def _round(self, at: Millis, count: int, window: Millis) -> None:
        width = max(1, window // BUCKETS)
        start = at - at % width
        place = bisect_right(self.rounded, start, key=lambda part: part[0])
        if place and self.rounded[place - 1][0] == start:
            self.rounded[place - 1] = start, self.rounded[place - 1][1] + count
        else:
            self.rounded.insert(place, (start, count))
