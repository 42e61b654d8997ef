"""Which records of touches are live on the changelog, and when the older ones may go.

A session that was only touched is not written whole: its checkpoint writes what moved of five hundred such sessions
into one record, under a key of its own. Such records pile up; so they belong to generations. When one holds
several touches for each session, the next begins, and the one *before* it is retired: the few sessions whose newest
state it still holds are written whole, that is committed, and then its records get their tombstones.
"""

from collections.abc import Iterable
from typing import Final

from monitor.worker.state import TOUCH_PREFIX, TOUCHES

RECOVERED: Final = 1
"""The generation of what earlier owners wrote."""
MOST: Final = 255
"""Generations stand in a byte; 0 is none."""
FULL: Final = 3
"""Touches for each session, after which a generation is full: recovery reads at most twice as many."""
LEAST: Final = 1000
"""Sessions that a partition is taken to have at least."""


class TouchLog:
    """The live records of one partition, by generation. Keys are this tenure's own, so that no zombie can replace them."""

    def __init__(self, tenure: str, recovered: Iterable[bytes] = ()) -> None:
        """`tenure` names who writes, and since when; `recovered` are the keys that earlier owners left."""
        self.generation = RECOVERED + 1
        self.retiring: int | None = None
        """The generation that the next checkpoint ends."""
        self._keys: dict[int, list[bytes]] = {RECOVERED: list(recovered), self.generation: []}
        self._live = set(self._keys[RECOVERED])
        # So that owners who follow one another quickly do not leave ever more.
        self._held = len(self._live) * TOUCHES // 2
        self._prefix = TOUCH_PREFIX + tenure.encode() + b"/"
        self._number = 0

    def __contains__(self, key: bytes) -> bool:
        """Whether this record is live, and known."""
        return key in self._live

    def add(self, touches: int) -> bytes:
        """The key of one more record of this generation."""
        key = self._prefix + str(self._number).encode()
        self._number += 1
        self._held += touches
        self._keys[self.generation].append(key)
        self._live.add(key)
        return key

    def turn(self, sessions: int) -> None:
        """Begin the next generation where this one is full and none is being retired; the one before it is next to go."""
        if self.retiring is not None or self._held < FULL * max(sessions, LEAST):
            return
        self.retiring = next(iter(self._keys))
        self.generation = self.generation % MOST + 1
        self._keys[self.generation] = []
        self._held = 0

    def retired(self, generation: int) -> list[bytes]:
        """Every session that the generation held is durable elsewhere, and committed: the keys to bury."""
        self.retiring = None
        keys = self._keys.pop(generation)
        self._live.difference_update(keys)
        return keys
