"""Records of session-lifecycle: each change in the life of a session, with the session right after it."""

from typing import Final

import msgspec

from monitor.core.events import ActivityKind, Attributes, Principal
from monitor.core.instants import NEVER, Millis
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.core.plan import Because
from monitor.wire.cloudevents import partition_source, write_headers
from monitor.wire.codec import Record, decode, encode, reader
from monitor.wire.commands import Place
from monitor.wire.times import Instant


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
_ATTRIBUTES: Final = Attributes.__struct_fields__
_SAME: Final = ("reason", "rule", "policy", "command_id", "control_id", "observe", "implicit", "source", "event_id", "chain")


def encode_lifecycle(lifecycle: Lifecycle) -> Record:
    """The record of a change, under its subject, or its session id where the subject is not known."""
    attributes = lifecycle.attributes
    id_ = lifecycle.id
    record = LifecycleRecord(
        lifecycle.type, id_, lifecycle.session_id, lifecycle.epoch, Instant(lifecycle.at), Instant(lifecycle.log_time),
        Place(lifecycle.partition, lifecycle.offset), Instant(lifecycle.opened_at), Instant(lifecycle.started_at),
        Instant(lifecycle.last_activity), max(0, lifecycle.at - lifecycle.started_at),
        max(0, lifecycle.at - lifecycle.last_activity), Counts(*lifecycle.counts),
        limit_ms=_real(lifecycle.limit_ms),
        deadline=None if (deadline := _real(lifecycle.deadline)) is None else Instant(deadline),
        **{name: getattr(attributes, name) for name in _ATTRIBUTES},
        **{name: getattr(lifecycle, name) for name in _SAME},
    )  # fmt: skip
    key = attributes.subject or lifecycle.session_id
    headers = write_headers(lifecycle.type.value, id_, partition_source(lifecycle.partition), lifecycle.log_time)
    return Record(key.encode(), encode(record), headers)


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
