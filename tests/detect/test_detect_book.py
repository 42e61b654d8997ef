"""The life of an alert in virtual time, at its boundaries; over restarts and replays; and that it does not depend on who looks when."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.controls import ControlType, Target
from monitor.core.errors import InvariantError
from monitor.core.instants import DAY, HOUR, MINUTE, NEVER, SECOND
from monitor.core.reasons import Reason
from monitor.core.sweeps import reason_of
from monitor.detect.acts import ActDue
from monitor.detect.alert import LEAST_UNSEEN, UPDATE_EVERY
from monitor.detect.book import KEPT, Book, Forgotten
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.settings import (
    Act,
    Detector,
    KeepaliveOnly,
    LongSession,
    Settings,
    Severity,
    TimeoutChurn,
    Unacknowledged,
)
from monitor.wire.alerts import AlertRecord, AlertState, decode_alert, encode_alert
from monitor.wire.controls import decode_control, encode_control
from monitor.wire.silences import SilenceRecord, checked
from monitor.wire.times import Instant

T = 1_795_500_000_000
ALICE = Subject(Detector.TIMEOUT_CHURN, subject="alice")
RUN = Subject(Detector.LONG_SESSION, subject="svc", session_id="run-7", workload="agent-run", tenant="acme")
GATEWAY = Subject(Detector.UNACKNOWLEDGED, gateway="eu-1")
RESOLVE = 5 * MINUTE
HOLD = Settings(timeout_churn=TimeoutChurn(hold=MINUTE))


def seen(at: int, count: int = 10, about: Subject = ALICE, sessions: tuple[str, ...] = ("s-1",)) -> Finding:
    return Finding(about, T + at, f"{count} timeouts", {"timeouts": 10}, {"timeouts": count}, sessions, {"roles": ["analyst"]})


def gone(at: int, about: Subject = ALICE) -> Cleared:
    return Cleared(about, T + at)


def told(effects: list) -> list[tuple]:
    """State, since, updated; instants since T."""
    return [(one.state.value, one.since - T, one.updated - T) for one in effects if isinstance(one, AlertRecord)]


def everything(book: Book) -> dict[bytes, bytes]:
    return {key: value for key, value in book.changed() if value is not None}


def again(state: dict[bytes, bytes], told: Settings | None = None) -> Book:
    book = Book(told or Settings())
    for key, value in state.items():
        book.restore(key, value)
    return book


# --- firing, updated, resolved -----------------------------------------------------------------------


def test_an_alert_fires_once_and_explains_itself() -> None:
    book = Book()
    (record,) = book.take(seen(0))
    assert record == AlertRecord(
        ALICE.fingerprint, "timeout_churn", AlertState.FIRING, "warning", Instant(T), Instant(T), "10 timeouts", "alice", None,
        {"expected": {"timeouts": 10}, "seen": {"timeouts": 10}, "sessions": ["s-1"], "cohort": {"roles": ["analyst"]}},
    )  # fmt: skip
    assert decode_alert(encode_alert(record).value) == record
    assert book.take(seen(SECOND)) == []
    assert book.advance(T + MINUTE) == []


def test_an_alert_names_all_that_it_is_about() -> None:
    (record,) = Book().take(seen(0, about=RUN))
    assert (record.subject, record.session_id, record.workload, record.tenant, record.gateway) == ("svc", "run-7", "agent-run", "acme", None)
    (record,) = Book().take(seen(0, about=GATEWAY))
    assert (record.gateway, record.severity, record.count, record.ended) == ("eu-1", "critical", None, None)


def test_newer_figures_are_told_at_most_every_30_s() -> None:
    book = Book()
    book.take(seen(0))
    assert book.take(seen(SECOND, 11)) == []
    assert book.take(seen(2 * SECOND, 12)) == []
    assert book.next_look == T + UPDATE_EVERY
    assert book.advance(T + UPDATE_EVERY - 1) == []
    (record,) = book.advance(T + UPDATE_EVERY)
    assert (record.state, record.since, record.updated, record.evidence["seen"]) == ("firing", T, T + UPDATE_EVERY, {"timeouts": 12})
    assert book.advance(T + 2 * UPDATE_EVERY) == [], "nothing new, nothing told"
    (record,) = book.take(seen(2 * UPDATE_EVERY, 13))
    assert (record.since, record.updated) == (T, T + 2 * UPDATE_EVERY)


def test_figures_that_have_come_back_to_what_was_told_are_not_told_again() -> None:
    book = Book()
    book.take(seen(0, 10))
    book.take(seen(SECOND, 11))
    book.take(seen(2 * SECOND, 10))
    assert book.advance(T + MINUTE) == []


@pytest.mark.parametrize("looks", [(), (RESOLVE - 1,), (RESOLVE, DAY // 2)])
def test_what_is_not_seen_for_as_long_is_over_at_that_instant_whenever_somebody_looks(looks: tuple[int, ...]) -> None:
    book = Book()
    book.take(seen(0))
    book.take(seen(10 * SECOND))
    assert book.next_look == T + 10 * SECOND + RESOLVE
    found = [one for at in looks for one in book.advance(T + at)] + book.advance(T + HOUR)
    (record,) = found
    assert (record.state, record.since, record.ended, record.updated) == ("resolved", T, T + 10 * SECOND + RESOLVE, T + 10 * SECOND + RESOLVE)


def test_one_before_it_is_over_it_still_fires() -> None:
    book = Book()
    book.take(seen(0))
    assert book.advance(T + RESOLVE - 1) == []
    assert book.take(seen(RESOLVE - 1)) == []
    assert book.advance(T + RESOLVE) == []
    assert book.next_look == T + 2 * RESOLVE - 1


def test_the_last_figures_are_told_when_it_resolves() -> None:
    book = Book(Settings(timeout_churn=TimeoutChurn(resolve_after=0)))
    book.take(seen(0))
    book.take(seen(SECOND, 17))
    (record,) = book.take(gone(2 * SECOND))
    assert (record.state, record.evidence["seen"], record.ended) == ("resolved", {"timeouts": 17}, T + 2 * SECOND)


def test_what_is_cleared_is_over_when_it_was_not_seen_again_for_as_long() -> None:
    book = Book()
    book.take(seen(0))
    assert book.take(gone(MINUTE)) == []
    assert book.take(gone(2 * MINUTE)) == [], "cleared is cleared: the first word counts"
    book.take(seen(3 * MINUTE))
    assert book.take(gone(4 * MINUTE)) == []
    assert told(book.advance(T + HOUR)) == [("resolved", 0, 3 * MINUTE + RESOLVE)]


def test_without_resolve_after_it_is_over_when_it_is_cleared_but_not_between_two_looks() -> None:
    book = Book()
    book.take(seen(0, about=GATEWAY))
    assert book.advance(T + LEAST_UNSEEN - 1) == []
    book.take(seen(10 * SECOND, about=GATEWAY))
    assert told(book.take(gone(20 * SECOND, GATEWAY))) == [("resolved", 0, 20 * SECOND)]
    book.take(seen(30 * SECOND, about=GATEWAY))
    assert told(book.advance(T + HOUR)) == [("resolved", 30 * SECOND, 30 * SECOND + LEAST_UNSEEN)]


def test_what_fires_again_is_a_new_life() -> None:
    book = Book()
    book.take(seen(0))
    effects = book.take(seen(RESOLVE))
    assert told(effects) == [("resolved", 0, RESOLVE), ("firing", RESOLVE, RESOLVE)]
    assert effects[0].fingerprint == effects[1].fingerprint


def test_a_resolved_alert_does_not_come_back_by_what_was_seen_before_it_ended() -> None:
    book = Book()
    book.take(seen(0))
    book.take(gone(2 * MINUTE))
    assert told(book.advance(T + HOUR)) == [("resolved", 0, RESOLVE)]
    for at in (0, 2 * MINUTE, RESOLVE - 1):
        assert book.take(seen(at)) == []
    assert told(book.take(seen(RESOLVE))) == [("firing", RESOLVE, RESOLVE)]


def test_a_resolved_alert_is_remembered_for_a_day_and_then_wants_a_tombstone() -> None:
    book = Book()
    book.take(seen(0))
    book.advance(T + RESOLVE)
    book.changed()
    assert book.next_look == T + RESOLVE + KEPT
    assert book.advance(T + RESOLVE + KEPT) == [Forgotten(ALICE.fingerprint)]
    assert book.changed() == [(b"alert/" + ALICE.fingerprint.encode(), None)]
    assert book.next_look == NEVER


def test_more_resolved_alerts_than_are_remembered_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.detect.book.MOST_RESOLVED", 2)
    book = Book()
    subjects = [Subject(Detector.TIMEOUT_CHURN, subject=name) for name in ("c", "a", "b")]
    for at, about in enumerate(subjects):
        book.take(seen(at, about=about))
    effects = book.advance(T + HOUR)
    assert [type(one).__name__ for one in effects] == ["AlertRecord"] * 3 + ["Forgotten"]
    assert effects[-1].fingerprint == subjects[0].fingerprint


# --- pending -----------------------------------------------------------------------------------------


def test_one_before_it_was_held_for_as_long_it_is_silent_and_at_it_it_fires() -> None:
    book = Book(HOLD)
    assert book.take(seen(0)) == []
    assert book.take(seen(MINUTE - 1)) == []
    assert told(book.take(seen(MINUTE))) == [("firing", 0, MINUTE)]


def test_time_alone_does_not_make_it_fire() -> None:
    book = Book(HOLD)
    book.take(seen(0))
    assert book.advance(T + MINUTE) == []
    assert told(book.take(seen(MINUTE))) == [("firing", 0, MINUTE)], "it was not dropped at the very instant"


def test_a_break_begins_the_hold_anew() -> None:
    book = Book(HOLD)
    book.take(seen(0))
    assert book.next_look == T + MINUTE + 1
    assert book.take(seen(MINUTE + 1)) == []
    assert told(book.take(seen(2 * MINUTE + 1))) == [("firing", MINUTE + 1, 2 * MINUTE + 1)]
    book = Book(HOLD)
    book.take(seen(0))
    assert book.take(gone(30 * SECOND)) == []
    assert book.take(seen(MINUTE)) == []


def test_what_is_not_seen_again_is_dropped() -> None:
    book = Book(HOLD)
    book.take(seen(0))
    assert [one.firing for one in book.open()] == [False]
    assert [key for key, value in book.changed() if value] == [b"pending/" + ALICE.fingerprint.encode()]
    assert book.advance(T + MINUTE + 1) == []
    assert list(book.open()) == []
    assert book.changed() == [(b"pending/" + ALICE.fingerprint.encode(), None)]
    assert book.next_look == NEVER


# --- settings ----------------------------------------------------------------------------------------


def test_a_detector_that_is_disabled_resolves_its_alerts_and_is_not_heard() -> None:
    book = Book(Settings(long_session=LongSession(hold=MINUTE)))
    book.take(seen(0))
    book.take(seen(0, about=RUN))
    off = Settings(timeout_churn=TimeoutChurn(enabled=False), long_session=LongSession(enabled=False))
    assert told(book.tell(off, T + SECOND)) == [("resolved", 0, SECOND)]
    assert list(book.open()) == []
    assert book.take(seen(MINUTE)) == []
    assert told(book.tell(Settings(), T + 2 * MINUTE)) == []
    assert told(book.take(seen(3 * MINUTE))) == [("firing", 3 * MINUTE, 3 * MINUTE)]


def test_new_settings_move_what_is_due() -> None:
    book = Book()
    book.take(seen(0))
    book.tell(Settings(timeout_churn=TimeoutChurn(resolve_after=2 * MINUTE, severity=Severity.CRITICAL)), T + SECOND)
    assert book.next_look == T + 2 * MINUTE
    (record,) = book.advance(T + 2 * MINUTE)
    assert (record.state, record.severity) == ("resolved", "critical")


def test_a_restored_book_that_is_told_other_settings_resolves_what_is_disabled() -> None:
    book = Book()
    book.take(seen(0))
    book = again(everything(book))
    assert told(book.tell(Settings(timeout_churn=TimeoutChurn(enabled=False)), T + HOUR)) == [("resolved", 0, HOUR)]


# --- acts --------------------------------------------------------------------------------------------


def acting(act: Act, **more) -> Settings:
    churn, long = TimeoutChurn(act=act, act_for=HOUR, **more), LongSession(act=act, act_for=HOUR, **more)
    return Settings(timeout_churn=churn, long_session=long, keepalive_only=KeepaliveOnly(act=act), unacknowledged=Unacknowledged(act=act))


def done(effects: list) -> list[ActDue]:
    return [one for one in effects if isinstance(one, ActDue)]


def test_nothing_is_done_by_default() -> None:
    assert done(Book().take(seen(0))) == []


def test_a_risk_revokes_the_sessions_that_it_names_once_in_its_life() -> None:
    book = Book(acting(Act.RISK))
    record, *_ = effects = book.take(seen(0, sessions=("s-1", "s-2", "s-1")))
    assert [(one.kind, one.target, one.reason, one.until, one.alert) for one in done(effects)] == [
        (Act.RISK, Target(session_id=name), "risk", T + HOUR, record) for name in ("s-1", "s-2")
    ]
    assert done(book.take(seen(MINUTE, 11, sessions=("s-3",)))) == []
    assert done(book.advance(T + HOUR)) == []
    assert len(done(book.take(seen(HOUR)))) == 1, "a new life"


def test_a_lock_is_of_the_subject_in_its_tenant_and_says_why() -> None:
    (one,) = done(Book(acting(Act.LOCK)).take(seen(0, about=RUN)))
    assert (one.target, one.reason, one.until) == (Target(subject="svc", tenant="acme"), "long_session: 10 timeouts", T + HOUR)


def test_an_act_that_would_meet_nobody_is_not_due() -> None:
    assert done(Book(acting(Act.LOCK)).take(seen(0, about=GATEWAY))) == []
    assert done(Book(acting(Act.RISK)).take(seen(0, sessions=()))) == []
    (one,) = done(Book(acting(Act.RISK)).take(seen(0, about=RUN, sessions=())))
    assert one.target == Target(session_id="run-7")


def test_an_act_that_is_due_again_by_a_replay_has_the_same_id() -> None:
    ids = [[one.id for one in done(Book(acting(Act.RISK)).take(seen(at, sessions=("s-1", "s-2"))))] for at in (0, 0, 1)]
    assert ids[0] == ids[1]
    assert len({*ids[0], *ids[2]}) == 4


def test_an_act_is_a_control_that_can_be_written() -> None:
    (risk,) = done(Book(acting(Act.RISK)).take(seen(0)))
    (lock,) = done(Book(acting(Act.LOCK)).take(seen(0)))
    found = [decode_control(encode_control(one.control(), T).value, offset=7, appended=T + 1) for one in (risk, lock)]
    assert [(one.type, one.id, one.target, one.reason, one.by, one.expires) for one in found] == [
        (ControlType.REVOKE, f"act-{risk.id}", Target(session_id="s-1"), "risk", "detection/timeout_churn", NEVER),
        (ControlType.LOCK, f"act-{lock.id}", Target(subject="alice"), "timeout_churn: 10 timeouts", "detection/timeout_churn", T + HOUR),
    ]
    assert reason_of(found[0]) is Reason.RISK


def silence(id_: str, matcher: str, since: int, until: int):
    return checked(SilenceRecord(id_, (matcher,), "bob", "known", Instant(T + since), Instant(T + until)))


def test_a_silenced_alert_is_told_as_silenced_and_does_nothing() -> None:
    book = Book(acting(Act.RISK))
    book.silence([silence("z", "alert=timeout_churn", 0, HOUR), silence("a", "subject=~al.*", 0, HOUR), silence("x", "subject=bob", 0, HOUR)], T)
    effects = book.take(seen(0))
    assert ([one.silenced_by for one in effects], done(effects)) == ([("a", "z")], [])


def test_a_silence_that_begins_ends_or_is_lifted_is_told() -> None:
    book = Book()
    book.take(seen(0))
    assert book.silence([silence("a", "subject=alice", MINUTE, 2 * MINUTE)], T) == []
    assert book.next_look == T + MINUTE
    assert book.advance(T + MINUTE - 1) == []
    assert [(one.silenced_by, one.updated - T) for one in book.advance(T + MINUTE)] == [(("a",), MINUTE)]
    assert [(one.silenced_by, one.updated - T) for one in book.advance(T + 2 * MINUTE)] == [((), 2 * MINUTE)]
    assert [one.silenced_by for one in book.silence([silence("b", "subject=alice", 0, HOUR)], T + 2 * MINUTE)] == [("b",)]
    assert [one.silenced_by for one in book.silence([], T + 2 * MINUTE)] == [()]


# --- over restarts -----------------------------------------------------------------------------------


def test_bytes_of_another_kind_are_refused() -> None:
    for key in (b"alert/x", b"pending/x"):
        with pytest.raises(InvariantError):
            Book().restore(key, b"\x93\x01\x02\x03")


def test_members_are_kept_for_as_long_as_there_is_room() -> None:
    many: dict[str, object] = {f"k{n}": "x" * 1000 for n in range(90)}
    (record,) = Book().take(Finding(ALICE, T, "x", many, many, (), many))
    assert list(record.evidence["expected"]) == ["k0", "k1", "k2", "k3", "k4", "k5"]
    assert list(record.evidence["seen"]) == ["k0", "k1", "k2", "k3", "k4", "k5", "cut"]
    assert len(encode_alert(record).value or b"") < 3 * 6 * 1024 + 1024


def test_evidence_is_bounded_whatever_a_finding_holds() -> None:
    deep: object = "end"
    for _ in range(200):
        deep = {"deeper": [deep]}
    wild = {"long": "\x01" * 100_000, "many": ["x" * 5000] * 1000, "deep": deep, "half": "\ud800", "big": 1 << 200, "nan": float("nan"),
            "set": {3, 1, 2}, "what": object, **{f"m{n}": n for n in range(10_000)}}  # fmt: skip
    long = "\x02" * 1024
    about = Subject(Detector.UNENFORCED, long, long, long, long, long)
    book = Book()
    (record,) = book.take(Finding(about, T, "\ud800" + "\x03" * 100_000, wild, wild, ("\x04" * 256,) * 20, wild))
    value = encode_alert(record).value
    assert value is not None
    assert len(value) <= 64 * 1024
    assert decode_alert(value).evidence["seen"]["cut"] is True
    assert all(len(piece) <= 64 * 1024 for piece in everything(book).values())


@given(st.dictionaries(st.text(max_size=20), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(["\x01" * 5000, "\ud800", "ab" * 3000]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5) | st.tuples(inner),
), max_size=8))  # fmt: skip
def test_whatever_a_finding_holds_it_can_be_written_and_kept(held: dict[str, object]) -> None:
    book = Book()
    (record,) = book.take(Finding(ALICE, T, "x", held, held, ("s",), held))
    value = encode_alert(record).value
    assert value is not None
    assert len(value) <= 64 * 1024
    assert orjson.loads(value)["evidence"]["sessions"] == ["s"]
    kept = everything(book)
    assert everything(again(kept)) == {}
    (same,) = again(kept).advance(T + HOUR)
    assert same.evidence == book.advance(T + HOUR)[0].evidence


SUBJECTS = [Subject(Detector.TIMEOUT_CHURN, subject=name) for name in ("alice", "bob", "carol")] + [GATEWAY, RUN]
HELD = Settings(timeout_churn=TimeoutChurn(hold=20 * SECOND, resolve_after=MINUTE), unacknowledged=Unacknowledged(resolve_after=0))


@st.composite
def histories(draw: st.DrawFn) -> list[Finding | Cleared]:
    """In the order of time, with many instants on boundaries."""
    at, steps = 0, []
    for _ in range(draw(st.integers(1, 30))):
        at += draw(st.sampled_from([0, 1, SECOND, 19_999, 20_000, 20_001, 30_000, 59_999, 60_000, 60_001, RESOLVE, HOUR]))
        about = draw(st.sampled_from(SUBJECTS))
        step = gone(at, about) if draw(st.integers(0, 3)) == 0 else seen(at, draw(st.integers(10, 12)), about)
        if not contradicts(steps, step):
            steps.append(step)
    return steps


def contradicts(steps: list[Finding | Cleared], step: Finding | Cleared) -> bool:
    """Seen and cleared in one millisecond: that of a thing a replay can't put in order."""
    return any(one.about == step.about and one.at == step.at and type(one) is not type(step) for one in steps)


def facts(effects: list) -> list[tuple]:
    return sorted((one.fingerprint, one.since, one.updated, one.state.value, str(one.evidence)) for one in effects if isinstance(one, AlertRecord))


@given(histories(), st.lists(st.integers(0, 40 * 60), max_size=20))
def test_what_is_told_does_not_depend_on_how_often_time_is_told_to_pass(history: list, looks: list[int]) -> None:
    busy, lazy = Book(HELD), Book(HELD)
    at_ends, often = [], []
    for step in history:
        often += busy.take(step)
        often += busy.advance(step.at)
        for look in looks:
            often += busy.advance(min(step.at, T + look * SECOND))
        at_ends += lazy.take(step)
    end = history[-1].at + HOUR
    assert facts(often + busy.advance(end)) == facts(at_ends + lazy.advance(end))


@given(histories())
def test_next_look_is_the_instant_at_which_time_alone_changes_something(history: list) -> None:
    book = Book(HELD)
    assert book.next_look == NEVER
    for step in history:
        book.take(step)
        book.advance(step.at)
        book.changed()
        due = book.next_look
        assert due > step.at
        if due < NEVER:
            probe = again_whole(book)
            assert probe.advance(due - 1) == []
            assert probe.changed() == []
            probe.advance(due)
            assert probe.changed() != []


def again_whole(book: Book) -> Book:
    """A book with the same state."""
    book._dirty = {*map("alert/".__add__, book._alerts), *map("pending/".__add__, book._pending)}
    return again(everything(book), book._settings)


@given(histories(), st.data())
def test_a_restart_tells_the_same_again_and_nothing_else(history: list, data: st.DataObject) -> None:
    """Killed at any point between two checkpoints, with any beginning of the second one written."""
    first = data.draw(st.integers(0, len(history)))
    killed = data.draw(st.integers(first, len(history)))
    book, published, state = Book(HELD), [], {}

    def run(book: Book, steps: list) -> None:
        for step in steps:
            published.extend(book.take(step))
            published.extend(book.advance(step.at))

    run(book, history[:first])
    state.update(everything(book))
    run(book, history[first:killed])
    changed = book.changed()
    for key, value in changed[: data.draw(st.integers(0, len(changed)))]:
        state.pop(key, None)
        if value is not None:
            state[key] = value
    restarted = again(state, HELD)
    run(restarted, history[first:])
    published += restarted.advance(history[-1].at + HOUR)

    whole, expected = Book(HELD), []
    for step in history:
        expected += whole.take(step) + whole.advance(step.at)
    expected += whole.advance(history[-1].at + HOUR)
    lives = {(one.fingerprint, one.state, one.since) for one in expected if isinstance(one, AlertRecord)}
    assert {(one.fingerprint, one.state, one.since) for one in published if isinstance(one, AlertRecord)} == lives
    ends = {(one.fingerprint, one.since, one.ended) for one in expected if isinstance(one, AlertRecord) and one.ended}
    assert {(one.fingerprint, one.since, one.ended) for one in published if isinstance(one, AlertRecord) and one.ended} == ends


@given(histories())
def test_a_replay_of_what_was_taken_changes_nothing(history: list) -> None:
    book = Book(HELD)
    for step in history:
        book.take(step)
    state = everything(book)
    fired = {key for key in state if key.startswith(b"alert/")}
    restored = again(state, HELD)
    # What is pending leaves nothing behind when it is dropped, and may be pending again.
    steps = [step for step in history if b"alert/" + step.about.fingerprint.encode() in fired]
    assert [one for step in steps for one in restored.take(step)] == []
    assert all(state[key] == value for key, value in restored.changed() if key in fired)
