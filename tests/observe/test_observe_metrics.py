"""The metrics: their names, their labels, and that nothing from outside makes them grow."""

import re
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from monitor.core.effects import Notice
from monitor.core.session import STATE_COLUMN, Rows, State
from monitor.observe.metrics import SOURCES, WorkerMetrics

LABELS = {"partition", "type", "reason", "source", "path", "state", "notice", "version", "le"}
"""Every label there may be. All but `source` and `reason` take their values from closed lists or partitions."""
UNITS = ("_seconds", "_bytes", "_records", "_sessions", "_armed", "_info", "_fds")
BARE = {"session_monitor_sessions"}
"""Gauges that count things: the thing is their unit."""


def owned(
    number=0, *, applied=0, hot=0, offset=0, end=0, log_time=1_000_000, states=(), notices=None, intake=None
):
    rows = Rows()
    for state in states:
        rows.columns[STATE_COLUMN][rows.take()] = state
    return SimpleNamespace(
        partition=SimpleNamespace(
            number=number, offset=offset, log_time=log_time, rows=rows, timers=SimpleNamespace(armed=7),
            notices=notices or {},
        ),
        intake=intake or SimpleNamespace(applied=applied, hot=hot, ticks=0),
        end_offset=end,
        backlog=3,
    )  # fmt: skip


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"session_monitor_{name}", labels)


@pytest.fixture
def used() -> WorkerMetrics:
    metrics = WorkerMetrics()
    metrics.commands.labels("session.expire", "idle_timeout").inc()
    metrics.dead_letters.labels("not_json").inc()
    metrics.rerouted.labels("gateway/eu-1").inc()
    metrics.observe_skew("gateway/eu-1", 1000, 1500)
    metrics.due_to_publish.observe(0.03)
    notices = {Notice.GAP: 1}
    metrics.observe_partition(
        owned(3, applied=10, hot=4, states=[State.LIVE], notices=notices), 1_002_000, 999_000
    )
    return metrics


def test_every_name_and_label_is_as_prometheus_wants_them(used):
    for family in used.registry.collect():
        assert family.name.startswith("session_monitor_")
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", family.name), family.name
        assert family.documentation.endswith("."), family.name
        if family.name.startswith("session_monitor_process_"):
            continue
        if family.type == "counter":
            assert all(s.name.endswith(("_total", "_created")) for s in family.samples), family.name
        else:
            assert family.name.endswith(UNITS) or family.name in BARE, family.name
        for sample in family.samples:
            assert set(sample.labels) <= LABELS, (family.name, sample.labels)


def test_all_of_it_can_be_scraped(used):
    assert b"session_monitor_due_to_publish_seconds_bucket" in generate_latest(used.registry)


@pytest.mark.parametrize("name", ["rerouted", "dead_letters"])
def test_a_label_from_outside_is_bounded(name):
    metrics = WorkerMetrics()
    for number in range(1000):
        getattr(metrics, name).labels(f"made-up-{number}").inc()
    series = [s for f in metrics.registry.collect() if f.name == f"session_monitor_{name}" for s in f.samples]
    totals = [s for s in series if s.name.endswith("_total")]
    assert len(totals) <= 65
    assert sum(s.value for s in totals) == 1000
    assert max(s.value for s in totals) > 900


def test_skew_is_smoothed_per_source_and_bounded():
    metrics = WorkerMetrics()
    for _ in range(100):
        metrics.observe_skew("fast", 3000, 1000)
        metrics.observe_skew("slow", 1000, 3000)
    assert value(metrics, "source_skew_seconds", source="fast") == pytest.approx(-2)
    assert value(metrics, "source_skew_seconds", source="slow") == pytest.approx(2)
    for number in range(10 * SOURCES):
        metrics.observe_skew(f"made-up-{number}", 0, 0)
    samples = next(
        f for f in metrics.registry.collect() if f.name == "session_monitor_source_skew_seconds"
    ).samples
    assert len(samples) == SOURCES + 1


def test_a_partition_shows_lag_and_age():
    metrics = WorkerMetrics()
    metrics.observe_partition(owned(2, offset=40, end=50, log_time=990_000), 1_000_000, 988_000)
    assert value(metrics, "lag_records", partition="2") == 10
    assert value(metrics, "lag_seconds", partition="2") == 10
    assert value(metrics, "log_time_behind_seconds", partition="2") == 10
    assert value(metrics, "watermark_age_seconds", partition="2") == 12
    assert value(metrics, "timers_armed", partition="2") == 7
    assert metrics.decided_to == {2: 988_000}


def test_nothing_unread_is_no_lag_however_old_the_log_time():
    metrics = WorkerMetrics()
    metrics.observe_partition(owned(2, offset=50, end=50, log_time=990_000), 1_000_000, 988_000)
    assert value(metrics, "lag_seconds", partition="2") == 0
    assert value(metrics, "log_time_behind_seconds", partition="2") == 10


def test_events_and_notices_are_counted_once_each():
    metrics = WorkerMetrics()
    one = owned(1, applied=10, hot=4, notices={Notice.GAP: 2})
    metrics.observe_partition(one, 0, 0)
    one.intake.applied, one.intake.hot = 30, 20
    one.partition.notices[Notice.GAP] = 3
    metrics.observe_partition(one, 0, 0)
    assert value(metrics, "events_total", partition="1", path="hot") == 20
    assert value(metrics, "events_total", partition="1", path="cold") == 10
    assert value(metrics, "notices_total", notice="gap") == 3


def test_a_partition_that_comes_back_counts_from_its_new_start():
    metrics = WorkerMetrics()
    metrics.observe_partition(owned(1, applied=10, hot=4), 0, 0)
    metrics.observe_partition(owned(1, applied=3, hot=1), 0, 0)
    assert value(metrics, "events_total", partition="1", path="hot") == 5
    assert value(metrics, "events_total", partition="1", path="cold") == 8


def test_a_partition_that_is_forgotten_has_no_series_left():
    metrics = WorkerMetrics()
    metrics.observe_partition(owned(1, states=[State.LIVE]), 0, 0)
    metrics.observe_partition(owned(2), 0, 0)
    metrics.forget_partition(1)
    metrics.forget_partition(1)
    metrics.forget_partition(77)
    left = {
        s.labels["partition"]
        for f in metrics.registry.collect()
        for s in f.samples
        if "partition" in s.labels
    }
    assert left == {"2"}
    assert metrics.decided_to.keys() == {2}


def test_sessions_are_counted_by_state():
    metrics = WorkerMetrics()
    states = [State.LIVE] * 3 + [State.EXPIRED] * 2 + [State.REVOKED]
    metrics.observe_partition(owned(0, states=states), 0, 0)
    counted = {s: value(metrics, "sessions", partition="0", state=s) for s in ("live", "expired", "revoked")}
    assert counted == {"live": 3, "expired": 2, "revoked": 1}


def test_two_workers_in_one_process_share_nothing():
    registry = CollectorRegistry()
    one, other = WorkerMetrics(registry), WorkerMetrics()
    one.ticks.inc()
    assert registry.get_sample_value("session_monitor_ticks_total") == 1
    assert value(other, "ticks_total") == 0
