"""What one entry of a policy says: whom it concerns, and what it asks of them. Plain frozen data."""

from enum import StrEnum
from typing import Final

import msgspec

from monitor.core.instants import NEVER, Millis
from monitor.core.when import EVERYBODY, When

__all__ = ["DEFAULTS", "EVERYBODY", "SEVERITY", "OnExceed", "Origin", "Rule", "When"]

DEFAULTS: Final = "defaults"
"""The name under which the policy's `defaults` stand in plans and chains."""


class Origin(StrEnum):
    """Where an entry comes from: the words of `Because.origin`."""

    DEFAULTS = "defaults"
    PRESET = "preset"
    RULE = "rule"
    EXCEPTION = "exception"


class OnExceed(StrEnum):
    """What follows more than `concurrent` sessions at once, the mildest first."""

    ALERT = "alert"
    END_OLDEST = "end_oldest"
    END_NEWEST = "end_newest"


SEVERITY: Final = tuple(OnExceed)
"""`OnExceed` in the order in which one outranks another where several rules match."""


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """The defaults, a rule of a preset or of the policy, or an exception. None: it says nothing of that."""

    name: str
    origin: Origin
    when: When = EVERYBODY
    idle: Millis | None = None
    """`NEVER` for `none`."""
    absolute: Millis | None = None
    warn_before: tuple[Millis, ...] | None = None
    """Longest first."""
    counts: int | None = None
    """`idle_counts` as a mask of activity kinds."""
    acr_values: tuple[str, ...] | None = None
    max_age: Millis | None = None
    concurrent: int | None = None
    on_exceed: OnExceed | None = None
    abnormal_after: Millis | None = None
    """For detection."""
    observe: bool = False
    """On trial: decided and recorded, never commanded."""
    until: Millis = NEVER
    """Of an exception: the instant at which it ends."""
    reason: str = ""
    approved_by: str = ""
    line: int = 1
    column: int = 1

    @property
    def speaks(self) -> bool:
        """Whether it says anything at all."""
        said = (
            self.idle, self.absolute, self.warn_before, self.counts, self.acr_values, self.max_age,
            self.concurrent, self.on_exceed, self.abnormal_after,
        )  # fmt: skip
        return any(member is not None for member in said)
