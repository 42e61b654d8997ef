"""The backlog: bounded, and no gap in it that was not there but for `apart`."""

from collections import defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from monitor.core.events import EventType
from monitor.gateway import Facts
from monitor.gateway.backlog import Backlog
from monitor.gateway.enforcer import NOTHING_SEEN, Seen
from monitor.gateway.evidence import Evidence

MINUTE = 60_000


def used(name: str, time: int, seen: Seen = NOTHING_SEEN) -> Evidence:
    return Evidence(EventType.ACTIVITY, Facts(name), seen, time)


def times(taken, name: str) -> list[int]:
    return [one.time for one in taken if one.facts.session_id == name]


def test_of_a_burst_the_first_and_the_last_remain() -> None:
    backlog = Backlog(100)
    for time in range(0, 250, 10):
        assert backlog.add(used("a", time))
    assert (len(backlog), backlog.folded) == (2, 23)
    assert times(backlog.take(), "a") == [0, 240]
    assert (len(backlog), backlog.take()) == (0, [])


def test_what_says_something_else_is_another_piece_and_all_come_in_order() -> None:
    backlog = Backlog(100)
    for time, seen in ((3, Seen("x")), (1, NOTHING_SEEN), (2, Seen("x")), (4, Seen("y"))):
        backlog.add(used("a", time, seen))
    assert [one.time for one in backlog.take()] == [1, 2, 3, 4]


def test_an_outage_takes_bounded_room_and_every_session_stays_in_use() -> None:
    """Ten minutes of 20 sessions, a request each second: 12,000 pieces in 400."""
    backlog = Backlog(400)
    for second in range(600):
        for number in range(20):
            assert backlog.add(used(f"s-{number}", second * 1000))
    assert len(backlog) <= 400
    assert backlog.apart <= MINUTE
    taken = backlog.take()
    for number in range(20):
        kept = times(taken, f"s-{number}")
        assert (kept[0], kept[-1]) == (0, 599_000)
        assert max(after - before for before, after in pairwise(kept)) <= MINUTE
    assert backlog.apart == 250


def test_where_nothing_can_be_thinned_there_is_no_room_but_for_repetitions() -> None:
    backlog = Backlog(4, furthest=1000)
    assert [backlog.add(used(name, 0)) for name in "abcde"] == [True] * 4 + [False]
    backlog.take()
    assert [backlog.add(used("a", time)) for time in (0, 1, 2, 5000, 5100, 5150, 20_000)] == [True] * 6 + [False]


@given(st.integers(1, 12), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3000), st.integers(-50, 0)), max_size=80))
def test_nothing_that_was_left_out_lies_in_a_gap_of_more_than_it_says(limit, steps) -> None:
    backlog, now, given_, widest = Backlog(limit, apart=100, furthest=1600), 0, defaultdict(list), 100
    for name, later, late in steps:
        now += later
        if backlog.add(used(name, now + late)):
            given_[name].append(now + late)
        widest = max(widest, backlog.apart)
        assert len(backlog) <= limit
    count, taken = len(backlog), backlog.take()
    assert len(taken) == count == sum(map(len, given_.values())) - backlog.folded
    for name, all_ in given_.items():
        kept = times(taken, name)
        assert (kept[0], kept[-1]) == (min(all_), max(all_))
        for time in set(all_) - set(kept):
            before, after = max(one for one in kept if one < time), min(one for one in kept if one > time)
            assert after - before <= widest
