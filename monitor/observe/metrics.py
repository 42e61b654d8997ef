"""Every metric of the worker: declared here with its help, unit and labels, and nowhere else.

Names are `session_monitor_<what>_<base unit>`, counters end in `_total`. Each label takes its values from a
closed list, from the partitions, or from a `Bounded` set.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from monitor.core.effects import Notice
from monitor.core.instants import LogMillis, Millis
from monitor.core.session import HELD, Rows
from monitor.observe.labels import OTHER, Bounded
from monitor.observe.timings import Timings
from monitor.version import VERSION

NAMESPACE: Final = "session_monitor"
SOURCES: Final = 50
"""Sources of events that get a series of their own."""
REASONS: Final = 64
DUE_TO_PUBLISH_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
TURN_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
SMOOTHING: Final = 1 / 8
"""The weight of one new sample of a source's skew."""


class Timed(Protocol):
    """Timers of one partition."""

    armed: int


class DecidedPartition(Protocol):
    """The decisions of one partition, as far as they are counted here."""

    @property
    def number(self) -> int:
        """The partition's number."""

    @property
    def offset(self) -> int:
        """The next offset to be applied."""

    @property
    def log_time(self) -> LogMillis:
        """Its clock."""

    @property
    def rows(self) -> Rows:
        """The numbers of its sessions."""

    @property
    def timers(self) -> Timed:
        """What is armed."""

    @property
    def notices(self) -> Mapping[Notice, int]:
        """Things counted since the partition is ours."""


class Taken(Protocol):
    """What has been applied since the partition is ours."""

    @property
    def applied(self) -> int:
        """Records."""

    @property
    def hot(self) -> int:
        """How many of them took the hot way ..."""

    @property
    def ticks(self) -> int:
        """... and how many were ticks."""


class OwnedPartition(Protocol):
    """One partition under a worker's hand."""

    @property
    def partition(self) -> DecidedPartition:
        """Its decisions."""

    @property
    def intake(self) -> Taken:
        """Its way in."""

    @property
    def end_offset(self) -> int:
        """The log's end at the last fetch."""

    @property
    def backlog(self) -> int:
        """Records fetched and not applied."""


class WorkerMetrics:
    """The metrics of one worker process, on a registry of their own. Every call is O(1) but where it says so."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Without a registry it makes its own: nothing is shared between two of them."""
        self.registry = registry = registry or CollectorRegistry()
        ProcessCollector(namespace=NAMESPACE, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace=NAMESPACE, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, namespace=NAMESPACE, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, namespace=NAMESPACE, registry=registry, buckets=buckets)

        self.commands = counter("commands", "Commands decided, by type and reason.", "type", "reason")
        dead_letters = counter("dead_letters", "Records put aside as dead letters, by reason.", "reason")
        self.dead_letters = Bounded(dead_letters, REASONS)
        rerouted = counter(
            "rerouted", "Events written to the wrong partition and re-routed, by source.", "source"
        )
        self.rerouted = Bounded(rerouted, SOURCES)
        self.ticks = counter("ticks", "Ticks appended to partitions this worker owns.")
        self.throttled = counter("throttled", "Times that reading waited for the broker's acknowledgements.")
        self.strangers = counter(
            "strange_records", "Records of others found on topics that only the owner writes."
        )
        self.checkpointed_sessions = counter("checkpointed_sessions", "Sessions written by checkpoints.")
        self.due_to_publish = Timings(
            f"{NAMESPACE}_due_to_publish_seconds",
            "From the log time at which a command was due to its own append time.",
            DUE_TO_PUBLISH_BUCKETS,
            registry,
        )
        self.sweep_seconds = histogram(
            "sweep_seconds",
            "Time to bring every session up to date with controls, all partitions side by side.",
            TURN_BUCKETS,
        )
        self.checkpoint_seconds = histogram(
            "checkpoint_seconds", "Time from sealing a checkpoint to its commit.", TURN_BUCKETS
        )
        self.recovery_seconds = gauge("recovery_seconds", "Time that the last assignment took to recover.")

        self._events = counter(
            "events",
            "Records of access-events applied, by the way they took; ticks are the worker's own.",
            "partition",
            "path",
        )
        self._notices = counter("notices", "Things worth counting that changed nothing.", "notice")
        self._lag_records = gauge("lag_records", "Records on the log that are not applied yet.", "partition")
        self._lag_seconds = gauge(
            "lag_seconds", "Age of the log time while records wait; 0 when none do.", "partition"
        )
        self._behind = gauge("log_time_behind_seconds", "This machine's clock minus log time.", "partition")
        self._watermark_age = gauge(
            "watermark_age_seconds", "This machine's clock minus the last watermark decided.", "partition"
        )
        self._timers = gauge("timers_armed", "Timer entries held, stale ones included.", "partition")
        self._backlog = gauge("backlog_records", "Records fetched and waiting to be applied.", "partition")
        self._sessions = gauge("sessions", "Sessions held in memory, by state.", "partition", "state")
        self._skew = gauge(
            "source_skew_seconds",
            "Append time minus event time, smoothed: the way to the broker, and the error of the source's clock.",
            "source",
        )
        self._skews: dict[str, float] = {}
        gauge("build_info", "Always 1; the label says which version runs.", "version").labels(VERSION).set(1)
        self.decided_to: dict[int, LogMillis] = {}
        """The last watermark of each partition that is observed."""
        self._known: dict[int, _Known] = {}

    def observe_partition(self, owned: OwnedPartition, wall_now_ms: Millis, decided_to_ms: LogMillis) -> None:
        """Take one partition's figures, about once a second. O(20,000) at the most, whatever it holds."""
        partition, intake = owned.partition, owned.intake
        number = str(partition.number)
        known = self._known.get(partition.number)
        if known is None or known.intake is not intake:
            known = self._known[partition.number] = _Known(intake)
        applied, hot = intake.applied, intake.hot
        ticks = intake.ticks
        self._events.labels(number, "hot").inc(max(0, hot - known.hot))
        self._events.labels(number, "tick").inc(max(0, ticks - known.ticks))
        cold = applied - hot - ticks - (known.applied - known.hot - known.ticks)
        self._events.labels(number, "cold").inc(max(0, cold))
        known.applied, known.hot, known.ticks = applied, hot, ticks
        for notice, count in partition.notices.items():
            self._notices.labels(notice.value).inc(max(0, count - known.notices.get(notice, 0)))
            known.notices[notice] = count
        lag = max(0, owned.end_offset - partition.offset)
        behind = (wall_now_ms - partition.log_time) / 1000
        self._lag_records.labels(number).set(lag)
        self._lag_seconds.labels(number).set(max(0.0, behind) if lag else 0.0)
        self._behind.labels(number).set(behind)
        self.decided_to[partition.number] = decided_to_ms
        self._watermark_age.labels(number).set((wall_now_ms - decided_to_ms) / 1000)
        self._timers.labels(number).set(partition.timers.armed)
        self._backlog.labels(number).set(owned.backlog)
        for state, count in partition.rows.census().items():
            self._sessions.labels(number, state.name.lower()).set(count)

    def observe_skew(self, source: str | None, stated: Millis, appended: LogMillis) -> None:
        """One sample of how far a source's stated time stands from the broker's clock (negative: it is fast)."""
        name = (source or "unknown")[:100]
        if name not in self._skews and len(self._skews) >= SOURCES:
            name = OTHER
        sample = (appended - stated) / 1000
        before = self._skews.get(name, sample)
        self._skews[name] = before + (sample - before) * SMOOTHING
        self._skew.labels(name).set(self._skews[name])

    def forget_partition(self, number: int) -> None:
        """It is somebody else's now: its series end here."""
        if self._known.pop(number, None) is None:
            return
        self.decided_to.pop(number, None)
        label = str(number)
        for gauge in (
            self._lag_records, self._lag_seconds, self._behind, self._watermark_age, self._timers, self._backlog,
        ):  # fmt: skip
            gauge.remove(label)
        for state in HELD:
            self._sessions.remove(label, state.name.lower())
        for path in ("hot", "cold", "tick"):
            self._events.remove(label, path)


class _Known:
    """What was counted of one partition at the last look."""

    __slots__ = ("applied", "hot", "intake", "notices", "ticks")

    def __init__(self, intake: Taken) -> None:
        self.intake = intake
        self.applied = 0
        self.hot = 0
        self.ticks = 0
        self.notices: dict[Notice, int] = {}
