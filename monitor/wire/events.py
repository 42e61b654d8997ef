"""Access events: bytes -> what the source said -> what the decisions see.

Two steps, because they cost differently. `decode_access_event` runs for every record of the stream and only
checks shape and lengths; `to_event` gives the words their meaning. What can't be understood raises
BadRecord with its reason, and nothing else is ever raised, whatever the bytes: a bad record must not stop a partition.
"""

from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec

from monitor.core.events import (
    ACTIVITY_KINDS,
    ActivityKind,
    Event,
    EventType,
    Principal,
    SourceAlive,
    Tick,
)
from monitor.core.instants import LogMillis
from monitor.wire import cloudevents
from monitor.wire.bad_record import BadRecord, BadTime, DeadLetterReason
from monitor.wire.codec import Record, check_bounds
from monitor.wire.diagnosis import diagnose
from monitor.wire.times import format_time, parse_auth_time, parse_expires, parse_time

__all__ = [
    "MAX_RECORD_BYTES", "TICK", "TICK_KEY", "AccessEvent", "BadRecord", "BadTime", "activity_kind", "decode_access_event",
    "decode_record", "encode_access_event", "encode_source_alive", "encode_tick", "read_access_event", "to_event", "understand", "with_time",
]  # fmt: skip

MAX_RECORD_BYTES: Final = 64 * 1024
MAX_SESSION_ID: Final = 256
MAX_TEXT: Final = 1024
MAX_ROLES: Final = 64

TICK: Final = "monitor.tick"
TICK_KEY: Final = b"~tick"
ALIVE: Final = "source.alive"
RESERVED: Final = "monitor."

V = TypeVar("V")
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Seconds: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] | int | float


class AccessEvent(msgspec.Struct, gc=False, omit_defaults=True):
    """What one record of access-events says, as it says it (DESIGN section 4.1). Absent and null are `None`."""

    type: Text = ""
    session_id: Annotated[str, msgspec.Meta(max_length=MAX_SESSION_ID)] = ""
    time: Text | None = None
    id: Text | None = None
    source: Text | None = None
    subject: Text | None = None
    principal: Text | None = None
    roles: Annotated[tuple[Text, ...], msgspec.Meta(max_length=MAX_ROLES)] | None = None
    classification: Text | None = None
    workload: Text | None = None
    route: Text | None = None
    activity: Text | None = None
    tenant: Text | None = None
    client_ip: Text | None = None
    user_agent: Text | None = None
    auth_time: Seconds | None = None
    acr: Text | None = None
    expires: Seconds | None = None
    final: bool | None = None
    """Of `source.alive` only."""
    owner: Text | None = None
    """Of `monitor.tick` only, as is the next."""
    controls_to: Annotated[int, msgspec.Meta(ge=-1, le=(1 << 63) - 1)] | None = None
    specversion: Text | None = None
    """A body that has it is a structured CloudEvent; `None` in what decoding returns."""


class _Structured(msgspec.Struct):
    """A structured CloudEvent (JSON event format sections 2 and 3)."""

    specversion: Text | None = None
    id: Text | None = None
    source: Text | None = None
    type: Text | None = None
    time: Text | None = None
    subject: Text | None = None
    partitionkey: Text | None = None
    datacontenttype: Text | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    data_base64: str | None = None


_decode_body = msgspec.json.Decoder(AccessEvent).decode
_decode_structured = msgspec.json.Decoder(_Structured).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def decode_access_event(value: bytes | None) -> AccessEvent:
    """What a record without headers says: bare JSON, or a structured CloudEvent. Raises BadRecord.

    0.6 us for a bare event of 250 bytes. The session id is not checked beyond its length: an id that is
    empty or begins with `~` names no session that is known, and `to_event` refuses it.
    """
    checked = check_bounds(value, MAX_RECORD_BYTES)
    try:
        event = _decode_body(checked)
    except _UNREADABLE:
        return _decode_other(checked, {})
    if event.specversion is not None:
        return _decode_other(checked, {})
    return event


def read_access_event(value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> AccessEvent:
    """What any record says: CloudEvents in either mode (its headers win over the body), or bare JSON. Raises BadRecord."""
    if not headers:
        return decode_access_event(value)
    said = cloudevents.read_headers(headers)
    if said.structured:
        cloudevents.check_format(said.content_type)
        return _decode_other(check_bounds(value, MAX_RECORD_BYTES), said.attributes, known=True)
    if said.binary:
        cloudevents.check_data(said.content_type)
        # A CloudEvent without data has no value at all: not a tombstone, its attributes say everything.
        body = check_bounds(value, MAX_RECORD_BYTES) if value else b""
        return _merged(said.attributes, body)
    return decode_access_event(value)


def _decode_other(value: bytes, headers: dict[str, str], *, known: bool = False) -> AccessEvent:
    """A structured CloudEvent, or (where it isn't `known` to be one) bad JSON."""
    try:
        event = _decode_structured(value)
    except _UNREADABLE:
        raise diagnose(value, _Structured if known or _has_specversion(value) else AccessEvent) from None
    if event.specversion is None and not known:
        raise diagnose(value, AccessEvent)
    cloudevents.check_data(event.datacontenttype)
    said = {name: text for name in _ATTRIBUTES if (text := getattr(event, name)) is not None}
    return _merged(said | headers, _data(event))


_ATTRIBUTES: Final = ("specversion", "id", "source", "type", "time", "subject", "partitionkey")


def _has_specversion(value: bytes) -> bool:
    try:
        return _decode_members(value).get("specversion", b"null") != b"null"
    except _UNREADABLE:
        return False


def _data(event: _Structured) -> bytes:
    if event.data_base64 is None:
        data = bytes(event.data)
        return b"" if data == b"null" else data
    try:
        return b64decode(event.data_base64, validate=True)
    except ValueError:
        raise BadRecord(DeadLetterReason.BAD_VALUE, "data_base64 is not Base64") from None


def _merged(attributes: dict[str, str], body: bytes) -> AccessEvent:
    """A CloudEvent as one access event: its attributes over its data."""
    cloudevents.check_attributes(attributes)
    for name in _ATTRIBUTES:
        if len(attributes.get(name, "")) > MAX_TEXT:
            raise BadRecord(DeadLetterReason.TOO_LONG, f"{name} is longer than {MAX_TEXT} characters")
    event = AccessEvent()
    if body:
        try:
            event = _decode_body(body)
        except _UNREADABLE:
            raise diagnose(body, AccessEvent) from None
    event.specversion = None
    event.type, event.id, event.source = attributes["type"], attributes["id"], attributes["source"]
    event.time = attributes.get("time") or event.time
    event.session_id = event.session_id or attributes.get("subject") or attributes.get("partitionkey") or ""
    return event


def activity_kind(word: str | None, principal: Principal | None) -> ActivityKind:
    """What kind of evidence an event is; any word we don't know is a keep-alive, and extends nothing.

    Without a word the principal decides: the one the event names, else the one its session is known by,
    else a user.
    """
    if word is None:
        return ActivityKind.AGENT if principal is Principal.SERVICE else ActivityKind.HUMAN
    return ACTIVITY_KINDS.get(word, ActivityKind.KEEPALIVE)


def to_event(said: AccessEvent, *, appended: LogMillis, principal_known: Principal | None = None) -> Event:
    """The event that the decisions see. Raises BadRecord.

    `principal_known` is what the session is known by so far. An empty text is as good as an absent one
    (proxies fill templates with them), but for `time` and `activity`.
    """
    type_ = _event_type(said.type)
    session_id = said.session_id
    if not session_id:
        raise BadRecord(DeadLetterReason.MISSING_FIELD, "session_id is missing or empty")
    if len(session_id) > MAX_SESSION_ID:
        raise BadRecord(DeadLetterReason.TOO_LONG, f"session_id is longer than {MAX_SESSION_ID} characters")
    if session_id[0] == "~":
        raise BadRecord(DeadLetterReason.BAD_VALUE, "session_id must not begin with '~'")
    principal = _principal(said.principal or None)
    time = appended if said.time is None else min(_at("time", parse_time, said.time), appended)
    roles = said.roles
    return Event(
        type=type_, session_id=session_id, time=time, appended=appended,
        activity=activity_kind(said.activity, principal or principal_known),
        subject=said.subject or None, principal=principal,
        roles=None if roles is None else tuple(sorted({role for role in roles if role})),
        classification=said.classification or None, workload=said.workload or None, route=said.route or None,
        tenant=said.tenant or None, client_ip=said.client_ip or None, user_agent=said.user_agent or None,
        auth_time=None if said.auth_time is None else _at("auth_time", parse_auth_time, said.auth_time),
        acr=said.acr or None,
        expires=None if said.expires is None else _at("expires", parse_expires, said.expires),
        source=said.source or None, id=said.id or None,
    )  # fmt: skip


def decode_record(
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    key: bytes | None,
    appended: LogMillis,
    *,
    principal_of: Callable[[str], Principal | None] = lambda _: None,
) -> Event | SourceAlive | Tick:
    """The whole way of any record of access-events. Raises BadRecord.

    `principal_of` tells by session id what a session is known by (see `activity_kind`). A tick counts only
    under the key of ticks: no source can write one by accident.
    """
    return understand(read_access_event(value, headers), key, appended, principal_of=principal_of)


def understand(
    said: AccessEvent,
    key: bytes | None,
    appended: LogMillis,
    *,
    principal_of: Callable[[str], Principal | None] = lambda _: None,
) -> Event | SourceAlive | Tick:
    """The second half of `decode_record`, for who wants to keep what was said. Raises BadRecord."""
    if said.type == TICK and key == TICK_KEY:
        return _tick(said)
    if said.type == ALIVE:
        return _alive(said, appended)
    known = principal_of(said.session_id) if said.activity is None and said.principal is None else None
    return to_event(said, appended=appended, principal_known=known)


def _tick(said: AccessEvent) -> Tick:
    owner, controls_to = said.owner, said.controls_to
    if owner is None or controls_to is None:
        raise BadRecord(DeadLetterReason.MISSING_FIELD, "a tick needs owner and controls_to")
    return Tick(owner, controls_to)


def _alive(said: AccessEvent, appended: LogMillis) -> SourceAlive:
    if not said.source:
        raise BadRecord(DeadLetterReason.MISSING_FIELD, "source is missing or empty")
    if said.time is None:
        raise BadRecord(DeadLetterReason.MISSING_FIELD, "time is missing")
    return SourceAlive(said.source, min(_at("time", parse_time, said.time), appended), bool(said.final))


def _event_type(word: str) -> EventType:
    try:
        return EventType(word)
    except ValueError:
        pass
    if not word:
        raise BadRecord(DeadLetterReason.MISSING_FIELD, "type is missing or empty")
    if word.startswith(RESERVED):
        raise BadRecord(DeadLetterReason.RESERVED_TYPE, "types that begin with 'monitor.' are the monitor's own")
    raise BadRecord(DeadLetterReason.UNKNOWN_TYPE, f"type must be one of {', '.join(EventType)}, {ALIVE}")


def _principal(word: str | None) -> Principal | None:
    if word is None:
        return None
    try:
        return Principal(word)
    except ValueError:
        raise BadRecord(DeadLetterReason.BAD_VALUE, f"principal must be one of {', '.join(Principal)}") from None


def _at(name: str, parse: Callable[[V], int], value: V) -> int:
    try:
        return parse(value)
    except BadTime as bad:
        raise BadTime(f"{name}: {bad.detail}") from None


def with_time(value: bytes, appended: LogMillis) -> bytes:
    """The body of an event that is written anew, with its original append time as `time` where it had none."""
    time = msgspec.Raw(_encode(format_time(appended)))
    if not value:
        return _encode({"time": time})
    try:
        if decode_access_event(value).time is not None:
            return value
        members = _decode_members(value)
    except (BadRecord, *_UNREADABLE):
        return value
    members["time"] = time
    return _encode(members)


def encode_access_event(event: AccessEvent) -> Record:
    """An access event as a record of bare JSON under its session id: the shape that is read fastest."""
    return Record(event.session_id.encode(), _encode(event), [])


def encode_tick(tick: Tick) -> bytes:
    """The value of a tick; its key is `TICK_KEY`. Bare: only the monitor reads it."""
    return _encode({"type": TICK, "owner": tick.owner, "controls_to": tick.controls_to})


def encode_source_alive(alive: SourceAlive) -> bytes:
    """The value of a `source.alive`; it goes to every partition, under any key."""
    return _encode(AccessEvent(type=ALIVE, source=alive.source, time=format_time(alive.time), final=alive.final or None))
