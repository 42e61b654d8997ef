"""Every record but the access event: written and read back, and what is no such record."""

from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.commands import Command, CommandType, Reauth
from monitor.core.controls import Control, ControlType, Target
from monitor.core.errors import InputError
from monitor.core.events import Attributes, Principal
from monitor.core.instants import HOUR, NEVER
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.core.plan import Because, LimitKind
from monitor.core.reasons import Reason
from monitor.wire.alerts import decode_alert, encode_alert
from monitor.wire.bad_record import BadRecord, DeadLetterReason
from monitor.wire.commands import (
    CommandForm,
    KeyKind,
    decode_command,
    decode_watermark,
    encode_command,
    encode_watermark,
    read_key,
    warning_key,
    watermark_key,
)
from monitor.wire.controls import decode_control, encode_control
from monitor.wire.dead_letters import (
    DeadLetter,
    Digest,
    decode_dead_letter,
    encode_dead_letter,
    encode_refused_dead_letter,
)
from monitor.wire.examples import ALERT, APPLIED, CONTROLS, EXPIRE, LIFECYCLES, NOON, REFUSED, STOPPED
from monitor.wire.lifecycle import decode_lifecycle, encode_lifecycle
from monitor.wire.receipts import decode_receipt, encode_receipt
from monitor.wire.times import LATEST

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
MILLIS = st.integers(0, LATEST)
MAYBE = st.none() | TEXT
PLACE = st.integers(0, 1 << 40)


def said(value: bytes | None) -> dict[str, Any]:
    assert value is not None
    read: dict[str, Any] = orjson.loads(value)
    return read


# --- commands ----------------------------------------------------------------------------------------

COMMANDS = st.builds(
    Command, type=st.sampled_from(CommandType), session_id=NAME.filter(lambda text: text[0] != "~"), epoch=PLACE,
    reason=st.sampled_from(Reason), effective_at=MILLIS, cutoff=MILLIS, limit_ms=st.none() | PLACE, rule=MAYBE, policy=TEXT,
    subject=MAYBE, classification=MAYBE,
    reauth=st.builds(Reauth, st.booleans(), st.none() | PLACE, st.lists(NAME, max_size=3).map(tuple)),
    forget_after=MILLIS, partition=PLACE, offset=st.integers(-1, 1 << 40), log_time=MILLIS, due=MILLIS, control_id=TEXT,
    message=TEXT, lead_ms=st.none() | PLACE,
)  # fmt: skip


@given(COMMANDS, MILLIS)
def test_a_command_is_read_back(command: Command, issued_at: int) -> None:
    key, value, headers = encode_command(command, issued_at)
    record = decode_command(value)
    assert record.to_command() == command
    assert (record.id, record.issued_at) == (command.id, issued_at)
    kind = KeyKind.WARNING if command.type is CommandType.WARN else KeyKind.SESSION
    assert read_key(key) == (kind, command.session_id)
    assert dict(headers)["ce_id"] == command.id.encode()


@given(COMMANDS, COMMANDS, MILLIS)
def test_a_form_filled_in_for_another_session_is_its_command(command: Command, other: Command, issued_at: int) -> None:
    whose = {"session_id": other.session_id, "epoch": other.epoch, "subject": other.subject}
    form = CommandForm(command, issued_at)
    form.fill(command.session_id, command.epoch, command.subject)
    assert form.fill(**whose) == encode_command(msgspec.structs.replace(command, **whose), issued_at)


def test_a_command_looks_as_in_the_design() -> None:
    value = encode_command(EXPIRE, EXPIRE.log_time + 64).value
    assert said(value) == {
        "type": "session.expire", "id": EXPIRE.id, "session_id": "s-81f2", "epoch": 0, "reason": "idle_timeout",
        "effective_at": "2026-11-23T07:24:00.123Z", "cutoff": "2026-11-23T07:24:00.123Z", "limit_ms": 900000,
        "rule": "restricted-data", "policy": "9b1f04c2", "subject": "alice@example.com", "classification": "restricted",
        "reauth": {"allowed": True, "max_age": 900, "acr_values": ["aal2"]},
        "message": "Session Expired: Please Reauthenticate", "forget_after": "2026-11-24T07:24:00.123Z",
        "src": {"partition": 3, "offset": 1841}, "issued_at": "2026-11-23T07:24:02.187Z",
        "log_time": "2026-11-23T07:24:02.123Z", "due": "2026-11-23T07:24:02.123Z",
    }  # fmt: skip


def test_a_limit_of_none_is_not_written() -> None:
    command = msgspec.structs.replace(EXPIRE, limit_ms=NEVER)
    assert "limit_ms" not in said(encode_command(command, NOON).value)


@pytest.mark.parametrize(
    "more", [{}, {"epoch": 3, "reason": "by_dice"}, {"reauth": "yes", "effective_at": 7, "id": None, "src": []}]
)
def test_a_command_of_an_unknown_type_says_whom_it_speaks_of(more: dict[str, Any]) -> None:
    record = decode_command(orjson.dumps({"type": "session.freeze", "session_id": "s-1", **more}))
    assert (record.type, record.known_type, record.session_id) == ("session.freeze", None, "s-1")
    with pytest.raises(BadRecord, match="upgrade"):
        record.to_command()


def test_an_unknown_reason_is_readable() -> None:
    record = decode_command(orjson.dumps({**said(encode_command(EXPIRE, NOON).value), "reason": "by_dice"}))
    assert (record.reason, record.known_reason, record.known_type) == ("by_dice", None, CommandType.EXPIRE)


@pytest.mark.parametrize("name", ["id", "epoch", "reason", "effective_at", "cutoff", "type", "session_id"])
def test_a_known_command_without_its_parts_is_bad(name: str) -> None:
    value = said(encode_command(EXPIRE, NOON).value)
    del value[name]
    with pytest.raises(BadRecord) as refused:
        decode_command(orjson.dumps(value))
    assert refused.value.reason is DeadLetterReason.MISSING_FIELD


def test_keys() -> None:
    assert read_key(warning_key("s-1")) == (KeyKind.WARNING, "s-1")
    assert read_key(watermark_key(3)) == (KeyKind.WATERMARK, "3")
    assert read_key(b"~novel/1") == (KeyKind.OTHER, "~novel/1")
    assert read_key(None) == read_key(b"") == (KeyKind.OTHER, "")
    with pytest.raises(BadRecord):
        read_key(b"\xff")


# --- watermarks --------------------------------------------------------------------------------------


@given(PLACE, MILLIS, MILLIS, st.integers(-1, 1 << 40), MILLIS, MAYBE, MAYBE)
def test_a_watermark_is_read_back(
    partition: int, decided_to: int, log_time: int, controls_to: int, issued_at: int, owner: str | None, api: str | None
) -> None:
    key, value, _ = encode_watermark(partition, decided_to, log_time, controls_to, issued_at, owner=owner, api=api)
    mark = decode_watermark(value)
    assert key == b"~watermark/%d" % partition
    assert (mark.partition, mark.decided_to, mark.log_time, mark.controls_to) == (partition, decided_to, log_time, controls_to)
    assert (mark.issued_at, mark.owner, mark.api) == (issued_at, owner, api)
    assert said(value)["type"] == "monitor.watermark"


def test_before_the_first_event_nothing_is_decided() -> None:
    assert decode_watermark(encode_watermark(0, -2000, 0, -1, NOON).value).decided_to == 0


# --- controls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_is_read_back(control: Control) -> None:
    key, value, _ = encode_control(control, NOON)
    assert decode_control(value, offset=control.offset, appended=control.appended) == control
    assert key == (b"policy" if control.type is ControlType.POLICY else control.id.encode())


def test_a_lock_may_expire_at_a_number_of_seconds() -> None:
    value = b'{"type":"control.lock","id":"l","by":"b","reason":"r","target":{"all":true},"expires":1795500000}'
    assert decode_control(value, offset=0, appended=NOON).expires == 1_795_500_000_000


BAD_CONTROLS: list[tuple[dict[str, Any], DeadLetterReason]] = [
    ({"reason": ""}, DeadLetterReason.MISSING_FIELD),
    ({"reason": "  "}, DeadLetterReason.MISSING_FIELD),
    ({"by": ""}, DeadLetterReason.MISSING_FIELD),
    ({"id": ""}, DeadLetterReason.MISSING_FIELD),
    ({"id": "~tick"}, DeadLetterReason.BAD_VALUE),
    ({"reason": "r" * 1025}, DeadLetterReason.TOO_LONG),
    ({"target": {}}, DeadLetterReason.BAD_VALUE),
    ({"target": {"all": False}}, DeadLetterReason.BAD_VALUE),
    ({"target": {"subject": ""}}, DeadLetterReason.BAD_VALUE),
    ({"target": {"subjects": "alice"}}, DeadLetterReason.BAD_VALUE),
    ({"target": {"subject": "alice", "team": "red"}}, DeadLetterReason.BAD_VALUE),
    ({"target": {"t" * 2000: "alice"}}, DeadLetterReason.BAD_VALUE),
    ({"target": {"subject": 7}}, DeadLetterReason.WRONG_TYPE),
    ({"target": "alice"}, DeadLetterReason.WRONG_TYPE),
    ({"type": "control.pause"}, DeadLetterReason.UNKNOWN_TYPE),
    ({"type": "control.policy"}, DeadLetterReason.MISSING_FIELD),
    ({"before": "noon"}, DeadLetterReason.BAD_TIME),
    ({"before": 1795500000}, DeadLetterReason.BAD_TIME),
    ({"expires": True}, DeadLetterReason.BAD_TIME),
    ({"expires": -1}, DeadLetterReason.BAD_TIME),
]


@pytest.mark.parametrize(("wrong", "reason"), BAD_CONTROLS)
def test_a_control_that_is_not_plain_is_refused(wrong: dict[str, Any], reason: DeadLetterReason) -> None:
    value = {"type": "control.revoke", "id": "c", "by": "b", "reason": "r", "target": {"subject": "alice"}, **wrong}
    with pytest.raises(BadRecord) as refused:
        decode_control(orjson.dumps(value), offset=0, appended=NOON)
    assert refused.value.reason is reason, refused.value
    assert "alice" not in str(refused.value)
    assert len(refused.value.detail) < 300


@pytest.mark.parametrize("name", ["by", "reason", "id", "type"])
def test_a_control_says_who_and_why(name: str) -> None:
    value = {"type": "control.revoke", "id": "c", "by": "b", "reason": "r", "target": {"all": True}}
    del value[name]
    with pytest.raises(BadRecord) as refused:
        decode_control(orjson.dumps(value), offset=0, appended=NOON)
    assert refused.value.reason is DeadLetterReason.MISSING_FIELD


def test_what_would_be_refused_is_not_written() -> None:
    good = Control(0, NOON, ControlType.LOCK, "l", Target(all=True), "r", "b")
    encode_control(good, NOON)
    for wrong in ({"reason": " "}, {"by": ""}, {"target": Target()}, {"policy_text": "x" * 65536}):
        with pytest.raises(InputError):
            encode_control(msgspec.structs.replace(good, **wrong), NOON)


# --- receipts, lifecycle, alerts ---------------------------------------------------------------------


def test_receipts_are_read_back_and_look_as_in_the_design() -> None:
    for receipt in (APPLIED, REFUSED, STOPPED):
        key, value, _ = encode_receipt(receipt)
        assert (decode_receipt(value), key) == (receipt, b"gateway/eu-1")
    assert said(encode_receipt(APPLIED).value) == {
        "type": "gateway.applied", "gateway": "gateway/eu-1", "positions": {"0": 1841, "3": 77}, "control": 79,
        "at": "2026-11-23T07:09:00.123Z", "view_age_ms": 812,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"type":"gateway.exploded","gateway":"g"}', DeadLetterReason.UNKNOWN_TYPE),
        (b'{"gateway":"g"}', DeadLetterReason.MISSING_FIELD),
        (b'{"type":"gateway.stopped","gateway":"","at":"2026-11-23T07:09:00Z"}', DeadLetterReason.BAD_VALUE),
        (b'{"type":"gateway.applied","gateway":"g","positions":{"x":1},"control":1,"at":"2026-11-23T07:09:00Z"}', DeadLetterReason.WRONG_TYPE),
        (b"[]", DeadLetterReason.NOT_AN_OBJECT),
    ],
)
def test_bad_receipts(value: bytes, reason: DeadLetterReason) -> None:
    with pytest.raises(BadRecord) as refused:
        decode_receipt(value)
    assert refused.value.reason is reason, refused.value


LIFECYCLE = st.builds(
    Lifecycle, type=st.sampled_from(LifecycleType), session_id=NAME, epoch=PLACE, at=MILLIS, log_time=MILLIS, partition=PLACE,
    offset=st.integers(-1, 1 << 40),
    attributes=st.builds(
        Attributes, MAYBE, st.none() | st.sampled_from(Principal), st.lists(NAME, max_size=3).map(tuple), MAYBE, MAYBE, MAYBE,
        MAYBE, MAYBE, MAYBE,
    ),
    started_at=MILLIS, opened_at=MILLIS, last_activity=MILLIS, counts=st.tuples(PLACE, PLACE, PLACE, PLACE), reason=MAYBE,
    rule=MAYBE, limit_ms=st.none() | PLACE, policy=MAYBE, command_id=MAYBE, control_id=MAYBE, observe=st.booleans(),
    implicit=st.booleans(), source=MAYBE, event_id=MAYBE, deadline=st.none() | MILLIS,
    chain=st.lists(st.builds(Because, NAME, st.sampled_from(LimitKind), st.none() | PLACE, st.booleans()), max_size=2).map(tuple),
)  # fmt: skip


@given(LIFECYCLE)
def test_a_lifecycle_record_is_read_back(lifecycle: Lifecycle) -> None:
    key, value, _ = encode_lifecycle(lifecycle)
    assert decode_lifecycle(value) == lifecycle
    assert said(value)["id"] == lifecycle.id
    assert key == (lifecycle.attributes.subject or lifecycle.session_id).encode()


def test_a_lifecycle_record_says_durations_and_counts() -> None:
    record = said(encode_lifecycle(LIFECYCLES[0]).value)
    assert (record["age_ms"], record["idle_ms"]) == (24 * HOUR // 60, HOUR // 4)
    assert record["counts"] == {"human": 41, "agent": 0, "inflight": 2, "keepalive": 7}
    assert record["subject"] == "alice@example.com"


def test_an_alert_is_read_back() -> None:
    key, value, _ = encode_alert(ALERT)
    assert (decode_alert(value), key) == (ALERT, b"c1f0a7")


# --- dead letters ------------------------------------------------------------------------------------


class Arrived(msgspec.Struct):
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = []


@pytest.mark.parametrize("value", [b"\xff\x00", b"", None])
def test_a_dead_letter_is_the_record_as_it_came(value: bytes | None) -> None:
    arrived = Arrived(17, b"\xfe", value, [("ce_id", b"\xff"), ("x", b"")])
    record = encode_dead_letter(arrived, DeadLetterReason.NOT_UTF8, "not UTF-8 at byte 0", "access-events", 3)
    assert (record.key, record.value) == (b"\xfe", value)
    letter = decode_dead_letter(*record)
    assert letter == DeadLetter(
        "not_utf8", "not UTF-8 at byte 0", "access-events", 3, 17, b"\xfe", value, (("ce_id", b"\xff"), ("x", b""))
    )


def test_a_dead_letter_that_was_replayed_and_failed_again_says_why_it_failed_last() -> None:
    first = encode_dead_letter(Arrived(1, None, b"x", [("a", b"b")]), "not_json", "one", "t", 0)
    again = encode_dead_letter(Arrived(9, None, b"x", first.headers), "too_large", "two", "t", 1)
    letter = decode_dead_letter(*again)
    assert (letter.reason, letter.offset, letter.headers) == ("too_large", 9, (("a", b"b"),))
    assert len(again.headers) == len(first.headers)


def test_where_even_the_dead_letter_is_refused_its_digest_and_place_remain() -> None:
    arrived = Arrived(17, b"k" * 2000, b"x" * 100_000, [("huge", b"y" * 100_000)])
    record = encode_refused_dead_letter(arrived, "too_large", "access-events", 3)
    assert record.value is not None
    assert len(record.value) + sum(len(said) for _, said in record.headers) < 500
    letter = decode_dead_letter(*record)
    assert letter.digest == Digest("d69e68988157833272305aaf21f453c800346e8a3640db6578e260215542e5d4", 100_000)
    assert (letter.reason, letter.topic, letter.partition, letter.offset, letter.value, letter.key) == (
        "too_large", "access-events", 3, 17, None, None,
    )  # fmt: skip


@pytest.mark.parametrize("headers", [[], [("dead_letter_reason", b"x")], [("dead_letter_partition", b"\xff")]])
def test_what_is_no_dead_letter_is_said_to_be_none(headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(InputError, match="no dead letter"):
        decode_dead_letter(None, b"x", headers)


# --- any bytes ---------------------------------------------------------------------------------------

DECODERS: list[Callable[[bytes | None], object]] = [
    decode_command, decode_watermark, decode_receipt, decode_lifecycle, decode_alert,
    lambda value: decode_control(value, offset=0, appended=NOON),
]  # fmt: skip
JUNK = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
MEMBERS = st.sampled_from(
    ["type", "id", "session_id", "epoch", "reason", "effective_at", "positions", "at", "target", "by", "counts", "chain", "src"]
)
WORD = st.sampled_from(["session.expire", "gateway.applied", "control.lock", "monitor.watermark", "2026-11-23T07:09:00Z"])


@given(st.none() | st.binary(max_size=100) | st.dictionaries(MEMBERS, JUNK | WORD | st.lists(JUNK, max_size=2)).map(
    msgspec.json.encode))  # fmt: skip
def test_any_bytes_are_a_record_or_a_bad_one(value: bytes | None) -> None:
    details: list[str] = []
    for decode in DECODERS:
        try:
            decode(value)
        except BadRecord as bad:
            details.append(bad.detail)
    assert all(len(detail) < 300 for detail in details)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, DeadLetterReason.TOMBSTONE),
        (b"", DeadLetterReason.EMPTY),
        (b"[" * 200_000, DeadLetterReason.TOO_DEEP),
        (b'{"a":' * 50_000, DeadLetterReason.TOO_DEEP),
        (b"x" * 300_000, DeadLetterReason.TOO_LARGE),
        (b"{", DeadLetterReason.NOT_JSON),
        (b'{"type":"\xff","fingerprint":"\xff"}', DeadLetterReason.NOT_UTF8),
    ],
)
def test_bytes_that_would_hurt(value: bytes | None, reason: DeadLetterReason) -> None:
    for decode in DECODERS:
        with pytest.raises(BadRecord) as refused:
            decode(value)
        assert refused.value.reason is reason
