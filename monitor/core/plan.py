"""A plan: the limits in force for one session, and the because-chain that gave them."""

from enum import StrEnum
from typing import Protocol

import msgspec

from monitor.core.events import COUNTING_BY_DEFAULT, Attributes
from monitor.core.instants import HOUR, MINUTE, NEVER, SECOND, LogMillis, Millis


class LimitKind(StrEnum):
    """The two limits a session has."""

    IDLE = "idle"
    ABSOLUTE = "absolute"


class Limit(msgspec.Struct, frozen=True):
    """A duration and the rule that gave it. `NEVER` stands for `none`."""

    ms: Millis
    rule: str


class Because(msgspec.Struct, frozen=True, omit_defaults=True):
    """One link of the because-chain: what one rule said about one limit, and whether that won."""

    rule: str
    limit: LimitKind
    ms: Millis | None
    """`None` stands for `none`."""
    won: bool = False
    origin: str = "rule"
    """`defaults`, `preset`, `rule` or `exception`."""
    observe: bool = False


class Plan(msgspec.Struct, frozen=True):
    """The limits of one session under one policy. Equal inputs give equal plans; plans are shared."""

    policy: str
    """The version of the policy that made it."""
    idle: Limit
    absolute: Limit
    observed_idle: Limit = Limit(NEVER, "")
    """The limit that rules with `enforce: observe` would give, where that is shorter; else `NEVER`."""
    observed_absolute: Limit = Limit(NEVER, "")
    counts: int = COUNTING_BY_DEFAULT
    """The mask of the activity kinds that reset the idle clock."""
    warn_before: tuple[Millis, ...] = ()
    """Longest first."""
    acr_values: tuple[str, ...] = ()
    """What a re-authentication must bring, in order of preference; empty: anything."""
    max_age: Millis | None = None
    concurrent: int | None = None
    on_exceed: str = "alert"
    source_grace: Millis = 0
    valid_until: Millis = NEVER
    """The first instant at which an exception that bears on this plan ends."""
    chain: tuple[Because, ...] = ()


class Timing(msgspec.Struct, frozen=True):
    """The `timing` of a policy: DESIGN section 6."""

    lateness: Millis = 2 * SECOND
    tick: Millis = 50
    outage_grace: Millis = 30 * SECOND
    source_grace: Millis = 5 * MINUTE
    credential_lifetime: Millis = 24 * HOUR
    inflight_cap: Millis = HOUR


class Policy(Protocol):
    """What the decisions need of a compiled policy. `monitor.policy` provides it."""

    @property
    def version(self) -> str:
        """Eight hex digits, a function of the text alone."""

    @property
    def timing(self) -> Timing:
        """The durations of section 6."""

    def rank(self, classification: str | None) -> int:
        """The place in the ordered list, from 0; an unknown word stands above the highest, `None` is -1."""

    def plan(self, attributes: Attributes, at: LogMillis) -> Plan:
        """The plan for these attributes at this instant. Equal calls return the same object where they can."""

    @property
    def personal(self) -> bool:
        """Whether the subject may matter."""

    def period(self, at: LogMillis) -> int:
        """Two instants of one period give equal plans."""
