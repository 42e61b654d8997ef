"""Quantiles of durations that are counted: many are equal, where one receipt covers many commands."""

from collections.abc import Mapping

from monitor.core.instants import Millis


def quantile(counted: Mapping[Millis, int], share: float) -> Millis | None:
    """The smallest duration that at least this share of all do not exceed (nearest rank); None of none. O(n log n) of the different ones."""
    total = sum(counted.values())
    seen = 0
    for duration in sorted(counted):
        seen += counted[duration]
        # Compared as counts: a share such as 0.99 is no exact number.
        if seen >= total or seen >= share * total:
            return duration
    return None
