"""The changelog's records: a session, the touches of many sessions, and a partition's position, as bytes and back.

MessagePack arrays, the first member a format version. A reader knows every version that was ever written
(`tests/worker/test_worker_state.py` keeps one of each); a plan is not written: it is a function of policy, attributes and the instant it was made.
"""

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from operator import attrgetter
from sys import intern
from typing import Final, TypeVar

import msgspec

from monitor.core.commands import CommandType
from monitor.core.errors import InvariantError
from monitor.core.events import Attributes, Principal
from monitor.core.instants import NEVER
from monitor.core.partition import Position
from monitor.core.plan import Limit
from monitor.core.reasons import Reason
from monitor.core.session import (
    APPLIED,
    COUNTS,
    IDLE_SET,
    LAST_ACTIVITY,
    MORE_COUNTS,
    NOTHING_ASIDE,
    TOUCHED_COLUMN,
    Aside,
    Common,
    End,
    Rows,
    Session,
    State,
    Trial,
    Warned,
    profile_of,
    shared,
)
from monitor.core.standing import ControlLog

VERSION: Final = 1
POSITION_PREFIX: Final = b"~partition/"
TOUCH_PREFIX: Final = b"~touch/"
TOUCHES: Final = 500
"""Sessions in one record of touches: with the longest ids that is half a megabyte, usually 25 KB."""
_MOVED: Final = (LAST_ACTIVITY, IDLE_SET, APPLIED, COUNTS, MORE_COUNTS)
"""The columns that a touch moves."""

_NINE: Final = b"\x99"
_NIL: Final = 0xC0
"""MessagePack: the head of an array of nine, and nothing."""

_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_encode = msgspec.msgpack.Encoder().encode


_Attributes = tuple[
    str | None, Principal | None, tuple[str, ...], str | None, str | None, str | None, str | None, str | None, str | None
]


class _Stored(msgspec.Struct, array_like=True, gc=False):
    """The members of a session's record, in the order of version 1."""

    version: int
    attributes: msgspec.Raw
    """As they were encoded: those of most sessions have been met before."""
    opened_at: int
    start: int
    last_activity: int
    absolute_limit: tuple[int, str]
    idle_set_at: int
    absolute_set_at: int
    planned_at: int
    controls_to: int
    state: State
    epoch: int
    counts: tuple[int, int, int, int]
    applied_offset: int
    kept_first: int
    kept_last: int
    source: str | None
    expires: int
    cutoff: int
    end: End | None
    idle_warned: Warned | None
    absolute_warned: Warned | None
    observed: int
    late_minutes: dict[str, int] | None
    lifted: Reason | None
    trial: Trial | None


class _StoredPosition(msgspec.Struct, array_like=True):
    version: int
    offset: int
    log_time: int
    last_append: int
    controls_to: int
    quiet_until: int
    policy_since: int
    sources: dict[str, int]
    floor: int = 0


_KEPT_ASIDE: Final = tuple(name for name in _Stored.__struct_fields__ if name in Aside.__struct_fields__ and name != "absolute_limit")
_aside_of = attrgetter("version", *_KEPT_ASIDE)
_USUAL: Final = (VERSION, *(getattr(NOTHING_ASIDE, name) for name in _KEPT_ASIDE))
_decode_session = msgspec.msgpack.Decoder(_Stored).decode
_decode_attributes = msgspec.msgpack.Decoder(_Attributes).decode
_decode_position = msgspec.msgpack.Decoder(_StoredPosition).decode


class _StoredTouches(msgspec.Struct, array_like=True):
    version: int
    ids: list[str]
    numbers: list[bytes]
    """One column each of 64-bit integers, little-endian, in the order of `_MOVED`."""


_decode_touches = msgspec.msgpack.Decoder(_StoredTouches).decode

S = TypeVar("S", _Stored, _StoredPosition, _StoredTouches)


def _read(decode: Callable[[bytes], S], value: bytes, what: str) -> S:
    try:
        stored = decode(value)
    except _UNREADABLE as error:
        raise InvariantError(f"{what} can't be read: {error}") from error
    if stored.version != VERSION:
        raise InvariantError(f"{what} is of version {stored.version}, this worker knows {VERSION}: upgrade it")
    return stored


def encode_session(session: Session) -> bytes:
    """The value of a session's changelog record; the key is its id in UTF-8. A forgotten one is written as it ended."""
    a = session.attributes
    state = session.state
    if state is State.FORGOTTEN:
        state = State.REVOKED if session.end is not None and session.end.type is CommandType.REVOKE else State.EXPIRED
    limit = session.absolute_limit
    return _encode(
        (
            VERSION,
            (a.subject, a.principal, a.roles, a.classification, a.workload, a.route, a.tenant, a.client_ip, a.user_agent),
            session.opened_at, session.start, session.last_activity, (limit.ms, limit.rule), session.idle_set_at,
            session.absolute_set_at, session.planned_at, session.controls_to, state, session.epoch,
            session.counted(), session.applied_offset, session.kept_first, session.kept_last, session.source,
            session.expires, session.cutoff, session.end, session.idle_warned, session.absolute_warned,
            session.observed, session.late_minutes, session.lifted,
            session.trial,
        )
    )  # fmt: skip


class ControlsNotReadError(Exception):
    """A session was written under controls that have not been read here yet."""

    def __init__(self, controls_to: int) -> None:
        """`controls_to` is how far must be read first."""
        super().__init__(f"controls up to {controls_to} are needed")
        self.controls_to = controls_to


def applied_offset_of(value: bytes) -> int:
    """How far a session's record has got. Raises InvariantError where it can't be read."""
    return _read(_decode_session, value, "a session's changelog record").applied_offset


class Restorer:
    """Turns changelog records back into sessions, for a partition that stands at `position`.

    Between `position` and a session's own `applied_offset` the session is ahead of its partition; its
    plan is made with the policy that ruled *it*.
    """

    def __init__(self, position: Position, controls: ControlLog, rows: Rows) -> None:
        """`controls` must have been read as far as the position; a session further on raises ControlsNotReadError.

        `rows` are the partition's.
        """
        self._rows = rows
        self._read_to = controls.read_to
        self._position = position
        self._policy_at = controls.ruling_at
        self._limits: dict[tuple[int, str], Limit] = {}
        self._known: dict[tuple[bytes | None, str | None, int], Common] = {}
        """What sessions have in common, by their encoded attributes, source and the period of their plan."""

    def many(self, records: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, Session]]:
        """The sessions of these records with their ids, in any order. Raises as `session` does.

        A session with nothing aside, as most are, is made in a third of the time, with the same result.
        """
        position, rows, policy = self._position, self._rows, self._policy_at(self._position.controls_to)
        since, timeless = position.policy_since, not policy.period(NEVER)
        others: list[tuple[bytes, bytes]] = []
        plain: list[tuple[bytes, bytes | None, Common]] = []
        numbers: list[tuple[int, ...]] = []
        for key, value in records:
            try:
                stored = _decode_session(value)
            except _UNREADABLE:
                others.append((key, value))  # whose error says which session it is
                continue
            named, rest = _split(bytes(stored.attributes))
            planned_at = stored.planned_at if stored.planned_at > since else since  # noqa: FURB136
            alike = (rest, stored.source, 0 if timeless else policy.period(planned_at))
            common = self._known.get(alike)
            if rest is None or _aside_of(stored) != _USUAL or stored.controls_to > position.controls_to:
                others.append((key, value))
                continue
            if common is None:
                if policy.personal:
                    others.append((key, value))
                    continue
                try:
                    attributes = Attributes(*_decode_attributes(stored.attributes))
                except _UNREADABLE:
                    others.append((key, value))
                    continue
                source = None if stored.source is None else intern(stored.source)
                plan = policy.plan(attributes, planned_at)
                common = self._known[alike] = shared(Common(profile_of(attributes), plan, source, rows.columns))
            limit = common.plan.absolute
            if stored.absolute_limit != (limit.ms, limit.rule):
                others.append((key, value))
                continue
            human, agent, inflight, keepalive = stored.counts
            numbers.append((
                stored.opened_at, stored.start, stored.last_activity, stored.idle_set_at, stored.absolute_set_at, planned_at,
                position.controls_to, stored.applied_offset, human | agent << 32, inflight | keepalive << 32, stored.epoch,
                stored.state,
            ))  # fmt: skip
            plain.append((key, named, common))
        if plain:
            try:
                first = rows.extend(numbers)
            except OverflowError as error:
                raise InvariantError(f"a session's changelog record can't be read: {error}") from error
            for row, (key, named, common) in enumerate(plain, first):
                session_id = key.decode()
                yield session_id, Session(session_id, named, common, row, NOTHING_ASIDE)
        for key, value in others:
            session_id = key.decode()
            yield session_id, self.session(session_id, value)

    def session(self, session_id: str, value: bytes) -> Session:
        """One session. Raises InvariantError where the bytes are not of a version known here."""
        what = f"the changelog record of session {session_id!r}"
        stored = _read(_decode_session, value, what)
        position = self._position
        if stored.controls_to > self._read_to:
            raise ControlsNotReadError(stored.controls_to)
        controls_to, planned_at = stored.controls_to, stored.planned_at
        if controls_to <= position.controls_to:
            # Every sweep up to the position is over, whether or not it changed (and so wrote) this session.
            controls_to, planned_at = position.controls_to, max(planned_at, position.policy_since)
        try:
            attributes = Attributes(*_decode_attributes(stored.attributes))
        except _UNREADABLE as error:
            raise InvariantError(f"{what} can't be read: {error}") from error
        counts = stored.counts
        try:
            session = Session.begin(
                self._rows, session_id, attributes, self._policy_at(controls_to).plan(attributes, planned_at), stored.source,
                opened_at=stored.opened_at, start=stored.start, last_activity=stored.last_activity,
                idle_set_at=stored.idle_set_at, absolute_set_at=stored.absolute_set_at, planned_at=planned_at,
                controls_to=controls_to, applied_offset=stored.applied_offset, state=stored.state, epoch=stored.epoch,
                counts=counts[0] | counts[1] << 32 | counts[2] << 64 | counts[3] << 96,
            )  # fmt: skip
        except OverflowError as error:
            raise InvariantError(f"{what} can't be read: {error}") from error
        limit = session.plan.absolute
        if stored.absolute_limit != (limit.ms, limit.rule):
            session.follow(session.plan, self._limits.setdefault(stored.absolute_limit, Limit(*stored.absolute_limit)))
        aside = Aside(
            session.aside.absolute_limit, stored.kept_first, stored.kept_last, stored.expires, stored.cutoff, stored.end,
            stored.lifted, stored.idle_warned, stored.absolute_warned, stored.trial, stored.observed, stored.late_minutes,
        )  # fmt: skip
        if aside != NOTHING_ASIDE:
            session.aside = aside
        return session


def _split(attributes: bytes) -> tuple[bytes | None, bytes | None]:
    """The subject, and the encoded rest, of encoded attributes; no rest where the subject has to be looked at."""
    if attributes[:1] != _NINE:
        return None, None
    kind = attributes[1]
    if kind == _NIL:
        return None, attributes[2:]
    if 0xA0 <= kind <= 0xBF:
        begin, end = 2, kind - 0xA0 + 2
    elif kind == 0xD9:
        begin, end = 3, attributes[2] + 3
    else:
        return None, None
    subject = attributes[begin:end]
    return (subject, attributes[end:]) if subject.isascii() else (None, None)


def encode_touches(sessions: Sequence[Session]) -> bytes:
    """What moved of sessions that were only touched, in one record: they must be of one partition."""
    columns, rows = sessions[0].columns, [session.row for session in sessions]
    numbers = []
    for place in _MOVED:
        column = columns[place]
        moved = array(column.typecode, [*map(column.__getitem__, rows)])
        if sys.byteorder == "big":
            moved.byteswap()
        numbers.append(moved.tobytes())
    return _encode((VERSION, [session.session_id for session in sessions], numbers))


def apply_touches(value: bytes, sessions: Mapping[str, Session], generation: int) -> int:
    """Move each session to where a record of touches has it, where that is further; how many were moved.

    They must be of one partition. A touch stands on the session's own record: whatever else changed was written whole, with a later offset.
    """
    stored = _read(_decode_touches, value, "a record of touches")
    columns = []
    for place, packed in zip(_MOVED, stored.numbers, strict=False):
        column = array("Q" if place in {COUNTS, MORE_COUNTS} else "q")
        column.frombytes(packed[: len(packed) // 8 * 8])
        if sys.byteorder == "big":
            column.byteswap()
        columns.append(column)
    if {len(column) for column in columns} != {len(stored.ids)} or len(columns) != len(_MOVED):
        raise InvariantError("a record of touches can't be read: it has not one number of each kind for each session")
    found = [*map(sessions.get, stored.ids)]
    held = next((session.common.columns for session in found if session is not None), None)
    if held is None:
        return 0
    rows = [-1 if session is None else session.row for session in found]
    before, applied = held[APPLIED], columns[_MOVED.index(APPLIED)]
    newer = [row >= 0 and before[row] < offset for row, offset in zip(rows, applied, strict=True)]
    rows = [*compress(rows, newer)]
    for place, numbers in zip(_MOVED, columns, strict=True):
        column = held[place]
        for row, number in zip(rows, compress(numbers, newer), strict=True):
            column[row] = number
    column = held[TOUCHED_COLUMN]
    for row in rows:
        column[row] = generation
    return len(rows)


def position_key(offset: int) -> bytes:
    """The changelog key of the partition's own record for a committed offset."""
    return POSITION_PREFIX + str(offset).encode()


def encode_position(position: Position) -> bytes:
    """The value of the partition's own record."""
    return _encode(
        (
            VERSION, position.offset, position.log_time, position.last_append, position.controls_to,
            position.quiet_until, position.policy_since, position.sources, position.floor,
        )
    )  # fmt: skip


def decode_position(value: bytes) -> Position:
    """The partition's own record. Raises InvariantError where it can't be read."""
    stored = _read(_decode_position, value, "a partition record of the changelog")
    return Position(
        stored.offset, stored.log_time, stored.last_append, stored.controls_to, stored.quiet_until,
        stored.policy_since, stored.sources, stored.floor,
    )  # fmt: skip
