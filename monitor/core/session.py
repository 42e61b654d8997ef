"""A session as the monitor holds it, and the one table of its states and transitions.

Theory of operation: a session is live, expired or revoked; forgetting takes it out of memory. Everything
that changes its state is a `Move`, and `TRANSITIONS` says which moves a state knows. A move that it does
not know is a broken promise of ours (`IllegalTransitionError`), never bad input: input is judged before it
becomes a move.
"""

from array import array
from collections.abc import Sequence
from enum import IntEnum
from operator import attrgetter
from sys import intern
from types import MappingProxyType
from typing import Any, Final, TypeAlias

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


HELD: Final = (State.LIVE, State.EXPIRED, State.REVOKED)
"""The states of sessions in memory."""


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


OBSERVED_IDLE: Final = 1
OBSERVED_ABSOLUTE: Final = 2

_HALF: Final = (1 << 32) - 1
_WORD: Final = (1 << 64) - 1

OPENED, START, LAST_ACTIVITY, IDLE_SET, ABSOLUTE_SET, PLANNED, CONTROLS, APPLIED, COUNTS, MORE_COUNTS = range(10)
EPOCH_COLUMN: Final = 10
STATE_COLUMN: Final = 11
LIKENESS: Final = 12
TIMER: Final = 13
DIRTY_COLUMN: Final = 14
TOUCHED_COLUMN: Final = 15
_TYPECODES: Final = "qqqqqqqqQQiBqqBB"
COUNTED_IN: Final = MappingProxyType(
    {
        ActivityKind.HUMAN: (COUNTS, 1), ActivityKind.AGENT: (COUNTS, 1 << 32),
        ActivityKind.INFLIGHT: (MORE_COUNTS, 1), ActivityKind.KEEPALIVE: (MORE_COUNTS, 1 << 32),
    }
)  # fmt: skip
"""Where events of a kind are counted, and what one of them adds."""

Columns: TypeAlias = "tuple[array[int], ...]"
"""The numbers of many sessions: one array for each kind of number, one place in each for each session."""


class Rows:
    """Where the numbers of a partition's sessions stand: 103 bytes a session, where objects would take 600.

    A row is taken when a session begins and given back when it is forgotten; O(1) both.
    """

    __slots__ = ("_free", "columns")

    def __init__(self) -> None:
        """Empty."""
        self.columns: Columns = tuple(array(code) for code in _TYPECODES)
        self._free: list[int] = []

    def take(self) -> int:
        """A row for one more session; what stands in it is of no meaning."""
        if self._free:
            return self._free.pop()
        for column in self.columns:
            column.append(0)
        return len(self.columns[0]) - 1

    def extend(self, rows: Sequence[tuple[int, ...]]) -> int:
        """Rows for many more sessions, each with its numbers up to STATE_COLUMN, in the order of the columns.

        The rest is 0. Returns the number of the first row. Raises OverflowError, and has taken nothing then.
        """
        first = len(self.columns[0])
        taken = [array(code, numbers) for code, numbers in zip(_TYPECODES, zip(*rows, strict=True), strict=False)]
        for column, numbers in zip(self.columns, taken, strict=False):
            column.extend(numbers)
        for column in self.columns[len(taken) :]:
            column.frombytes(bytes(len(rows) * column.itemsize))
        return first

    def give_back(self, session: "Session") -> None:
        """The session leaves: whoever still holds it sees its numbers as they were."""
        row, session.row = session.row, 0
        alone = tuple(column[row : row + 1] for column in self.columns)
        session.common = msgspec.structs.replace(session.common, columns=alone)
        self.columns[STATE_COLUMN][row] = State.FORGOTTEN
        self._free.append(row)

    def census(self) -> dict[State, int]:
        """How many sessions stand in each state that is held; a million takes about a millisecond."""
        states = self.columns[STATE_COLUMN].tobytes()
        return {state: states.count(state) for state in HELD}


class Dirty(IntEnum):
    """What a checkpoint has to write of a session."""

    NOTHING = 0
    TOUCHED = 1
    """It was only touched: last activity, counts and place moved."""
    CHANGED = 2
    """Anything else: the whole of it."""


class Aside(msgspec.Struct, gc=False):
    """What most sessions never have; all of them share one empty one (`NOTHING_ASIDE`)."""

    absolute_limit: Limit | None = None
    kept_first: EventMillis = NEVER
    kept_last: EventMillis = 0
    expires: Millis = 0
    cutoff: Millis = 0
    end: End | None = None
    lifted: Reason | None = None
    idle_warned: Warned | None = None
    absolute_warned: Warned | None = None
    trial: Trial | None = None
    observed: int = 0
    late_minutes: dict[str, int] | None = None


NOTHING_ASIDE: Final = Aside()


def _number(column: int) -> Any:
    """A property that stands in a column."""

    def get(session: "Session") -> int:
        return session.common.columns[column][session.row]

    def put(session: "Session", value: int) -> None:
        session.common.columns[column][session.row] = value

    return property(get, put)


def _aside(name: str) -> Any:
    """A property that stands aside, where it is not what it is for everybody."""
    read, usual = attrgetter(name), getattr(NOTHING_ASIDE, name)

    def get(session: "Session") -> Any:
        return read(session.aside)

    def put(session: "Session", value: Any) -> None:
        if session.aside is NOTHING_ASIDE:
            if value == usual:
                return
            session.aside = Aside()
        setattr(session.aside, name, value)

    return property(get, put)


def _common(name: str) -> Any:
    """A property that stands in what many sessions have in common."""
    read = attrgetter(name)

    def get(session: "Session") -> Any:
        return read(session.common)

    def put(session: "Session", value: Any) -> None:
        common = session.common
        if read(common) is not value:
            session.common = shared(msgspec.structs.replace(common, **{name: value}))

    return property(get, put)


class Common(msgspec.Struct, frozen=True, gc=False):
    """What many sessions have in common: one object for all that are alike in all of it."""

    profile: Attributes
    plan: Plan
    source: str | None
    columns: Columns
    seen: Any = None


_MOST_COMMONS: Final = 4096
_commons: dict[tuple[int | str | None, ...], Common] = {}
_MOST_PROFILES: Final = 4096
_profiles: dict[Attributes, Attributes] = {}
_STATES: Final = tuple(State)


def profile_of(attributes: Attributes) -> Attributes:
    """The attributes without the subject, shared by all sessions that have the same."""
    profile = attributes if attributes.subject is None else msgspec.structs.replace(attributes, subject=None)
    if len(_profiles) >= _MOST_PROFILES:
        _profiles.clear()
    return _profiles.setdefault(profile, profile)


def shared(common: Common) -> Common:
    """The one that all share who have the same in common."""
    # By identity, which holds as long as the entry does: it keeps what it names alive.
    key = (id(common.profile), id(common.plan), common.source, id(common.columns), id(common.seen))
    if len(_commons) >= _MOST_COMMONS:
        _commons.clear()
    return _commons.setdefault(key, common)


class Session(msgspec.Struct, gc=False):
    """One session. Mutable, owned by one partition; everything in it is a function of the log.

    Packed: numbers stand in the partition's columns, what is the same for many is shared, what most never have
    stands aside. Reading a number costs about 0.1 us; loops over many sessions take the columns themselves.
    """

    session_id: str
    named: bytes | None
    """The subject in UTF-8: that is shorter than text."""
    common: Common
    row: int
    aside: Aside

    @classmethod
    def begin(
        cls, rows: Rows, session_id: str, attributes: Attributes, plan: Plan, source: str | None, *,
        opened_at: EventMillis, start: Millis, last_activity: EventMillis, idle_set_at: LogMillis,
        absolute_set_at: LogMillis, planned_at: LogMillis, controls_to: int, applied_offset: int,
        state: State = State.LIVE, epoch: int = 0, counts: int = 0,
    ) -> "Session":  # fmt: skip
        """A session in a row of its own, with the absolute limit of its plan and nothing aside."""
        row, columns = rows.take(), rows.columns
        numbers = (
            opened_at, start, last_activity, idle_set_at, absolute_set_at, planned_at, controls_to, applied_offset,
            counts & _WORD, counts >> 64, epoch, state, 0, 0, 0, 0,
        )  # fmt: skip
        for column, number in zip(columns, numbers, strict=True):
            column[row] = number
        source = None if source is None else intern(source)  # many sessions have the same
        common = shared(Common(profile_of(attributes), plan, source, columns))
        subject = attributes.subject
        return cls(session_id, None if subject is None else subject.encode(), common, row, NOTHING_ASIDE)

    profile = _common("profile")
    """The attributes but for the subject."""
    plan = _common("plan")
    source = _common("source")
    columns = _common("columns")
    seen = _common("seen")
    """What the last event was like, and `likeness` what it said besides its time: the owner's notes, by which it
    knows an event that changes no attribute. Whatever may give an old event a new meaning clears them."""
    opened_at = _number(OPENED)
    start = _number(START)
    """When this epoch began: the principal authenticated, or was first seen."""
    last_activity = _number(LAST_ACTIVITY)
    """The latest counting event time."""
    idle_set_at = _number(IDLE_SET)
    """The log time at which the idle deadline last changed ..."""
    absolute_set_at = _number(ABSOLUTE_SET)
    """... and the absolute one: a deadline at or before this instant was past when it was set."""
    planned_at = _number(PLANNED)
    controls_to = _number(CONTROLS)
    applied_offset = _number(APPLIED)
    likeness = _number(LIKENESS)
    timer = _number(TIMER)
    """The key under which it is armed, or 0."""
    epoch = _number(EPOCH_COLUMN)
    dirty = _number(DIRTY_COLUMN)
    """A `Dirty`."""
    touched = _number(TOUCHED_COLUMN)
    """The generation of touch records that holds its newest durable state; 0: its own record does."""
    kept_first = _aside("kept_first")
    """Of the counting events after the idle deadline: the first ..."""
    kept_last = _aside("kept_last")
    """... and the last."""
    expires = _aside("expires")
    cutoff = _aside("cutoff")
    """The highest cut-off of all ended epochs."""
    end = _aside("end")
    lifted = _aside("lifted")
    """Why the epoch ended that this one reinstated: with the epoch's start, enough to write that command again."""
    idle_warned = _aside("idle_warned")
    absolute_warned = _aside("absolute_warned")
    trial = _aside("trial")
    """Only where a rule on trial bears on it."""
    observed = _aside("observed")
    late_minutes = _aside("late_minutes")
    """Source -> the minute of log time of its last `late_activity` record."""

    @property
    def state(self) -> State:
        """Where it stands."""
        return _STATES[self.common.columns[STATE_COLUMN][self.row]]

    def move(self, move: Move) -> None:
        """Change the state by the table. Raises IllegalTransitionError."""
        state = TRANSITIONS[self.state].get(move)
        if state is None:
            raise IllegalTransitionError(
                f"session {self.session_id!r} epoch {self.epoch} is {self.state.name} and can't {move.name}"
            )
        self.common.columns[STATE_COLUMN][self.row] = state

    @property
    def subject(self) -> str | None:
        """Who, where it is known."""
        return None if self.named is None else self.named.decode()

    @property
    def attributes(self) -> Attributes:
        """What is known of it besides its times."""
        profile = self.common.profile
        return profile if self.named is None else msgspec.structs.replace(profile, subject=self.named.decode())

    @attributes.setter
    def attributes(self, attributes: Attributes) -> None:
        self.named = None if attributes.subject is None else attributes.subject.encode()
        self.profile = profile_of(attributes)

    @property
    def absolute_limit(self) -> Limit:
        """The tightest absolute limit of this epoch: its deadline never moves later."""
        return self.aside.absolute_limit or self.common.plan.absolute

    def follow(self, plan: Plan, absolute_limit: Limit) -> None:
        """Live by this plan from now on, and by this absolute limit."""
        self.plan = plan
        kept = None if absolute_limit == plan.absolute else absolute_limit
        if self.aside is not NOTHING_ASIDE:
            self.aside.absolute_limit = kept
        elif kept is not None:
            self.aside = Aside(kept)

    @property
    def idle_deadline(self) -> Millis:
        """The instant up to which activity rescues it; at least NEVER where there is no limit."""
        return self.common.columns[LAST_ACTIVITY][self.row] + self.common.plan.idle.ms

    @property
    def absolute_deadline(self) -> Millis:
        """The instant at which it ends whatever it does; at least NEVER where there is no limit."""
        return self.common.columns[START][self.row] + self.absolute_limit.ms

    def tally(self, kind: ActivityKind) -> None:
        """Count one event of this kind."""
        column, unit = COUNTED_IN[kind]
        self.common.columns[column][self.row] += unit

    def count(self, kind: ActivityKind) -> int:
        """Events of this kind, in all epochs."""
        column, unit = COUNTED_IN[kind]
        return self.common.columns[column][self.row] // unit & _HALF

    def counted(self) -> tuple[int, int, int, int]:
        """Events by kind: human, agent, inflight, keepalive."""
        counts, more = self.common.columns[COUNTS][self.row], self.common.columns[MORE_COUNTS][self.row]
        return counts & _HALF, counts >> 32, more & _HALF, more >> 32
