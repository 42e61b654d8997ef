"""Events to records: key, JSON value and, where wanted, CloudEvents headers in Kafka's binary mode."""

from typing import Any, Final

from monitor.core.errors import InputError
from monitor.core.instants import EventMillis
from monitor.publish.draft import Draft
from monitor.wire.cloudevents import write_headers
from monitor.wire.codec import Record
from monitor.wire.events import MAX_RECORD_BYTES, AccessEvent, encode_access_event
from monitor.wire.times import format_time

ALIVE_KEY: Final = b"~alive"
"""`source.alive` goes to every partition, so its key chooses none; `~` keeps it apart from session ids."""


def encode(draft: Draft, time: EventMillis, source: str | None, cloudevents: bool) -> Record:
    """The record of an event that happened at `time`. Raises InputError where the value is too large."""
    if draft.encoded is not None:
        return Record(draft.session_id.encode(), draft.encoded, [])
    stated: dict[str, Any] = dict(draft.stated)
    key, value, headers = encode_access_event(
        AccessEvent(
            type=draft.type,
            session_id=draft.session_id,
            time=format_time(time),
            id=draft.id,
            source=source,
            activity=draft.kind,
            final=draft.final or None,
            **stated,
        )
    )
    assert value is not None  # noqa: S101 - an event is no tombstone
    check_value(draft.type, value)
    if cloudevents and source is not None:
        headers = write_headers(draft.type, draft.id, source, time)
    return Record(key or ALIVE_KEY, value, headers)


def check_value(what: str, value: bytes) -> None:
    """Raise InputError where a record would be a dead letter for its size."""
    if len(value) > MAX_RECORD_BYTES:
        raise InputError(
            f"{what}: the record has {len(value)} bytes, {MAX_RECORD_BYTES} are allowed; give fewer or shorter roles"
        )


def check_size(draft: Draft, source: str | None) -> None:
    """Raise InputError where `encode` would find the record too large, so that it is the caller who learns it."""
    length = sum(len(str(value)) for value in draft.stated.values()) + len(draft.id) + len(source or "")
    if length > MAX_RECORD_BYTES // 8:  # six bytes a character is the most that JSON takes
        encode(draft, draft.time or 0, source, cloudevents=False)
