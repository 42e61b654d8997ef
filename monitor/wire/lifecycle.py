"""Records of session-lifecycle: each change in the life of a session, with the session right after it."""

from typing import Final

import msgspec

from monitor.core.events import ActivityKind, Attributes, Principal
from monitor.core.instants import NEVER, Millis
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.core.plan import Because
from monitor.wire.cloudevents import partition_source, write_headers
from monitor.wire.codec import Record, decode, reader
from monitor.wire.commands import Place
from monitor.wire.times import Instant, format_time


class Counts(msgspec.Struct, frozen=True):
    """Events of the session by kind, in all its epochs."""

    human: int = 0
    agent: int = 0
    inflight: int = 0
    keepalive: int = 0


class LifecycleRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A lifecycle record as it stands on the topic: flat, named as in access events."""

    type: LifecycleType
    id: str
    session_id: str
    epoch: int
    at: Instant
    """The instant the change speaks of."""
    log_time: Instant
    src: Place
    opened_at: Instant
    started_at: Instant
    """When the epoch began."""
    last_activity: Instant
    age_ms: int
    """How old the epoch was at `at` ..."""
    idle_ms: int
    """... and how long it had been without activity."""
    counts: Counts
    subject: str | None = None
    principal: Principal | None = None
    roles: tuple[str, ...] = ()
    classification: str | None = None
    workload: str | None = None
    route: str | None = None
    tenant: str | None = None
    client_ip: str | None = None
    user_agent: str | None = None
    reason: str | None = None
    rule: str | None = None
    limit_ms: int | None = None
    policy: str | None = None
    command_id: str | None = None
    control_id: str | None = None
    observe: bool = False
    """A rule on trial would have done this; nothing was commanded."""
    implicit: bool = False
    """Opened by another event than `session.opened`."""
    source: str | None = None
    event_id: str | None = None
    deadline: Instant | None = None
    chain: tuple[Because, ...] = ()


_reader: Final = reader(LifecycleRecord)
_encode: Final = msgspec.json.Encoder().encode
"""Not orjson's, whose answers hold several kilobytes each until they are gone: thousands of these wait to be acknowledged."""
_ATTRIBUTES: Final = Attributes.__struct_fields__
_SAME: Final = ("reason", "rule", "policy", "command_id", "control_id", "observe", "implicit", "source", "event_id", "chain")
_KINDS: Final = tuple(kind.name.lower() for kind in ActivityKind)


def encode_lifecycle(lifecycle: Lifecycle) -> Record:
    """The record of a change, under its subject, or its session id where the subject is not known.

    Written member by member, not through `LifecycleRecord`: every session that opens pays for it.
    """
    attributes = lifecycle.attributes
    subject, at, id_ = attributes.subject, lifecycle.at, lifecycle.id
    said: dict[str, object] = {
        "type": lifecycle.type, "id": id_, "session_id": lifecycle.session_id, "epoch": lifecycle.epoch,
        "at": format_time(at), "log_time": format_time(lifecycle.log_time),
        "src": {"partition": lifecycle.partition, "offset": lifecycle.offset},
        "opened_at": format_time(lifecycle.opened_at), "started_at": format_time(lifecycle.started_at),
        "last_activity": format_time(lifecycle.last_activity), "age_ms": max(0, at - lifecycle.started_at),
        "idle_ms": max(0, at - lifecycle.last_activity),
        "counts": dict(zip(_KINDS, lifecycle.counts, strict=True)),
    }  # fmt: skip
    for name in _ATTRIBUTES:
        value = getattr(attributes, name)
        if value is not None and value != ():
            said[name] = value
    for name in _SAME:
        value = getattr(lifecycle, name)
        if value is not None and value is not False and value != ():
            said[name] = value if name != "chain" else msgspec.to_builtins(value)
    if (limit := _real(lifecycle.limit_ms)) is not None:
        said["limit_ms"] = limit
    if (deadline := _real(lifecycle.deadline)) is not None:
        said["deadline"] = format_time(deadline)
    headers = write_headers(lifecycle.type.value, id_, partition_source(lifecycle.partition), lifecycle.log_time)
    return Record((subject or lifecycle.session_id).encode(), _encode(said), headers)


def decode_lifecycle(value: bytes | None) -> Lifecycle:
    """The change in these bytes. Raises BadRecord."""
    record = decode(_reader, value)
    counts = record.counts
    return Lifecycle(
        record.type, record.session_id, record.epoch, int(record.at), int(record.log_time), record.src.partition,
        record.src.offset, Attributes(**{name: getattr(record, name) for name in _ATTRIBUTES}), int(record.started_at),
        int(record.opened_at), int(record.last_activity), tuple(getattr(counts, k.name.lower()) for k in ActivityKind),
        limit_ms=record.limit_ms, deadline=None if record.deadline is None else int(record.deadline),
        **{name: getattr(record, name) for name in _SAME},
    )  # fmt: skip


def _real(millis: Millis | None) -> Millis | None:
    return None if millis is None or millis >= NEVER else millis
