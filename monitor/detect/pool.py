"""`Pool`: what the watches of several partitions know together. A subject lies on one partition, but its like on all."""

from typing import Final

from monitor.core.instants import MINUTE, LogMillis, Millis
from monitor.detect.cohorts import Cohorts

REFRESHED: Final[Millis] = 5 * MINUTE
"""How old what is known together may get, by the time of who asks: to merge it anew takes a tenth of a second where there are many cohorts."""


class Pool:
    """The cohorts of every partition that this process watches. One alone is asked directly."""

    def __init__(self) -> None:
        """Nobody has joined."""
        self._parts: dict[int, Cohorts] = {}
        self._merged = Cohorts()
        self._at: LogMillis | None = None

    def join(self, number: int, cohorts: Cohorts) -> None:
        """This partition is watched, with these cohorts; in place of those that it had before."""
        self._parts[number] = cohorts
        self._at = None

    def leave(self, number: int) -> None:
        """It is watched by another process now; idempotent."""
        self._parts.pop(number, None)
        self._at = None

    def known(self, now: LogMillis) -> Cohorts:
        """All that is known at `now`, as of `REFRESHED` ago at the most."""
        parts = list(self._parts.values())
        if len(parts) == 1:
            return parts[0]
        if self._at is None or abs(now - self._at) >= REFRESHED:
            fades = parts[0].fades if parts else self._merged.fades
            self._merged, self._at = Cohorts.merged((part for part in parts if part.fades == fades), fades), now
        return self._merged
