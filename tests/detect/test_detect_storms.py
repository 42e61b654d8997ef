"""Storms: beyond the bound alerts are counted and not raised; nothing is swallowed for good; and how many different things there were."""

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.instants import DAY, HOUR, MINUTE, SECOND
from monitor.detect.acts import ActDue
from monitor.detect.alert import UPDATE_EVERY
from monitor.detect.book import Book
from monitor.detect.distinct import EXACT, Distinct
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.settings import Act, Detector, LongSession, SessionMoved, Settings, Storm, TimeoutChurn
from monitor.detect.storms import Begun, storm_fingerprint
from monitor.wire.alerts import AlertRecord, AlertState, encode_alert

T = 1_795_500_000_000
CHURN, LONG = Detector.TIMEOUT_CHURN, Detector.LONG_SESSION
WINDOW = 10 * MINUTE
FEW = Settings(storm=Storm(per_subject=2, per_alert=4, window=WINDOW), long_session=LongSession(resolve_after=HOUR))


def long(session: str, at: int, subject: str | None = "svc") -> Finding:
    return Finding(Subject(LONG, subject=subject, session_id=session), T + at, "long", {"age": 1}, {"age": 2}, (session,))


def churn(subject: str, at: int) -> Finding:
    return Finding(Subject(CHURN, subject=subject), T + at, "churn", {}, {})


def fired(effects: list) -> list[AlertRecord]:
    return [one for one in effects if isinstance(one, AlertRecord)]


def said(effects: list) -> list[tuple]:
    """Name, state, count, instant since T: of a session or a subject, of a storm its subject and `*`."""
    return [
        (f"{one.subject or ''}*" if one.count else one.session_id or one.subject, one.state.value, one.count, one.updated - T) for one in fired(effects)
    ]


# --- of one subject ----------------------------------------------------------------------------------


def test_at_the_bound_each_is_raised_beyond_it_they_are_counted() -> None:
    book = Book(FEW)
    assert said(book.take(long("s-1", 0)) + book.take(long("s-2", 1))) == [("s-1", "firing", None, 0), ("s-2", "firing", None, 1)]
    (storm,) = fired(book.take(long("s-3", 2)))
    assert (storm.subject, storm.session_id, storm.alert, storm.count, storm.since) == ("svc", None, "long_session", 1, T + 2)
    assert storm.fingerprint == storm_fingerprint((LONG, "svc"), "") != Subject(LONG, subject="svc").fingerprint
    assert storm.evidence["expected"] == {"alerts": 2, "window": "10m"}
    assert book.take(long("s-4", 3)) == book.take(long("s-4", SECOND)) == book.take(long("s-5", SECOND)) == []
    assert book.next_look == T + 2 + UPDATE_EVERY
    (update,) = fired(book.advance(T + MINUTE))
    assert (update.count, update.since, update.evidence["seen"]) == (3, T + 2, {"alerts": 3, "exact": True})
    assert update.evidence["sessions"] == ["s-3", "s-4", "s-5"]
    assert "3 more after 2 alerts within 10m" in update.summary
    assert said(book.take(long("t-1", MINUTE, "other"))) == [("t-1", "firing", None, MINUTE)], "another subject has its own bound"


def test_one_after_the_window_there_is_room_again() -> None:
    for at, expected in ((WINDOW - 1, "svc*"), (WINDOW, "s-3")):
        book = Book(FEW)
        book.take(long("s-1", 0))
        book.take(long("s-2", 1))
        assert [name for name, *_ in said(book.take(long("s-3", at)))] == [expected]


def test_what_begins_later_takes_no_room_from_what_is_told_late() -> None:
    book = Book(FEW)
    book.take(long("s-1", MINUTE))
    book.take(long("s-2", MINUTE))
    assert said(book.take(long("s-3", MINUTE - 1))) == [("s-3", "firing", None, MINUTE - 1)]


def test_an_alert_that_fires_again_and_again_is_a_storm_too() -> None:
    book = Book(Settings(storm=Storm(per_subject=2), session_moved=SessionMoved(resolve_after=0)))
    about = Subject(Detector.SESSION_MOVED, subject="alice", session_id="s-1")
    effects = []
    for at in range(0, 10 * SECOND, 2 * SECOND):
        effects += book.take(Finding(about, T + at, "moved", {}, {}))
        effects += book.take(Cleared(about, T + at + SECOND))
    assert [(name, state) for name, state, _, _ in said(effects)] == [("s-1", "firing"), ("s-1", "resolved")] * 2 + [("alice*", "firing")]


def test_without_a_subject_only_the_bound_of_all_counts() -> None:
    book = Book(FEW)
    effects = [one for n in range(5) for one in book.take(long(f"s-{n}", n, None))]
    assert [name for name, *_ in said(effects)] == ["s-0", "s-1", "s-2", "s-3", "*"]


# --- of all ------------------------------------------------------------------------------------------


def test_beyond_the_bound_of_all_nobody_new_is_raised() -> None:
    book = Book(FEW)
    effects = [one for n in range(8) for one in book.take(churn(f"user-{n}", n))]
    assert [name for name, *_ in said(effects)] == ["user-0", "user-1", "user-2", "user-3", "*"]
    assert said(book.take(long("s-1", 9))) == [("s-1", "firing", None, 9)], "another kind of alert has its own bound"
    assert said(book.advance(T + MINUTE))[0][2] == 4


def test_what_fires_already_goes_on_in_a_storm() -> None:
    book = Book(FEW)
    for n in range(8):
        book.take(churn(f"user-{n}", n))
    (update,) = fired(book.take(Finding(Subject(CHURN, subject="user-0"), T + MINUTE, "churn", {}, {"more": 1})))
    assert update.subject == "user-0"


def test_books_beside_each_other_have_storms_of_their_own() -> None:
    fingerprints = set()
    for place in ("0", "1"):
        book = Book(FEW, place)
        effects = [one for n in range(5) for one in book.take(churn(f"user-{n}", n))]
        fingerprints.add(fired(effects)[-1].fingerprint)
    assert len(fingerprints) == 2


# --- its end -----------------------------------------------------------------------------------------


def test_it_is_over_after_a_window_in_which_no_more_came_than_may_begin() -> None:
    book = Book(FEW)
    for n in range(6):
        book.take(long(f"s-{n}", 0))
    assert book.advance(T + WINDOW - 1)[1:] == []
    # Of the first window it had counted four. In the second two are seen again: that is no more than the bound.
    assert book.advance(T + WINDOW) == []
    for n in (2, 3):
        book.take(long(f"s-{n}", WINDOW + MINUTE))
    assert [one for one in said(book.advance(T + 2 * WINDOW - 1)) if one[0] == "svc*"] == []
    (end,) = fired(book.advance(T + 2 * WINDOW))
    assert (end.state, end.count, end.ended) == (AlertState.RESOLVED, 4, T + 2 * WINDOW)
    # What still stands out is raised by itself now.
    assert said(book.take(long("s-2", 2 * WINDOW))) == [("s-2", "firing", None, 2 * WINDOW)]
    assert said(book.take(long("s-3", 2 * WINDOW))) == [("s-3", "firing", None, 2 * WINDOW)]


def test_one_more_than_may_begin_and_it_goes_on() -> None:
    book = Book(FEW)
    for n in range(6):
        book.take(long(f"s-{n}", 0))
    for n in (2, 3, 4):
        book.take(long(f"s-{n}", WINDOW + MINUTE))
    assert [one.state for one in fired(book.advance(T + 2 * WINDOW)) if one.count] == []
    (end,) = fired(book.advance(T + 3 * WINDOW))
    assert (end.state, end.count) == (AlertState.RESOLVED, 4)


def test_its_next_time_is_a_new_life_with_a_new_count() -> None:
    book = Book(FEW)
    for n in range(6):
        book.take(long(f"s-{n}", 0))
    book.advance(T + 2 * WINDOW)
    effects = [one for n in range(10, 14) for one in book.take(long(f"s-{n}", 2 * HOUR + n))]
    (storm,) = [one for one in fired(effects) if one.count]
    assert (storm.since, storm.count) == (T + 2 * HOUR + 12, 1)


def test_a_storm_that_is_over_does_not_come_back_by_what_it_had_counted() -> None:
    book = Book(FEW)
    for n in range(6):
        book.take(long(f"s-{n}", n))
    book.advance(T + 3 * WINDOW)
    assert book.take(long("s-5", 5)) == []


def test_a_detector_that_is_disabled_ends_its_storm() -> None:
    book = Book(FEW)
    for n in range(6):
        book.take(churn(f"user-{n}", 0))
    ended = fired(book.tell(Settings(timeout_churn=TimeoutChurn(enabled=False)), T + SECOND))
    assert [one.state.value for one in ended] == ["resolved"] * 5
    assert [one.count for one in ended if one.count] == [2]


# --- with the rest of an alert's life ----------------------------------------------------------------


def test_a_storm_does_nothing_by_itself() -> None:
    book = Book(Settings(storm=Storm(per_subject=2), long_session=LongSession(act=Act.LOCK)))
    effects = [one for n in range(9) for one in book.take(long(f"s-{n}", n))]
    assert [one.about.session_id for one in effects if isinstance(one, ActDue)] == ["s-0", "s-1"]


def test_what_is_pending_fires_into_the_storm() -> None:
    book = Book(Settings(storm=Storm(per_subject=2), long_session=LongSession(hold=MINUTE)))
    for n in range(5):
        book.take(long(f"s-{n}", 0))
    effects = [one for n in range(5) for one in book.take(long(f"s-{n}", MINUTE))]
    assert [name for name, *_ in said(effects)] == ["s-0", "s-1", "svc*"]
    assert [one.firing for one in book.open()] == [True, True]
    assert said(book.advance(T + 2 * MINUTE))[0][:3] == ("svc*", "firing", 3)


def test_more_open_alerts_than_are_kept_are_a_storm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.detect.book.MOST_OPEN", 3)
    book = Book(Settings(storm=Storm(per_alert=100, per_subject=100)))
    effects = [one for n in range(5) for one in book.take(churn(f"user-{n}", n))]
    assert [name for name, *_ in said(effects)] == ["user-0", "user-1", "user-2", "*"]
    book = Book(Settings(timeout_churn=TimeoutChurn(hold=MINUTE)))
    effects = [one for n in range(5) for one in book.take(churn(f"user-{n}", n))]
    assert [name for name, *_ in said(effects)] == ["*"]
    assert len(list(book.open())) == 3


def test_a_mass_expiry_of_100_000_sessions_is_one_storm() -> None:
    findings = [long(f"s-{n}", n // 1000, f"user-{n}") for n in range(100_000)]
    book = Book()
    began = process_time()
    records = fired([one for finding in findings for one in book.take(finding)])
    took = process_time() - began
    assert len(records) == 51
    assert took < 10
    (update,) = [one for one in fired(book.advance(T + MINUTE)) if one.count]
    assert update.count == pytest.approx(99_950, rel=0.06)
    assert "about" in update.summary
    state = book.changed()
    assert len(state) == 51
    assert sum(len(value or b"") for _, value in state) < 64 * 1024
    assert len(encode_alert(update).value or b"") < 64 * 1024
    (end,) = [one for one in fired(book.advance(T + HOUR)) if one.count]
    assert (end.state, end.count) == (AlertState.RESOLVED, update.count)


def test_after_a_crash_in_a_storm_the_same_is_counted_whatever_was_written() -> None:
    """Killed after the storm was published, with any number of pieces written; all is told again."""
    steps = [churn(f"user-{n}", n // 3) for n in range(12)]
    first = Book(FEW)
    published = fired([one for step in steps for one in first.take(step)])
    pieces = first.changed()
    assert pieces[-1][0].decode() == f"alert/{storm_fingerprint((CHURN, None), '')}", "a storm is written after those that made it one"
    whole = fired(first.advance(T + DAY))
    for written in range(len(pieces) + 1):
        again = Book(FEW)
        for key, value in pieces[:written]:
            assert value is not None
            again.restore(key, value)
        told = fired([one for step in steps for one in again.take(step)])
        assert all(one in published for one in told), "published again perhaps, never otherwise"
        ends = fired(again.advance(T + DAY))
        assert {(one.fingerprint, one.state, one.since, one.ended, one.count) for one in ends} == {
            (one.fingerprint, one.state, one.since, one.ended, one.count) for one in whole
        }


@st.composite
def histories(draw: st.DrawFn) -> list[Finding | Cleared]:
    at, steps = 0, []
    for _ in range(draw(st.integers(1, 50))):
        at += draw(st.sampled_from([0, 0, 1, SECOND, 30 * SECOND, MINUTE, 5 * MINUTE, WINDOW - 1, WINDOW, WINDOW + 1]))
        name = draw(st.integers(0, 7))
        finding = churn(f"user-{name}", at) if draw(st.booleans()) else long(f"s-{name}", at, draw(st.sampled_from(["svc", "other", None])))
        step = Cleared(finding.about, finding.at) if draw(st.integers(0, 5)) == 0 else finding
        # Seen and cleared in one millisecond: that of a thing a replay can't put in order.
        if not any(one.about == step.about and one.at == step.at and type(one) is not type(step) for one in steps):
            steps.append(step)
    return steps


def lives(effects: list) -> set[tuple]:
    return {(one.fingerprint, one.state, one.since, one.ended, one.count if one.ended else None) for one in fired(effects)}


def run(book: Book, steps: list, looks: bool = True) -> list:
    return [one for step in steps for one in book.take(step) + (book.advance(step.at) if looks else [])]


@given(histories(), st.data())
def test_a_restart_in_a_storm_tells_the_same_again_and_nothing_else(history: list, data: st.DataObject) -> None:
    """Killed at any point between two checkpoints less than a window apart, with any beginning of the second one written."""
    first = data.draw(st.integers(0, len(history)))
    near = [place + 1 for place in range(first, len(history)) if history[place].at - history[first].at < WINDOW]
    killed = data.draw(st.sampled_from([first, *near]))
    end = history[-1].at + HOUR
    book = Book(FEW)
    published = run(book, history[:first])
    state = {key: value for key, value in book.changed() if value is not None}
    published += run(book, history[first:killed])
    pieces = book.changed()
    state |= dict(pieces[: data.draw(st.integers(0, len(pieces)))])
    restarted = Book(FEW)
    for key, value in state.items():
        if value is not None:
            restarted.restore(key, value)
    published += run(restarted, history[first:], data.draw(st.booleans())) + restarted.advance(end)
    whole = Book(FEW)
    assert lives(published) == lives(run(whole, history) + whole.advance(end))


def test_kinds_of_which_nothing_began_of_late_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.detect.storms._FEW_KINDS", 10)
    begun = Begun()
    for n in range(100):
        begun.add(Subject(CHURN, subject=f"user-{n}"), T + n * HOUR)
    assert len(begun._by_kind) < 2 * 26


# --- counting different things -----------------------------------------------------------------------


def counted(names: range) -> Distinct:
    one = Distinct()
    for n in names:
        one.add(Subject(CHURN, subject=str(n)).fingerprint)
    return one


@pytest.mark.parametrize("many", [0, 1, 1000, EXACT])
def test_few_are_counted_exactly(many: int) -> None:
    one = counted(range(many))
    assert (one.count, one.exact) == (many, True)


@pytest.mark.parametrize("many", [EXACT + 1, 2000, 5000, 10_000, 12_000, 20_000])
def test_many_are_counted_within_four_standard_errors(many: int) -> None:
    one = counted(range(many))
    assert not one.exact
    assert one.count == pytest.approx(many, rel=4 * 0.01625)


@given(st.lists(st.integers(0, 3000), max_size=50), st.sampled_from([0, EXACT - 5, EXACT, 3000]))
def test_once_more_and_in_another_order_is_the_same(more: list[int], many: int) -> None:
    one, other = counted(range(many)), Distinct()
    for n in more:
        one.add(Subject(CHURN, subject=str(n)).fingerprint)
    for n in reversed([*more, *range(many), *more]):
        other.add(Subject(CHURN, subject=str(n)).fingerprint)
    assert (one.count, one.to_bytes()) == (other.count, other.to_bytes())
    same = Distinct.from_bytes(one.to_bytes())
    assert (same.count, same.exact, same.to_bytes()) == (one.count, one.exact, one.to_bytes())


@pytest.mark.parametrize("data", [b"", b"x", b"=1234567", b"~" + bytes(100)])
def test_bytes_that_are_no_count_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no count"):
        Distinct.from_bytes(data)
