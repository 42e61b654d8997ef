"""Percentiles and gaps, at their edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.bench.figures import longest_gap, percentile, spread
from monitor.core.errors import AbsenceError


@pytest.mark.parametrize(
    ("share", "wanted"), [(0.0, 1), (0.01, 1), (0.011, 2), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_percentile_is_the_nearest_rank(share, wanted) -> None:
    assert percentile(range(1, 101), share) == wanted


@given(st.lists(st.integers(), min_size=1), st.floats(0.001, 1.0))
def test_at_least_that_share_of_the_values_does_not_exceed_it(values, share) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-3
    assert sum(value < found for value in ordered) < share * len(ordered) + 1e-3


def test_no_values_give_no_figure() -> None:
    with pytest.raises(AbsenceError, match="nothing was seen"):
        spread([])


def test_spread_says_how_many_there_were() -> None:
    found = spread([30.0, 10.0, 20.0])
    assert (found.count, found.p50, found.p99, found.worst) == (3, 20.0, 30.0, 30.0)


@pytest.mark.parametrize(
    ("times", "wanted"),
    [([], 100), ([10, 20], 80), ([50], 50), ([5, 95], 90), ([70, 30], 40), ([-500, 1000], 100), ([0, 100], 100)],
)
def test_longest_gap_reaches_to_the_ends_and_no_further(times, wanted) -> None:
    assert longest_gap(times, 0, 100) == wanted
