"""Silences, matchers and patterns: what is understood, what is refused and with which words, and that no pattern can hang."""

import re
from typing import Any

import msgspec
import orjson
import pytest

from monitor.wire.alerts import (
    AlertRecord,
    AlertState,
    decode_alert,
    encode_alert,
    encode_forgotten,
    is_alert,
)
from monitor.wire.bad_record import BadRecord, DeadLetterReason
from monitor.wire.examples import NOON, RESOLVED, SILENCE, STORM
from monitor.wire.matchers import NAMES, BadMatcher, Operator, parse_matcher
from monitor.wire.patterns import LONGEST, BadPattern, Pattern
from monitor.wire.silences import (
    SilenceRecord,
    checked,
    decode_silence,
    encode_lifted,
    encode_silence,
    silence_id,
)
from monitor.wire.times import Instant

ALERT = AlertRecord("c1f0", "timeout_churn", AlertState.FIRING, "warning", Instant(NOON), Instant(NOON), "x", "alice@example.com", workload="batch")


# --- records -----------------------------------------------------------------------------------------


def test_a_silence_is_read_back_under_its_key() -> None:
    key, value, headers = encode_silence(SILENCE, NOON)
    assert (key, silence_id(key)) == (b"~silence/s-20261123", "s-20261123")
    assert decode_silence(value).record == SILENCE
    assert dict(headers)["ce_type"] == b"monitor.silence"
    assert orjson.loads(value or b"") == {
        "id": "s-20261123", "matchers": ["alert=unenforced", "gateway=~gateway/eu-[12]"], "by": "bob@example.com",
        "reason": "eu is being upgraded, change 4711", "since": "2026-11-23T07:09:00.123Z", "until": "2026-11-23T09:09:00.123Z",
    }  # fmt: skip


def test_a_tombstone_lifts_it() -> None:
    key, value, _ = encode_lifted("s-1")
    assert (silence_id(key), value) == ("s-1", None)


def test_alerts_and_silences_are_told_apart_by_their_keys() -> None:
    keys = [encode_alert(ALERT).key, encode_forgotten("c1f0").key, encode_silence(SILENCE, NOON).key, b"~else/1", b"", None, b"~silence/\xff"]
    assert [is_alert(key) for key in keys] == [True, True, False, False, False, False, False]
    assert [silence_id(key) for key in keys] == [None, None, "s-20261123", None, None, None, "\ufffd"]


def test_an_alert_is_read_back_with_all_its_members() -> None:
    for alert in (ALERT, RESOLVED, STORM):
        assert decode_alert(encode_alert(alert).value) == alert
    assert orjson.loads(encode_alert(ALERT).value or b"") == {
        "fingerprint": "c1f0", "alert": "timeout_churn", "state": "firing", "severity": "warning", "since": "2026-11-23T07:09:00.123Z",
        "updated": "2026-11-23T07:09:00.123Z", "summary": "x", "subject": "alice@example.com", "workload": "batch",
    }  # fmt: skip


def test_an_alert_without_the_newer_members_is_read() -> None:
    old = b'{"fingerprint":"f","alert":"a","state":"firing","severity":"info","since":"2026-11-23T07:09:00Z","updated":"2026-11-23T07:09:00Z","summary":"s"}'
    read = decode_alert(old)
    assert (read.gateway, read.silenced_by, read.count, read.ended) == (None, (), None, None)


def test_it_stands_from_its_beginning_on_and_no_longer_at_its_end() -> None:
    silence = checked(SILENCE)
    since, until = int(SILENCE.since), int(SILENCE.until)
    assert [silence.stands(at) for at in (since - 1, since, until - 1, until)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("wrong", "reason", "words"),
    [
        ({"reason": " "}, DeadLetterReason.MISSING_FIELD, "reason is empty"),
        ({"by": ""}, DeadLetterReason.MISSING_FIELD, "by is empty"),
        ({"until": Instant(NOON)}, DeadLetterReason.BAD_VALUE, "until is not after since"),
        ({"id": "~x"}, DeadLetterReason.BAD_VALUE, "id is not"),
        ({"id": ""}, DeadLetterReason.BAD_VALUE, "id is not"),
        ({"id": "a" * 65}, DeadLetterReason.BAD_VALUE, "id is not"),
        ({"matchers": ()}, DeadLetterReason.MISSING_FIELD, "matchers is empty"),
        ({"matchers": ("alert=x", "color=blue")}, DeadLetterReason.BAD_VALUE, "matchers[1]: no such name; there are alert, "),
        ({"matchers": ("subject=~(",)}, DeadLetterReason.BAD_VALUE, "matchers[0]: regular expression: missing )"),
        ({"matchers": ("subject=~.*",)}, DeadLetterReason.BAD_VALUE, "write alert=~.+"),
        ({"matchers": ("subject!=bob", "tenant=")}, DeadLetterReason.BAD_VALUE, "every alert would be met"),
    ],
)
def test_what_is_no_silence_is_refused_with_what_to_write(wrong: dict[str, Any], reason: DeadLetterReason, words: str) -> None:
    record = msgspec.structs.replace(SILENCE, **wrong)
    with pytest.raises(BadRecord, match=re.escape(words)) as refused:
        encode_silence(record, NOON)
    assert refused.value.reason is reason
    raw = orjson.loads(encode_silence(SILENCE, NOON).value or b"") | {
        name: list(value) if isinstance(value, tuple) else "2026-11-23T07:09:00.123Z" if isinstance(value, int) else value for name, value in wrong.items()
    }
    with pytest.raises(BadRecord, match=re.escape(words)):
        decode_silence(orjson.dumps(raw))


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b'{"id":"x","matchers":"alert=x"}', b'{"id":"x","matchers":[1]}', b"\xff"])
def test_bytes_that_are_no_silence_are_refused(value: bytes | None) -> None:
    with pytest.raises(BadRecord):
        decode_silence(value)


def test_more_matchers_than_there_may_be_are_refused() -> None:
    raw = orjson.loads(encode_silence(SILENCE, NOON).value or b"") | {"matchers": ["alert=x"] * 21}
    with pytest.raises(BadRecord) as refused:
        decode_silence(orjson.dumps(raw))
    assert refused.value.reason is DeadLetterReason.TOO_LONG


# --- matchers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("alert=timeout_churn", True), ("alert=timeout", False), ("alert!=timeout_churn", False), ("alert!=other", True),
        ("subject=~.*@example.com", True), ("subject=~example", False), ("subject=~alice", False), ("subject!~alice.*", False),
        ("subject!~bob.*", True), ("tenant=", True), ("tenant=acme", False), ("tenant!=acme", True), ("tenant=~.+", False),
        ("tenant!~.+", True), ('workload = "batch"', True), (' workload =~ "ba(tch|d)" ', True), ("fingerprint=c1f0", True),
        ("severity=warning", True), ("gateway=x", False), ('subject=~"alice@example\\.com"', True), ('subject=~"ali\\\\w+@.*"', True),
        ("subject=~(?i)ALICE@.*", True), ("workload==batch", False),
    ],
)  # fmt: skip
def test_matchers(text: str, met: bool) -> None:
    assert parse_matcher(text).meets(ALERT) is met


def test_all_matchers_have_to_be_met() -> None:
    both = SilenceRecord("x", ("alert=timeout_churn", "workload=batch"), "b", "r", Instant(NOON), Instant(NOON + 1))
    assert checked(both).meets(ALERT)
    assert not checked(both).meets(msgspec.structs.replace(ALERT, workload="console"))


def test_every_name_is_a_member_of_an_alert() -> None:
    assert set(NAMES) <= set(AlertRecord.__struct_fields__)


@pytest.mark.parametrize("value", ['a"b', "a\\b", "two\nlines", "", " x ", "=~"])
def test_a_quoted_value_is_taken_as_it_was_meant(value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    found = parse_matcher(f'subject="{escaped}"')
    assert (found.value, found.operator) == (value, Operator.IS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alert", "not name=value, name!=value, name=~regex or name!~regex"), ("", "not name=value"), ("=x", "no such name"),
        ("summary=x", "no such name; there are alert, severity, subject"), ('subject="x', "has to end with one"), ('subject="', "has to end"),
        ('subject="a"b"', 'write \\"'), ('subject="a\\"', "closing double quote is escaped"), ("subject=~[a", "missing ]"),
        ("subject=" + "x" * 1100, "longer than 1100 characters"), ("a b=x", "not name=value"),
    ],
)  # fmt: skip
def test_a_matcher_that_is_not_understood_is_refused_with_what_to_write(text: str, words: str) -> None:
    with pytest.raises(BadMatcher, match=re.escape(words)) as refused:
        parse_matcher(text)
    assert str(refused.value).startswith(f"matcher {text[:80]!r}: ")


# --- patterns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "met", "not_met"),
    [
        ("", [""], ["a"]), ("abc", ["abc"], ["ab", "abcd", "xabc"]), ("a|bc", ["a", "bc"], ["ac", "abc"]), ("a.c", ["abc", "a\nc"], ["ac"]),
        ("(?i)aB[c-d]", ["AbC", "abD"], ["abe"]), ("a*?b+?", ["aab"], ["a"]), ("é+", ["éé"], ["e"]), ("gateway/eu-[12]", ["gateway/eu-1"], ["gateway/eu-3"]),
    ],
)  # fmt: skip
def test_what_patterns_mean(pattern: str, met: list[str], not_met: list[str]) -> None:
    read = Pattern(pattern)
    assert [read.matches(text) for text in met + not_met] == [True] * len(met) + [False] * len(not_met)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(a", "missing )"), ("*a", "no argument for repetition operator: *"), ("(?=a)", "invalid perl operator"), ("a{1001}", "invalid repetition size"),
        ("((((a{9}){9}){9}){9}){9}", "invalid repetition size"), ("a" * (LONGEST + 1), "longer than 256 characters"), ("\udc80", "not valid Unicode"),
    ],
)  # fmt: skip
def test_a_pattern_that_is_not_understood_is_refused(pattern: str, words: str) -> None:
    with pytest.raises(BadPattern, match=re.escape(words)):
        Pattern(pattern)


@pytest.mark.parametrize("pattern", ["(a|a)*b", "(a*)*b", "(a+)+b", ".*.*.*.*.*.*x", "(.*)*(.*)*x", "(a?){200}a{200}", "((a|aa)+)+b", "(a|b|ab)*c"])
def test_no_pattern_hangs(pattern: str) -> None:
    assert not Pattern(pattern).matches("a" * 1024)
