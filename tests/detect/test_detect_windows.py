"""Sliding windows: exact at their edge, the same whatever the order, and bounded."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.core.instants import NEVER
from monitor.detect.windows import BUCKETS, EXACT, Window

SPAN = 3200
"""A window in the tests: buckets of 100."""
T = 1_795_500_000_000


def window(*instants: int) -> Window:
    one = Window()
    for at in instants:
        one.add(T + at, SPAN)
    return one


def test_an_instant_counts_for_the_window_and_no_longer() -> None:
    one = window(0)
    assert [one.count(T + at, SPAN) for at in (0, SPAN - 1, SPAN)] == [1, 1, 0]
    one.trim(T + SPAN - 1, SPAN)
    assert one
    one.trim(T + SPAN, SPAN)
    assert not one


def test_below_is_the_instant_at_which_too_few_are_left() -> None:
    one = window(5, 10, 20, 20)
    assert [one.below(n, SPAN) - T for n in (1, 2, 3, 4)] == [SPAN + 20, SPAN + 20, SPAN + 10, SPAN + 5]
    assert (one.below(5, SPAN), one.below(1, SPAN), Window().below(1, SPAN)) == (NEVER, T + SPAN + 20, NEVER)
    for n in (1, 3, 4):
        at = one.below(n, SPAN)
        assert one.count(at - 1, SPAN) >= n > one.count(at, SPAN)


def test_beyond_the_exact_ones_instants_are_rounded_down_and_never_count_too_long() -> None:
    one = window(*(150 for _ in range(EXACT + 3)))
    assert one.count(T + 150, SPAN) == EXACT + 3
    assert one.rounded == [(T + 100, 3)]
    assert [one.count(T + at, SPAN) for at in (SPAN + 99, SPAN + 100, SPAN + 149, SPAN + 150)] == [EXACT + 3, EXACT, EXACT, 0]
    assert one.below(EXACT + 1, SPAN) == T + 100 + SPAN
    assert one.below(EXACT, SPAN) == T + 150 + SPAN


instants = st.lists(st.integers(T, T + 3 * SPAN), max_size=200)


@given(instants, st.randoms(use_true_random=False), st.integers(0, 200))
def test_neither_order_nor_merging_matters(told: list[int], random, cut: int) -> None:
    def filled(some: list[int]) -> Window:
        one = Window()
        for at in some:
            one.add(at, SPAN)
        return one

    shuffled = list(told)
    random.shuffle(shuffled)
    whole = filled(told)
    assert filled(shuffled) == whole
    left, right = filled(shuffled[:cut]), filled(shuffled[cut:])
    other = filled(shuffled[cut:])
    other.merge(filled(shuffled[:cut]), SPAN)
    left.merge(right, SPAN)
    assert left == other == whole


@given(instants, st.integers(T, T + 4 * SPAN))
def test_it_counts_as_a_naive_one_does_where_few_are_asked_for(told: list[int], now: int) -> None:
    one = Window()
    for at in told:
        one.add(at, SPAN)
    now = max([now, *told])
    naive = sum(1 for at in told if at > now - SPAN)
    seen = one.count(now, SPAN)
    assert min(seen, EXACT) == min(naive, EXACT)
    width = SPAN // BUCKETS
    cut = sum(1 for at in told if now - SPAN < at <= now - SPAN + width)
    assert naive - cut <= seen <= naive
    assert len(one.exact) <= EXACT
    assert len(one.rounded) <= BUCKETS + 1


def test_a_window_shorter_than_its_buckets_still_counts() -> None:
    one = Window()
    for _ in range(EXACT + 1):
        one.add(T, 7)
    assert (one.count(T + 6, 7), one.count(T + 7, 7)) == (EXACT + 1, 0)
