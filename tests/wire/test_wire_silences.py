"""Silences, matchers and patterns: what is understood, what is refused and with which words, and that no pattern can hang."""

import re
from collections.abc import Callable
from time import process_time
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.errors import InputError
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
from monitor.wire.patterns import DEEPEST, LONGEST, MOST_READ, BadPattern, Pattern
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
        ({"matchers": ("subject=~(",)}, DeadLetterReason.BAD_VALUE, "matchers[0]: regular expression, character 1: this group is not closed"),
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
        ('subject="a"b"', 'write \\"'), ('subject="a\\"', "closing double quote is escaped"), ("subject=~[a", "character 1: this set is not closed"),
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
        ("a*", ["", "aaa"], ["b"]), ("a+", ["a", "aa"], [""]), ("a?b", ["b", "ab"], ["aab"]), ("a{2}", ["aa"], ["a", "aaa"]),
        ("a{2,}", ["aa", "aaaa"], ["a"]), ("a{1,2}", ["a", "aa"], ["", "aaa"]), ("(ab)+", ["abab"], ["aba"]), ("(?:a|b)*c", ["abac"], ["ab"]),
        ("[a-c]", ["a", "c"], ["d", "-"]), ("[^a-c]", ["d"], ["a"]), ("[]a]", ["]", "a"], ["b"]), ("[^]]", ["a"], ["]"]), ("[a-]", ["-", "a"], ["b"]),
        (r"[\d-]+", ["1-2"], ["x"]), (r"\d\w\s", ["1a "], ["a1 "]), (r"\D\W\S", ["a-x"], ["1-x"]), (r"\.", ["."], ["a"]), (r"\n\t", ["\n\t"], [""]),
        ("^ab$", ["ab"], ["xab"]), ("a^b", [], ["ab"]), ("(^a|b)c$", ["ac", "bc"], ["abc"]), ("(?i)aB[c-d]", ["AbC", "abD"], ["abe"]),
        ("a*?b+?", ["aab"], ["a"]), ("(a*)*b", ["aab", "b"], ["a"]), ("(|a)+b", ["b", "aab"], [""]), ("((())){3}x", ["x"], [""]), ("é+", ["éé"], ["e"]),
        ("a{0}b", ["b"], ["ab"]), ("[.]", ["."], ["a"]), (r"[\]\\]+", ["]\\"], ["["]), ("gateway/eu-[12]", ["gateway/eu-1"], ["gateway/eu-3"]),
    ],
)  # fmt: skip
def test_what_patterns_mean(pattern: str, met: list[str], not_met: list[str]) -> None:
    read = Pattern(pattern)
    assert [read.matches(text) for text in met + not_met] == [True] * len(met) + [False] * len(not_met)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(a", "character 1: this group is not closed"), ("a)", "character 2: this ')' closes nothing"), ("[a", "character 1: this set is not closed"),
        ("*a", r"character 1: there is nothing that it could repeat; write \*"), ("a**", "character 3: a repetition of a repetition"),
        ("a{2}{3}", "character 5: a repetition of a repetition"), ("a*+", "a repetition of a repetition"), ("a{x}", "not a repetition such as {3}"),
        ("a{,3}", "not a repetition"), ("a{3,2}", "the most is less than the least"), ("a{", "not a repetition"), ("}", "closes nothing"), ("]", "closes nothing"),
        ("(?=a)", "no looking around"), ("(?P<x>a)", "no names"), ("a(?i)b", "(?i) at the very beginning"), (r"(a)\1", "not an escape"), (r"\b", "not an escape"),
        ("\\", "not an escape"), (r"\x41", "not an escape"), ("[b-a]", "ends before it begins"), (r"[a-\d]", "or with a class"), ("[[:alpha:]]", "write a-zA-Z"),
        ("^*", "can't be repeated"), ("a{1001}", "more than 1000 steps"), ("((((a{9}){9}){9}){9}){9}", "more than 1000 steps"),
        ("(" * (DEEPEST + 1) + ")" * (DEEPEST + 1), "groups nested deeper"), ("a" * (LONGEST + 1), "longer than 256 characters"),
    ],
)  # fmt: skip
def test_a_pattern_that_is_not_understood_is_refused_with_what_to_write(pattern: str, words: str) -> None:
    with pytest.raises(BadPattern, match=re.escape(words)):
        Pattern(pattern)


@pytest.mark.parametrize("pattern", ["(a|a)*b", "(a*)*b", "(a+)+b", ".*.*.*.*.*.*x", "(.*)*(.*)*x", "(a?){200}a{200}", "((a|aa)+)+b", "(a|b|ab)*c"])
def test_no_pattern_hangs(pattern: str) -> None:
    read, text = Pattern(pattern), "a" * 1024
    began = process_time()
    assert not read.matches(text)
    assert process_time() - began < 5


def test_of_a_text_that_is_too_long_a_pattern_matches_nothing() -> None:
    assert Pattern(".*").matches("a" * MOST_READ)
    assert not Pattern(".*").matches("a" * (MOST_READ + 1))


def parts(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = inner.map(lambda one: f"({one})")
    times = st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])
    return (
        st.lists(inner, min_size=1, max_size=3).map("".join)
        | st.lists(inner, min_size=1, max_size=3).map(lambda of: "(?:" + "|".join(of) + ")")
        | st.builds(str.__add__, group, times)
    )


ATOMS = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", "[a-c]", r"\w", r"\D", r"\.", "", "-"])


@given(st.recursive(ATOMS, parts, max_leaves=8), st.lists(st.text("abc.-1", max_size=6), max_size=8))
def test_a_pattern_means_what_it_means_elsewhere(pattern: str, texts: list[str]) -> None:
    if len(pattern) > LONGEST:
        return
    other: Callable[[str], object] = re.compile(pattern, re.DOTALL | re.ASCII).fullmatch
    read = Pattern(pattern)
    for text in texts:
        assert read.matches(text) is (other(text) is not None), text


@given(st.text("ab(){}[]|*+?^$\\.,-0123:i", max_size=15), st.text("ab-", max_size=8))
def test_any_text_is_a_pattern_or_is_refused_and_then_means_the_same(pattern: str, text: str) -> None:
    try:
        read = Pattern(pattern)
    except InputError:
        return
    try:
        other = re.compile(pattern, re.DOTALL | re.ASCII)
    except re.error:
        return
    assert read.matches(text) is (other.fullmatch(text) is not None)
