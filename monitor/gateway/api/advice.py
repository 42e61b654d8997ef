"""`Advice`: the last warning of each session, for those who ask later how much time is left.

A view keeps no warnings: they decide nothing. Here they are kept as long as they may be of use to somebody, and within a bound.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from monitor.core.instants import Millis
from monitor.gateway.changes import Change, ChangeKind

KEPT: Final = 100_000
"""Sessions at most, some 25 MB; those that were warned first go first. Only those near their end are warned."""

_OVER: Final = (ChangeKind.ENDED, ChangeKind.REINSTATED, ChangeKind.FORGOTTEN)


class Warned(msgspec.Struct, frozen=True, gc=False):
    """A session will end at `effective_at`, unless something happens."""

    effective_at: Millis
    reason: str


class Advice:
    """Fed by one thread, asked by any. Knows what was said since it was made: warnings from before are not read again."""

    def __init__(self, kept: int = KEPT) -> None:
        """`kept`: sessions at most."""
        self._kept = kept
        self._warned: dict[str, Warned] = {}

    def take(self, changes: Iterable[Change]) -> None:
        """Note what these changes say. O(1) each."""
        warned = self._warned
        for change in changes:
            if change.kind is ChangeKind.WARNED:
                # Taken out first: what is said last is kept longest.
                warned.pop(change.session_id, None)
                warned[change.session_id] = Warned(change.effective_at, change.reason)
                if len(warned) > self._kept:
                    del warned[next(iter(warned))]
            elif change.kind in _OVER:
                warned.pop(change.session_id, None)

    def of(self, session_id: str, wall: Millis) -> Warned | None:
        """The last warning, if its deadline is still to come. Activity since then makes it untrue, and nobody tells us."""
        found = self._warned.get(session_id)
        return found if found is not None and found.effective_at > wall else None
