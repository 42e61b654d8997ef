"""`Looks`: what is to be looked at when, because time alone may change it."""

from collections.abc import Iterator
from heapq import heappop, heappush

from monitor.core.instants import NEVER, Millis


class Looks:
    """One instant for each name: the earliest that was asked for. All is O(log n)."""

    def __init__(self) -> None:
        """Nothing is to be looked at."""
        self._queue: list[tuple[Millis, str]] = []
        self._due: dict[str, Millis] = {}
        """The entry of the queue that counts."""

    def arm(self, name: str, when: Millis | None) -> None:
        """Look at it at `when`, unless it is looked at earlier; None and `NEVER`: time alone changes nothing."""
        if when is not None and when < self._due.get(name, NEVER):
            self._due[name] = when
            heappush(self._queue, (when, name))

    def due(self, now: Millis) -> Iterator[str]:
        """What is to be looked at by `now`, in the order of its instants; also what is armed meanwhile."""
        while self._queue and self._queue[0][0] <= now:
            when, name = heappop(self._queue)
            if self._due.get(name) == when:
                del self._due[name]
                yield name
