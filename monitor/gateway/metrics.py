"""Every metric of a gateway: declared here with its help, unit and labels, and nowhere else.

As in `observe.metrics`; labels take their values from closed lists and from the partitions.
"""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitor.core.instants import SECOND, Millis
from monitor.core.reasons import Reason
from monitor.gateway.facts import Now
from monitor.gateway.figures import Figures
from monitor.gateway.in_force import InForce
from monitor.gateway.verdict import Outcome, Verdict
from monitor.gateway.view import NO_MARK, View
from monitor.observe.labels import OTHER
from monitor.observe.metrics import NAMESPACE
from monitor.observe.timings import Timings
from monitor.wire.problem import Refusal

STALE: Final = "stale"
"""The reason of a request that was served by a stale view; one that was served by a fresh one has none."""
EVENT_OUTCOMES: Final = ("published", "refused", "lost")
"""`refused`: they, or others of their request, can't be understood; `lost`: not known to be on the log."""
RECEIPTS: Final = ("gateway.applied", "gateway.refused", "gateway.stopped")
ENFORCED_IN: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the time to enforce, in seconds."""
FATES: Final = ("published", "coalesced", "lost")
REASONS: Final = (*(reason.value for reason in Reason), *(refusal.value for refusal in Refusal), OTHER)


class GatewayMetrics:
    """The metrics of one gateway, on a registry of their own. Counting a decision takes less than a microsecond."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Without a registry it makes its own: nothing is shared between two of them."""
        self.registry = registry = registry or CollectorRegistry()
        ProcessCollector(namespace=NAMESPACE, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"gateway_{name}", text, labels, namespace=NAMESPACE, registry=registry)

        decisions = Counter(
            "gateway_decisions", "Requests judged, by verdict and reason.", ("verdict", "reason"), namespace=NAMESPACE, registry=registry
        )
        self._admitted = {stale: decisions.labels(Outcome.ADMIT.value, STALE if stale else "") for stale in (False, True)}
        self._refused = {reason: decisions.labels(Outcome.REFUSE.value, reason) for reason in REASONS}
        cut = Counter("gateway_cut", "Running requests and open streams that were cut, by reason.", ("reason",), namespace=NAMESPACE, registry=registry)
        self._cut = {reason: cut.labels(reason) for reason in REASONS}
        self._age = gauge("view_age_seconds", "Since the partition's log time last advanced here; +Inf: never.", "partition")
        self._loaded = gauge("view_loaded", "1: the view has been loaded, 0: nobody is admitted yet.")
        self._behind = gauge("view_behind_controls", "1: some partition is ruled by controls that have not been read here.")
        self._sessions = gauge("view_sessions", "Sessions that the view holds: ended, or reinstated.")
        self._locks = gauge("view_locks", "Locks that the view holds.")
        self._not_understood = gauge("view_commands_not_understood", "Commands that were not understood: their sessions are refused.")
        self._passed_over = gauge("view_records_passed_over", "Records that were no control, warning or watermark.")
        self._subscribers = gauge("api_subscribers", "Clients that follow a session at this moment.")
        events = Counter(
            "gateway_api_events", "Events that came over HTTP, by what became of them.", ("outcome",), namespace=NAMESPACE, registry=registry
        )
        self._events = {outcome: events.labels(outcome) for outcome in EVENT_OUTCOMES}
        self._enforced_in = Timings(
            f"{NAMESPACE}_gateway_time_to_enforce_seconds",
            "From a command's append time, by the broker's clock, until it was in force here; what was loaded at the start is not counted.",
            ENFORCED_IN, registry,
        )  # fmt: skip
        receipts = Counter("gateway_receipts", "Receipts that the broker has acknowledged, by type.", ("type",), namespace=NAMESPACE, registry=registry)
        self._receipts = {type_: receipts.labels(type_) for type_ in RECEIPTS}
        self._receipts_lost = Counter(
            "gateway_receipts_lost", "Refusals that were not told for want of room: too many waited for the broker.", namespace=NAMESPACE, registry=registry
        )
        self._activity_figures: Callable[[], Figures] = Figures
        registry.register(_Activity(self))

    def decided(self, verdict: Verdict) -> None:
        """Count one decision. A reason that is not known here is counted as `other`."""
        if verdict.admitted:
            self._admitted[verdict.stale].inc()
        else:
            self._refused.get(verdict.reason, self._refused[OTHER]).inc()

    def subscribers(self, count: int) -> None:
        """So many clients follow a session now."""
        self._subscribers.set(count)

    def events(self, *, published: int = 0, refused: int = 0, lost: int = 0) -> None:
        """Count the events of one request to publish."""
        for outcome, count in zip(EVENT_OUTCOMES, (published, refused, lost), strict=True):
            self._events[outcome].inc(count)

    def cut(self, verdict: Verdict, inflight: int) -> None:
        """Count what was cut while it ran."""
        self._cut.get(verdict.reason, self._cut[OTHER]).inc(inflight)

    def in_force(self, told: InForce) -> None:
        """Count the commands that came into force, by how long that took. For the one thread that follows."""
        for appended, times in told.commands.items():
            # The two clocks are those of two machines.
            self._enforced_in.observe(max(0, told.now.wall - appended) / SECOND, times)

    def receipt_written(self, type_: str) -> None:
        """Count a receipt that the broker has: one of `RECEIPTS`."""
        self._receipts[type_].inc()

    def receipt_lost(self) -> None:
        """Count a refusal that will not be told."""
        self._receipts_lost.inc()

    def watch_activity(self, figures: Callable[[], Figures]) -> None:
        """Ask these with each scrape."""
        self._activity_figures = figures

    @property
    def activity(self) -> Figures:
        """What has become of the activity of sessions so far."""
        return self._activity_figures()

    def observe(self, view: View, now: Now) -> None:
        """Take the view's figures: before each scrape. O(partitions and locks)."""
        self._age.clear()
        if view.loaded:
            for partition in range(len(view.positions)):
                self._age.labels(str(partition)).set(_seconds(view.age(partition, now.monotonic), now))
        self._loaded.set(view.loaded)
        self._behind.set(view.behind)
        self._sessions.set(len(view.commanded))
        self._locks.set(len(view.locks))
        self._not_understood.set(view.not_understood)
        self._passed_over.set(view.refused)


class _Activity(Collector):
    """Of figures that are counted elsewhere."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """As the registry asks."""
        figures = self._metrics.activity
        events = CounterMetricFamily(
            f"{NAMESPACE}_gateway_activity_events", "Events of sessions in use, by what became of them; coalesced ones needed no record.", labels=["fate"]
        )
        for fate in FATES:
            events.add_metric([fate], getattr(figures, fate))
        yield events
        yield GaugeMetricFamily(f"{NAMESPACE}_gateway_activity_buffered", "Such events that wait for the broker.", figures.buffered)


def _seconds(age: Millis, now: Now) -> float:
    return float("inf") if age >= now.monotonic - NO_MARK else age / SECOND
