"""Coalescing: the first at once, the latest at the end, nothing new held back."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.core.events import EventType
from monitor.publish.coalescer import Coalescer
from monitor.publish.draft import Draft

GRANULARITY = 1000


def activity(time: int, session: str = "s", kind: str | None = None, **stated: object) -> Draft:
    return Draft(
        type=EventType.ACTIVITY, session_id=session, id=str(time), kind=kind, time=time, stated=stated
    )


def closed(time: int) -> Draft:
    return Draft(type=EventType.CLOSED, session_id="s", id=str(time), time=time)


def times(drafts: list[Draft]) -> list[int | None]:
    return [draft.time for draft in drafts]


def test_the_first_goes_at_once_and_the_latest_at_the_end_of_the_window():
    coalescer = Coalescer(GRANULARITY)
    assert times(coalescer.take(activity(0), 0)) == [0]
    assert coalescer.take(activity(300), 300) == []
    assert coalescer.take(activity(700), 700) == []
    assert coalescer.held == 1
    assert coalescer.due(999) == []
    assert times(coalescer.due(1000)) == [700]
    assert coalescer.held == 0


def test_the_window_after_a_held_one_counts_from_its_own_time():
    coalescer = Coalescer(GRANULARITY)
    coalescer.take(activity(0), 0)
    coalescer.take(activity(700), 700)
    coalescer.due(1000)
    assert coalescer.take(activity(1700), 1699) == []
    assert coalescer.next_at() == 1700
    assert times(coalescer.due(1700)) == [1700]


def test_an_event_after_the_window_goes_at_once_after_what_is_held():
    coalescer = Coalescer(GRANULARITY)
    coalescer.take(activity(0), 0)
    coalescer.take(activity(900), 900)
    assert times(coalescer.take(activity(1001), 1001)) == [900, 1001]


def test_an_older_one_does_not_replace_the_latest():
    coalescer = Coalescer(GRANULARITY)
    coalescer.take(activity(0), 0)
    coalescer.take(activity(500), 500)
    assert coalescer.take(activity(400), 600) == []
    assert times(coalescer.due(1000)) == [500]


def test_a_time_the_sent_one_does_not_vouch_for_goes_at_once():
    coalescer = Coalescer(GRANULARITY)
    coalescer.take(activity(5000), 0)
    assert times(coalescer.take(activity(4999), 1)) == [4999]
    assert times(coalescer.take(activity(5999), 2)) == []
    assert times(coalescer.take(activity(6000), 3)) == [5999, 6000]


def test_another_attribute_goes_at_once_after_what_is_held():
    coalescer = Coalescer(GRANULARITY)
    coalescer.take(activity(0, classification="public"), 0)
    coalescer.take(activity(100), 100)
    assert times(coalescer.take(activity(200, classification="restricted"), 200)) == [100, 200]
    assert coalescer.take(activity(300, classification="restricted"), 300) == []


def test_an_unstated_attribute_is_no_change():
    coalescer = Coalescer(GRANULARITY)
    coalescer.take(activity(0, subject="alice", roles=("a",)), 0)
    assert coalescer.take(activity(100), 100) == []
    assert coalescer.take(activity(200, subject="alice"), 200) == []


def test_each_kind_has_its_own_window():
    coalescer = Coalescer(GRANULARITY)
    assert times(coalescer.take(activity(0, kind="human"), 0)) == [0]
    assert times(coalescer.take(activity(1, kind="inflight"), 1)) == [1]
    coalescer.take(activity(2, kind="human"), 2)
    coalescer.take(activity(3, kind="inflight"), 3)
    assert times(coalescer.due(1001)) == [2, 3]


def test_another_type_goes_at_once_after_everything_held_and_ends_the_windows():
    coalescer = Coalescer(GRANULARITY)
    coalescer.take(activity(0, kind="human"), 0)
    coalescer.take(activity(1, kind="agent"), 1)
    coalescer.take(activity(20, kind="human"), 20)
    coalescer.take(activity(10, kind="agent"), 21)
    assert times(coalescer.take(closed(30), 30)) == [10, 20, 30]
    assert times(coalescer.take(activity(31, kind="human"), 31)) == [31]


def test_everything_held_can_be_had_at_once_without_loosening_the_rate():
    coalescer = Coalescer(GRANULARITY)
    for session in ("a", "b"):
        coalescer.take(activity(0, session), 0)
        coalescer.take(activity(10 if session == "b" else 20, session), 20)
    assert times(coalescer.everything()) == [10, 20]
    assert coalescer.held == 0
    assert coalescer.take(activity(30, "a"), 30) == []


def test_silent_sessions_are_forgotten():
    coalescer = Coalescer(GRANULARITY)
    for number in range(100):
        coalescer.take(activity(0, str(number)), 0)
    coalescer.due(1000)
    assert not coalescer._bursts
    assert coalescer.next_at() is None


def test_no_granularity_sends_everything():
    coalescer = Coalescer(0)
    assert [times(coalescer.take(activity(0), 0)) for _ in range(3)] == [[0], [0], [0]]
    assert not coalescer._bursts


CALLS = st.lists(
    st.tuples(
        st.integers(0, 700),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["human", "keepalive"]),
        st.sampled_from([None, "public", "restricted"]),
    ),
    max_size=40,
)


@given(CALLS)
def test_nothing_left_out_is_later_than_the_granularity_after_something_sent(calls):
    """The property that makes coalescing safe: whatever is left out, a sent one of its kind is close behind and before."""
    coalescer, now, offered, sent = Coalescer(GRANULARITY), 0, [], []
    for gap, session, kind, classification in calls:
        now += gap
        sent += coalescer.due(now)
        stated = {} if classification is None else {"classification": classification}
        offered.append(activity(now, session, kind, **stated))
        sent += coalescer.take(offered[-1], now)
    sent += coalescer.due(now + 2 * GRANULARITY)
    assert coalescer.held == 0
    assert len({id(one) for one in sent}) == len(sent)
    for one in offered:
        same = [other.time for other in sent if (other.session_id, other.kind) == (one.session_id, one.kind)]
        assert any(0 <= one.time - time <= GRANULARITY for time in same)
        assert any(0 <= time - one.time <= GRANULARITY for time in same)
    for session in ("a", "b"):
        said = [one.stated["classification"] for one in offered if one.session_id == session and one.stated]
        told = [one.stated["classification"] for one in sent if one.session_id == session and one.stated]
        assert _steps(said) == _steps(told)


def _steps(words: list[object]) -> list[object]:
    """The words without immediate repetition."""
    return [word for number, word in enumerate(words) if number == 0 or words[number - 1] != word]
