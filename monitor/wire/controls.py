"""Records of session-control: what people order, by whom and why."""

from typing import Final

import msgspec

from monitor.core.controls import Control, ControlType, Target
from monitor.core.errors import InputError
from monitor.core.instants import NEVER, LogMillis, Millis
from monitor.wire.bad_record import BadRecord, DeadLetterReason
from monitor.wire.cloudevents import write_headers
from monitor.wire.codec import Record, decode, encode, reader
from monitor.wire.events import MAX_RECORD_BYTES, MAX_TEXT, Text
from monitor.wire.times import Instant, TokenInstant

POLICY_KEY: Final = b"policy"
SOURCE: Final = "/session-monitor/control"

_TARGETED: Final = frozenset({ControlType.REVOKE, ControlType.LOCK})


class ControlRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A control as it stands on the topic."""

    type: ControlType
    id: Text
    """An unlock carries the id of its lock, and so takes its place on the topic."""
    reason: Text
    by: Text
    target: Target = Target()
    time: Instant | None = None
    """When it was given, by the clock of who gave it: for people; decisions go by its append time."""
    before: Instant | None = None
    expires: TokenInstant | None = None
    policy_text: str = ""
    """Of `control.policy` only."""
    policy_version: str = ""


_reader: Final = reader(ControlRecord)


def encode_control(control: Control, time: Millis) -> Record:
    """The record of a control, given at `time`. Raises InputError for one that would be refused when read."""
    record = ControlRecord(
        control.type, control.id, control.reason, control.by, control.target, Instant(time),
        None if control.before is None else Instant(control.before),
        None if control.expires >= NEVER else TokenInstant(control.expires),
        control.policy_text, control.policy_version,
    )  # fmt: skip
    _check(record)
    value = encode(record)
    if len(value) > MAX_RECORD_BYTES:
        raise InputError(f"{control.type.value} has {len(value)} bytes; at most {MAX_RECORD_BYTES} are allowed: shorten it")
    policy = control.type is ControlType.POLICY
    key = POLICY_KEY if policy else control.id.encode()
    return Record(key, value, write_headers(control.type.value, f"{control.id}/{time}", SOURCE, time))


def decode_control(value: bytes | None, *, offset: int, appended: LogMillis) -> Control:
    """The control in these bytes, with its place and append time. Raises BadRecord.

    A target with an unknown member is refused: to pass over it would meet more than was meant.
    """
    record = decode(_reader, value)
    _check(record)
    return Control(
        offset, appended, record.type, record.id, record.target, record.reason, record.by,
        None if record.before is None else int(record.before),
        NEVER if record.expires is None else int(record.expires),
        record.policy_text, record.policy_version,
    )  # fmt: skip


def _check(record: ControlRecord) -> None:
    for name in ("id", "by", "reason"):
        text: str = getattr(record, name)
        if not text.strip():
            raise BadRecord(DeadLetterReason.MISSING_FIELD, f"{name} is empty: a control says who ordered it, and why")
        if len(text) > MAX_TEXT:
            raise BadRecord(DeadLetterReason.TOO_LONG, f"{name} is longer than {MAX_TEXT} characters")
    if record.id.startswith("~"):
        raise BadRecord(DeadLetterReason.BAD_VALUE, "id must not begin with '~'")
    target = record.target
    if record.type in _TARGETED and not target.names_anyone():
        raise BadRecord(DeadLetterReason.BAD_VALUE, 'target names nobody; give a member, or {"all": true}')
    if any(getattr(target, name) == "" for name in target.__struct_fields__):
        raise BadRecord(DeadLetterReason.BAD_VALUE, "a member of target is empty: it would match nothing")
    if record.type is ControlType.POLICY and not (record.policy_text and record.policy_version):
        raise BadRecord(DeadLetterReason.MISSING_FIELD, "control.policy needs policy_text and policy_version")
