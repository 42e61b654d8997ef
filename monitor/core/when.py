"""`When`: whom an entry of the policy concerns, by what is known of a session. Plain frozen data."""

from typing import Final

import msgspec


class When(msgspec.Struct, frozen=True, omit_defaults=True):
    """The conditions of an entry: all that are given must be met. None: no condition."""

    principal: str | None = None
    roles: tuple[str, ...] | None = None
    """Any of them."""
    at_least: str | None = None
    """The lowest classification it speaks of ..."""
    classification: tuple[str, ...] | None = None
    """... or the very ones."""
    workload: tuple[str, ...] | None = None
    route: tuple[str, ...] | None = None
    """Globs."""
    subject: tuple[str, ...] | None = None
    """Globs."""
    tenant: tuple[str, ...] | None = None

    @property
    def empty(self) -> bool:
        """Whether it meets every session."""
        return self == EVERYBODY


EVERYBODY: Final = When()
