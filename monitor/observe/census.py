"""How many sessions stand in each state, counted a slice at a time."""

from collections import Counter
from collections.abc import Mapping

from monitor.core.session import Session, State


class Census:
    """Counts the sessions of one partition in bounded turns, again and again.

    Exact at once up to `slice_size` sessions; above that, a round takes several turns and what it gives is
    as old as the round is long. A turn costs O(slice_size), the first of a round also a copy of the references.
    """

    def __init__(self, slice_size: int = 20_000) -> None:
        """`slice_size` sessions take about a millisecond."""
        self._slice = slice_size
        self._waiting: list[Session] = []
        self._running: Counter[State] = Counter()
        self.counts: dict[State, int] = {}
        """The result of the last whole round."""

    def turn(self, sessions: Mapping[str, Session]) -> dict[State, int]:
        """Count the next slice; the result of the last whole round (an estimate during the first)."""
        if not self._waiting:
            self._waiting = list(sessions.values())
            self._running = Counter()
        self._running.update([session.state for session in self._waiting[-self._slice :]])
        del self._waiting[-self._slice :]
        if not self._waiting:
            self.counts = dict(self._running)
        return self.counts or dict(self._running)
