"""A session as the monitor holds it, and the one table of its states and transitions.

Theory of operation: a session is live, expired or revoked; forgetting takes it out of memory. Everything
that changes its state is a `Move`, and `TRANSITIONS` says which moves a state knows. A move that it does
not know is a broken promise of ours (`IllegalTransitionError`), never bad input: input is judged before it
becomes a move.
"""

from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec

from monitor.core.commands import CommandType
from monitor.core.errors import InvariantError
from monitor.core.events import ActivityKind, Attributes
from monitor.core.instants import NEVER, EventMillis, LogMillis, Millis
from monitor.core.plan import Limit, Plan
from monitor.core.reasons import Reason


class State(IntEnum):
    """Where a session stands."""

    LIVE = 0
    EXPIRED = 1
    """Ended by a limit, a lock or its own close: re-authentication may bring it back."""
    REVOKED = 2
    """Final."""
    FORGOTTEN = 3


class Move(IntEnum):
    """What can happen to a session."""

    EXPIRE = 0
    REVOKE = 1
    REAUTHENTICATE = 2
    FORGET = 3


TRANSITIONS: Final = MappingProxyType(
    {
        State.LIVE: {Move.EXPIRE: State.EXPIRED, Move.REVOKE: State.REVOKED, Move.REAUTHENTICATE: State.LIVE},
        State.EXPIRED: {Move.REVOKE: State.REVOKED, Move.REAUTHENTICATE: State.LIVE, Move.FORGET: State.FORGOTTEN},
        State.REVOKED: {Move.FORGET: State.FORGOTTEN},
        State.FORGOTTEN: {},
    }
)


class IllegalTransitionError(InvariantError):
    """A move that the session's state does not know."""


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an epoch ended: enough to write its command again."""

    type: CommandType
    reason: Reason
    effective_at: Millis
    cutoff: Millis
    forget_after: Millis
    offset: int
    due: LogMillis
    limit_ms: Millis | None = None
    rule: str | None = None
    policy: str = ""
    control_id: str = ""


class Warned(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last warning of one kind: for which deadline, and how long before it."""

    deadline: Millis
    lead: Millis


class Trial(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The deadlines that rules on trial would give, each with the log time at which it last changed."""

    idle: Millis
    idle_set_at: LogMillis
    absolute: Millis
    absolute_set_at: LogMillis


COUNT_BITS: Final = 32
COUNT_UNITS: Final = MappingProxyType(
    {kind: 1 << (COUNT_BITS * place) for place, kind in enumerate(ActivityKind)}
)
"""What to add to `Session.counts` for one event of a kind."""

OBSERVED_IDLE: Final = 1
OBSERVED_ABSOLUTE: Final = 2


class Session(msgspec.Struct, gc=False):
    """One session. Mutable, owned by one partition; everything in it is a function of the log."""

    session_id: str
    attributes: Attributes
    plan: Plan
    opened_at: EventMillis
    start: Millis
    """When this epoch began: the principal authenticated, or was first seen."""
    last_activity: EventMillis
    """The latest counting event time."""
    absolute_limit: Limit
    """The tightest absolute limit of this epoch: its deadline never moves later."""
    idle_set_at: LogMillis
    """The log time at which the idle deadline last changed ..."""
    absolute_set_at: LogMillis
    """... and the absolute one: a deadline at or before this instant was past when it was set."""
    planned_at: LogMillis
    controls_to: int
    state: State = State.LIVE
    epoch: int = 0
    counts: int = 0
    """Events by kind, 32 bits each (`COUNT_UNITS`)."""
    applied_offset: int = -1
    kept_first: EventMillis = NEVER
    """Of the counting events after the idle deadline: the first ..."""
    kept_last: EventMillis = 0
    """... and the last."""
    source: str | None = None
    expires: Millis = 0
    cutoff: Millis = 0
    """The highest cut-off of all ended epochs."""
    end: End | None = None
    lifted: Reason | None = None
    """Why the epoch ended that this one reinstated: with the epoch's start, enough to write that command again."""
    idle_warned: Warned | None = None
    absolute_warned: Warned | None = None
    trial: Trial | None = None
    """Only where a rule on trial bears on it."""
    observed: int = 0
    late_minutes: dict[str, int] | None = None
    """Source -> the minute of log time of its last `late_activity` record."""
    seen: Any = None
    """What the last event was like, and `likeness` what it said besides its time: the owner's notes, by which it
    knows an event that changes no attribute. Whatever may give an old event a new meaning clears them."""
    likeness: int = 0
    timer: int = 0
    """The key under which it is armed, or 0."""
    dirty: bool = False

    def move(self, move: Move) -> None:
        """Change the state by the table. Raises IllegalTransitionError."""
        state = TRANSITIONS[self.state].get(move)
        if state is None:
            raise IllegalTransitionError(
                f"session {self.session_id!r} epoch {self.epoch} is {self.state.name} and can't {move.name}"
            )
        self.state = state

    @property
    def idle_deadline(self) -> Millis:
        """The instant up to which activity rescues it; at least NEVER where there is no limit."""
        return self.last_activity + self.plan.idle.ms

    @property
    def absolute_deadline(self) -> Millis:
        """The instant at which it ends whatever it does; at least NEVER where there is no limit."""
        return self.start + self.absolute_limit.ms

    def count(self, kind: ActivityKind) -> int:
        """Events of this kind, in all epochs."""
        return self.counts // COUNT_UNITS[kind] % (1 << COUNT_BITS)

    def counted(self) -> tuple[int, int, int, int]:
        """Events by kind: human, agent, inflight, keepalive."""
        mask = (1 << COUNT_BITS) - 1
        packed = self.counts
        return packed & mask, packed >> 32 & mask, packed >> 64 & mask, packed >> 96 & mask
