"""Every metric of delivery: declared here with its help, unit and labels, and nowhere else.

As in `observe.metrics`; `receiver` is one of those that were set up.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from monitor.core.instants import SECOND, Millis
from monitor.observe.metrics import NAMESPACE
from monitor.wire.alerts import AlertState

REFUSED: Final = "receiver_refused"
UNREACHABLE: Final = "receiver_unreachable"
PUT_ASIDE: Final = (REFUSED, UNREACHABLE)
"""Reasons of dead letters."""


class NotifyMetrics:
    """The metrics of one notifier. Thread-safe; every call is O(1)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Without a registry it makes its own: nothing is shared between two of them."""
        self.registry = registry = registry or CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"notify_{name}", text, ("receiver", *labels), namespace=NAMESPACE, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"notify_{name}", text, ("receiver",), namespace=NAMESPACE, registry=registry)

        self._delivered = counter("delivered", "States of alerts that the receiver has taken.", "state")
        self._failures = counter("failures", "Attempts that failed and are made again.")
        self._put_aside = counter("put_aside", "Alerts that became dead letters: refused for good, or given up.", "reason")
        self._silenced = counter("silenced", "States of alerts that were not told, being silenced.")
        self._not_understood = counter("not_understood", "Records on session-alerts that are no alert.")
        self._waiting = gauge("waiting_seconds", "Since the alert that is being delivered was due; 0: none waits.")
        self._behind = gauge("behind", "Records on session-alerts that have not been looked at.")
        self._connected = gauge("connected", "1: session-alerts is being followed, 0: the broker is waited for.")

    def begin(self, receiver: str) -> None:
        """Show this receiver's series, before anything has happened to it."""
        for state in AlertState:
            self._delivered.labels(receiver, state.value)
        for reason in PUT_ASIDE:
            self._put_aside.labels(receiver, reason)
        for one in (self._failures, self._silenced, self._not_understood, self._waiting, self._behind, self._connected):
            one.labels(receiver)

    def delivered(self, receiver: str, state: AlertState) -> None:
        """One has been taken."""
        self._delivered.labels(receiver, state.value).inc()

    def failed(self, receiver: str) -> None:
        """An attempt failed."""
        self._failures.labels(receiver).inc()

    def put_aside(self, receiver: str, reason: str) -> None:
        """One became a dead letter; `reason` is one of `PUT_ASIDE`."""
        self._put_aside.labels(receiver, reason).inc()

    def silenced(self, receiver: str) -> None:
        """One was not told."""
        self._silenced.labels(receiver).inc()

    def not_understood(self, receiver: str) -> None:
        """One was no alert."""
        self._not_understood.labels(receiver).inc()

    def waiting(self, receiver: str, time: Millis) -> None:
        """So long has the one that is being delivered been due."""
        self._waiting.labels(receiver).set(time / SECOND)

    def behind(self, receiver: str, records: int) -> None:
        """So many are still to be looked at."""
        self._behind.labels(receiver).set(records)

    def connected(self, receiver: str, *, whether: bool) -> None:
        """Whether the topic is being followed."""
        self._connected.labels(receiver).set(whether)
