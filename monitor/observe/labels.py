"""Labels whose values come from outside, held to a bound: no stranger grows our memory or the scraper's."""

from typing import Final, Generic, Protocol, TypeVar

OTHER: Final = "other"
"""Stands for every value that came after the bound was reached."""

Child_co = TypeVar("Child_co", covariant=True)


class Labelled(Protocol[Child_co]):
    """A metric with labels."""

    def labels(self, *values: str) -> Child_co:
        """The series for these label values."""


class Bounded(Generic[Child_co]):
    """A metric with one label of which only the first `most` values get a series of their own."""

    def __init__(self, metric: Labelled[Child_co], most: int) -> None:
        """At most `most` + 1 series, one of them `other`."""
        self._metric = metric
        self._most = most
        self._seen: set[str] = set()

    def labels(self, value: str) -> Child_co:
        """The series for this value, or for `other`. A value is cut after 100 characters."""
        value = value[:100]
        if value in self._seen:
            return self._metric.labels(value)
        if len(self._seen) < self._most:
            self._seen.add(value)
            return self._metric.labels(value)
        return self._metric.labels(OTHER)
