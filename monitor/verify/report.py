"""What was found: violations with their places, and what could not be judged, with why."""

from enum import StrEnum

import msgspec

from monitor.core.instants import Millis


class Wrong(StrEnum):
    """How an invariant can be broken."""

    MISSING = "missing"
    """A command that was due, and that a watermark speaks for, is not there (I3, I6)."""
    NEVER_DUE = "never_due"
    """A command that nothing calls for: a false expiry (I2)."""
    WRONG_CUTOFF = "wrong_cutoff"
    """The right command with another cut-off: who had authenticated in time is refused, or the reverse."""
    TWO_IDS = "two_ids"
    """Two decisions about one (session, epoch, type) (I4)."""
    WRONG_ID = "wrong_id"
    """An id that is not the hash of its decision (I4)."""
    WEAKENED = "weakened"
    """The last record of a session is weaker than one before it (I5)."""
    WATERMARK = "watermark"
    """A command came after a watermark that had spoken for its deadline (I7)."""
    COUNTS = "counts"
    """An end whose account is not the number of events that came (I6)."""
    NO_LIFECYCLE = "no_lifecycle"
    """An end that session-lifecycle does not tell of (I6)."""
    NO_DEAD_LETTER = "no_dead_letter"
    """A record that could not be applied and was not put aside (I6)."""
    NEEDLESS_DEAD_LETTER = "needless_dead_letter"
    """An event that was put aside and could have been applied (I6)."""
    NOT_REROUTED = "not_rerouted"
    """An event on the wrong partition that never came to its own (I6)."""


class Violation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One promise broken, and where to look."""

    wrong: Wrong
    what: str
    topic: str
    partition: int
    offset: int
    """Of the record that is wrong; of one that is missing, the access event (or tick) at which it was decided."""
    session_id: str | None = None
    epoch: int | None = None


class Unjudged(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something about which the topics no longer say enough, or do not yet."""

    why: str
    topic: str
    partition: int
    count: int = 1
    """How many sessions, commands or records it is about."""


class Held(msgspec.Struct, frozen=True):
    """What was looked at in one partition."""

    partition: int
    begins: int
    """The first access event that was read."""
    ends: int
    """The offset after the last."""
    judged_to: Millis | None
    """Up to here everything that was due had to be there; None: nothing had."""
    events: int = 0
    sessions: int = 0
    commands: int = 0
    """Different ones; `repeated` records said one of them again."""
    repeated: int = 0
    violations: int = 0


class Report(msgspec.Struct):
    """The verdict."""

    partitions: list[Held] = []
    violations: list[Violation] = []
    unjudged: list[Unjudged] = []

    @property
    def held(self) -> bool:
        """Whether nothing was found wrong. What was not judged has not been found right."""
        return not self.violations
