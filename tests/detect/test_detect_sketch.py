"""Quantiles of a sketch against exact ones, and what merging, fading and bytes must not change."""

from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.errors import InvariantError
from monitor.core.instants import DAY, SECOND
from monitor.detect.sketch import FAINT, MOST_BUCKETS, Sketch

DURATIONS = st.integers(0, 3650 * DAY) | st.integers(0, 200) | st.sampled_from([0, 1, 2, 900_000, 1_800_000])
SHARES = st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0]) | st.floats(0, 1)
ALPHAS = st.sampled_from([0.001, 0.01, 0.02, 0.05, 0.3])
WEIGHTS = st.sampled_from([1.0, 0.5, 0.25, 3.0, 2.0**-20])
"""Sums of these are exact: where a sketch and a list disagree about a rank, it is no rounding."""
WEIGHTED = st.lists(st.tuples(DURATIONS, WEIGHTS), max_size=60)


def sketch(weighted, **made) -> Sketch:
    one = Sketch(**made)
    for duration, weight in weighted:
        one.add(duration, weight)
    return one


def exact(weighted, share: float) -> int:
    """The smallest duration that `share` of the weight does not exceed."""
    seen, total = 0.0, sum(weight for _, weight in weighted)
    for duration, weight in sorted(weighted):
        seen += weight
        if seen >= share * total:
            return duration
    raise AssertionError


def within(alpha: float, told: float, true: int) -> bool:
    return abs(told - true) <= alpha * true * (1 + 1e-9)


@settings(max_examples=200)
@given(WEIGHTED.filter(bool), SHARES, ALPHAS)
def test_a_quantile_is_within_alpha_of_the_exact_one(weighted, share, alpha) -> None:
    one = sketch(weighted, alpha=alpha, most=1 << 16)
    assert within(alpha, one.quantile(share), exact(weighted, share))


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.1])
def test_the_guarantee_holds_on_both_sides_of_every_bucket(alpha) -> None:
    one = Sketch(alpha, most=1 << 16)
    gamma = (1 + alpha) / (1 - alpha)
    edges = {round(gamma**index) + nudge for index in range(0, one.bucket(DAY), 7) for nudge in (-1, 0, 1)}
    for duration in edges:
        assert within(alpha, sketch([(duration, 1.0)], alpha=alpha).quantile(0.5), duration)


def test_many_sessions_by_rank() -> None:
    weighted = [(second * SECOND, 1.0) for second in range(1, 10_001)]
    one = sketch(weighted)
    assert one.count == 10_000
    for share in (0.001, 0.25, 0.5, 0.75, 0.99, 0.999, 1):
        assert within(0.01, one.quantile(share), exact(weighted, share))


def test_of_nothing_there_is_no_quantile() -> None:
    assert Sketch().quantile(0.5) is None
    assert Sketch().count == 0


def test_what_took_no_time_or_less_took_none() -> None:
    one = sketch([(0, 2.0), (-5, 1.0), (1000, 1.0)])
    assert (one.quantile(0.0), one.quantile(0.75)) == (0.0, 0.0)
    assert within(0.01, one.quantile(0.76), 1000)
    assert sketch([(0, 1.0)]).quantile(1.0) == 0.0


@settings(max_examples=150)
@given(WEIGHTED.filter(bool), SHARES, st.integers(1, 40))
def test_with_few_buckets_a_quantile_may_be_too_long_but_only_in_the_lowest(weighted, share, most) -> None:
    alpha, one = 0.05, sketch(weighted, alpha=0.05, most=most)
    told, true = one.quantile(share), exact(weighted, share)
    lowest = max(one.bucket(duration) or 0 for duration, _ in weighted) - most + 1
    assert len(one.weights) <= most
    if true > 0 and one.bucket(true) < lowest:
        gamma = (1 + alpha) / (1 - alpha)
        assert told == pytest.approx(2 * gamma**lowest / (gamma + 1))
        assert told >= true * (1 - alpha)
    else:
        assert within(alpha, told, true)


def test_ten_years_beside_half_a_second_collapse_nothing() -> None:
    one = sketch([(500, 1.0), (3650 * DAY, 1.0)])
    assert within(0.01, one.quantile(0.5), 500)
    assert len(one.weights) <= MOST_BUCKETS == one.most
    assert sketch([(400, 1.0), (3650 * DAY, 1.0)]).quantile(0.5) > 404


@settings(max_examples=150)
@given(st.lists(st.tuples(DURATIONS, WEIGHTS, st.integers(0, 3)), max_size=60), st.permutations(range(4)), st.booleans(), st.sampled_from([3, 50, 1024]))
def test_merging_and_adding_in_any_order_comes_to_the_same_bytes(told, order, grouped, most) -> None:
    whole = sketch([(duration, weight) for duration, weight, _ in told], most=most)
    parts = [sketch([(duration, weight) for duration, weight, part in reversed(told) if part == number], most=most) for number in order]
    if grouped:
        parts[0].merge(parts[1])
        parts[2].merge(parts[3])
        parts = [parts[0], parts[2]]
    merged = parts[0]
    for part in parts[1:]:
        before = part.to_bytes()
        merged.merge(part)
        assert part.to_bytes() == before
    assert merged.to_bytes() == whole.to_bytes()


def test_only_sketches_of_one_kind_merge() -> None:
    with pytest.raises(ValueError, match="same alpha"):
        Sketch(0.01).merge(Sketch(0.02))
    with pytest.raises(ValueError, match="number of buckets"):
        Sketch(most=10).merge(Sketch(most=11))


@settings(max_examples=200)
@given(WEIGHTED.filter(bool), st.integers(0, 18), SHARES)
def test_fading_all_alike_moves_no_quantile(weighted, halvings, share) -> None:
    one, faded = sketch(weighted), sketch(weighted)
    faded.fade(2.0**-halvings)
    assert faded.count == one.count * 2.0**-halvings
    assert faded.quantile(share) == one.quantile(share)
    faded.fade(2.0**halvings)
    assert faded.to_bytes() == one.to_bytes()


@given(WEIGHTED, WEIGHTED, st.floats(0.001, 1))
def test_fading_and_merging_change_places(some, others, factor) -> None:
    one, other, both = sketch(some), sketch(others), sketch(some + others)
    for faded in (one, other, both):
        faded.fade(factor)
    one.merge(other)
    assert isclose(one.count, both.count, rel_tol=1e-12, abs_tol=1e-9)


def test_what_is_older_weighs_less() -> None:
    one = sketch([(1000, 10.0)])
    one.fade(0.05)
    one.add(60_000)
    assert within(0.01, one.quantile(0.5), 60_000)
    assert within(0.01, one.quantile(1 / 3), 1000)


def test_what_is_too_faint_is_gone_and_its_buckets_with_it() -> None:
    one = sketch([(0, 1.0), (5, 1.0), (10**6, 4.0), (10**9, 1.0)])
    one.fade(FAINT / 2)
    assert one.count == 2 * FAINT
    assert one.to_bytes() == sketch([(10**6, 2 * FAINT)]).to_bytes()
    assert len(one.weights) == 1
    one.fade(0.0)
    assert (one.count, one.quantile(0.5), one.to_bytes()) == (0, None, Sketch().to_bytes())
    one.add(7)
    assert within(0.01, one.quantile(0.5), 7)


@settings(max_examples=200)
@given(WEIGHTED, st.floats(0.01, 1), ALPHAS, st.sampled_from([4, 1024]), SHARES)
def test_bytes_bring_back_every_bit(weighted, factor, alpha, most, share) -> None:
    one = sketch(weighted, alpha=alpha, most=most)
    one.fade(factor)
    again = Sketch.from_bytes(one.to_bytes())
    assert (again.alpha, again.most) == (alpha, most)
    for both in (one, again):
        both.add(77_777, factor)
    assert (again.count, again.quantile(share), again.to_bytes()) == (one.count, one.quantile(share), one.to_bytes())


def test_bytes_are_few() -> None:
    assert len(Sketch().to_bytes()) < 30
    assert len(sketch([(second * SECOND, 0.3) for second in range(60, 12 * 3600)]).to_bytes()) < 3500


@pytest.mark.parametrize("bad", [b"", b"\x00", Sketch().to_bytes()[:-1], sketch([(5, 1.0)]).to_bytes()[:-3]])
def test_bytes_that_are_no_sketch_are_refused(bad) -> None:
    with pytest.raises(InvariantError, match="can't be read"):
        Sketch.from_bytes(bad)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Sketch(0), lambda: Sketch(1), lambda: Sketch(most=0), lambda: Sketch().add(5, -1.0),
        lambda: Sketch().add(5, float("inf")), lambda: Sketch().fade(float("nan")), lambda: Sketch().fade(-1.0), lambda: Sketch().quantile(99),
    ],
)  # fmt: skip
def test_nonsense_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match=r"."):
        wrong()
