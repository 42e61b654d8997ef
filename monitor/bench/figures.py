"""Figures out of what was seen: pure arithmetic, the same for a test and for a run of an hour."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from monitor.core.errors import AbsenceError


class Spread(msgspec.Struct, frozen=True):
    """How a quantity is spread, in its own unit."""

    count: int
    p50: float
    p99: float
    worst: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them do not exceed (nearest rank).

    `ordered` ascends. Never a value that was not seen. Raises AbsenceError where there are none.
    """
    if not ordered:
        raise AbsenceError("nothing was seen, so there is no figure: the run was too short, or nothing came")
    rank = -(-len(ordered) * round(share * 1_000_000) // 1_000_000)
    return ordered[min(len(ordered), max(1, rank)) - 1]


def spread(values: Iterable[float]) -> Spread:
    """The spread of the values. Raises AbsenceError where there are none."""
    ordered = sorted(values)
    return Spread(
        len(ordered), round(percentile(ordered, 0.5), 1), round(percentile(ordered, 0.99), 1),
        round(percentile(ordered, 1.0), 1),
    )  # fmt: skip


def longest_gap(times: Iterable[float], begin: float, end: float) -> float:
    """The longest time within begin..end in which nothing happened; the whole of it where nothing did."""
    within = [begin, *sorted(at for at in times if begin < at < end), end]
    return max(later - earlier for earlier, later in pairwise(within))
