"""Events that name another subject or tenant than their session has: from the dead letter to the finding."""

from types import SimpleNamespace

import msgspec
import pytest

from monitor.core.instants import HOUR, NEVER
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.principal import nobody
from monitor.detect.settings import Detector, SubjectMismatch
from monitor.detect.subject_mismatch import (
    MOST_NAMED,
    Mismatch,
    Mismatches,
    decode_mismatches,
    encode_mismatches,
    mismatch_of,
)
from monitor.testing.driver import Driver
from monitor.wire.dead_letters import decode_dead_letter, encode_dead_letter, encode_refused_dead_letter

T = 1_795_500_000_000
TOLD = SubjectMismatch(window=HOUR, count=3)
ABOUT = Subject(Detector.SUBJECT_MISMATCH, "alice", "s-1")


def mismatches(*instants: int, named: str = "subject mallory") -> Mismatches:
    state = Mismatches("s-1")
    for number, at in enumerate(instants):
        assert state.take(Mismatch("s-1", "alice", named, T + at, 3, 10 + number), number, TOLD)
    return state


def test_one_below_is_silent_at_it_it_fires_and_time_clears_it() -> None:
    assert mismatches(1, 2).judge(T + 2, TOLD, nobody) is None
    state = mismatches(1, 2, 3)
    found = state.judge(T + 3, TOLD, nobody)
    assert isinstance(found, Finding)
    assert (found.about, found.at, found.sessions) == (ABOUT, T + 3, ("s-1",))
    assert found.summary == "3 events within 1h for alice's session named subject mallory"
    assert (found.seen["events"], found.seen["named"], found.expected["subject"]) == (3, ["subject mallory"], "alice")
    assert state.next_look(TOLD) == T + 1 + HOUR
    state = decode_mismatches(encode_mismatches(state))
    assert isinstance(state.judge(T + HOUR, TOLD, nobody), Finding)
    assert state.judge(T + HOUR + 1, TOLD, nobody) == Cleared(ABOUT, T + HOUR + 1)
    assert state.judge(T + HOUR + 2, TOLD, nobody) is None
    assert (state.next_look(TOLD), state.empty) == (T + 3 + HOUR, False)
    state.judge(T + 3 + HOUR, TOLD, nobody)
    assert (state.next_look(TOLD), state.empty) == (NEVER, True)


def test_by_default_the_first_fires() -> None:
    found = mismatches(5).judge(T + 5, SubjectMismatch(), nobody)
    assert found.summary == "1 event within 1h for alice's session named subject mallory"


def test_three_that_lie_apart_by_the_window_are_silent() -> None:
    assert mismatches(0, 2, HOUR).judge(T + HOUR, TOLD, nobody) is None
    assert mismatches(1, 2, HOUR).judge(T + HOUR, TOLD, nobody) is not None


def test_neither_a_replay_nor_a_copy_counts() -> None:
    state = mismatches(1, 2)
    first, second = (Mismatch("s-1", "alice", "subject mallory", T + at, 3, 9 + at) for at in (1, 2))
    before = encode_mismatches(state)
    assert not state.take(first, 0, TOLD)
    assert not state.take(second, 1, TOLD)
    assert encode_mismatches(state) == before
    assert not state.take(first, 2, TOLD)
    assert not state.take(msgspec.structs.replace(second, at=T + 60), 3, TOLD)
    assert state.judge(T + 60, TOLD, nobody) is None
    assert state.take(Mismatch("s-1", "alice", "subject mallory", T + 60, 3, 12), 4, TOLD)


def test_the_exempt_and_the_disabled_are_silent() -> None:
    assert mismatches(1, 2, 3).judge(T + 3, TOLD, lambda a: a.subject == "alice") is None
    assert mismatches(1, 2, 3).judge(T + 3, SubjectMismatch(enabled=False), nobody) is None
    state = mismatches(1, 2, 3)
    state.judge(T + 3, TOLD, nobody)
    assert isinstance(state.judge(T + 4, SubjectMismatch(enabled=False), nobody), Cleared)


def test_whose_session_it_is_stays_as_it_was_when_it_fired() -> None:
    state = Mismatches("s-1")
    for number in range(3):
        state.take(Mismatch("s-1", None, f"subject m-{number}", T + number, 0, number), number, TOLD)
    found = state.judge(T + 3, TOLD, nobody)
    assert found.summary == "3 events within 1h for another session named subject m-2"
    state.take(Mismatch("s-1", "alice", "subject m-9", T + 4, 0, 4), 4, TOLD)
    assert state.judge(T + 4, TOLD, nobody).about == found.about


def test_names_are_bounded() -> None:
    state = Mismatches("s-1")
    for number in range(200):
        state.take(Mismatch("s-1", "alice", f"subject m-{number}", T + number, 0, number), number, TOLD)
    assert (len(state.named), state.named[-1], state.window.count(T + 200, HOUR)) == (MOST_NAMED, "subject m-199", 200)
    assert len(encode_mismatches(state)) < 2000


def letter(value: bytes | None, detail: str, reason: str = "subject_mismatch", headers=()):
    record = SimpleNamespace(offset=41, key=b"s-1", value=value, headers=headers)
    return decode_dead_letter(*encode_dead_letter(record, reason, detail, "access-events", 3))


@pytest.mark.parametrize(
    ("detail", "named"),
    [
        ("session 's-1' belongs to another subject", "subject mallory"),
        ("session 's-1' belongs to another tenant", "tenant evil"),
    ],
)
def test_a_dead_letter_says_who_was_named_and_where_the_event_stands(detail: str, named: str) -> None:
    value = b'{"type": "session.activity", "session_id": "s-1", "subject": "mallory", "tenant": "evil"}'
    assert mismatch_of(letter(value, detail), T, "alice") == Mismatch("s-1", "alice", named, T, 3, 41)


def test_the_engine_says_it_in_these_words() -> None:
    """What tells a tenant from a subject is the last word of the refusal's detail."""
    driver = Driver("version: 1\ndefaults: {idle: 5m, absolute: 1h}", now=T)
    for subject, tenant in (("alice", "acme"), ("mallory", "acme"), ("alice", "evil")):
        driver.append({"type": "session.activity", "session_id": "s-1", "subject": subject, "tenant": tenant}, T)
    found = [mismatch_of(letter(put.value, put.detail, put.reason), T) for put in driver.dead_letters]
    assert [one.named for one in found] == ["subject mallory", "tenant evil"]


def test_a_cloud_event_in_binary_mode_is_read_by_its_headers() -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_type", b"session.activity"), ("ce_source", b"g"), ("ce_id", b"1")]
    found = mismatch_of(letter(b'{"session_id": "s-1", "subject": "mallory"}', "...", headers=headers), T)
    assert found == Mismatch("s-1", None, "subject mallory", T, 3, 41)


def test_other_dead_letters_and_those_that_say_nothing_are_no_mismatch() -> None:
    assert mismatch_of(letter(b'{"session_id": "s-1"}', "", "not_json"), T) is None
    assert mismatch_of(letter(b"{", ""), T) is None
    assert mismatch_of(letter(b'{"type": "session.activity"}', ""), T) is None
    refused = SimpleNamespace(offset=41, key=b"s-1", value=b"x" * 10, headers=())
    assert mismatch_of(decode_dead_letter(*encode_refused_dead_letter(refused, "subject_mismatch", "access-events", 3)), T) is None
