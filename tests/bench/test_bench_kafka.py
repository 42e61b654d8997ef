"""Each benchmark once on a real Apache Kafka, small: that it measures, and that a bound it misses ends it with 1."""

import json
import subprocess
import sys
from typing import Any

import pytest
from kafka import KafkaAdminClient

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(180)]


def bench(kafka, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The result that it printed; its topics must be gone."""
    command = [sys.executable, "-m", "monitor", "bench", *arguments]
    command += ["--bootstrap-servers", kafka.bootstrap_servers, "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == code, done.stderr
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        names = ("bench-", "stock-", "memory-", "latency-", "recovery-", "revoke-", "failover-")
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
