"""Detection on Apache Kafka, killed in the middle of a burst: one alert, the right count, and no second life."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from tests.kafka.plain import Worker, consumer, rfc3339

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

POLICY = """
version: 1
timing: {lateness: 200ms}
defaults: {idle: 1s, absolute: 12h}
detect:
  timeout_churn: {count: 5, window: 45s, resolve_after: 2s}
"""
SESSIONS = 8


class Detection(Worker):
    """One `session-monitor detect run` process."""

    def __init__(self, bootstrap: str, prefix: str, policy: Path, log: Path) -> None:
        super().__init__(bootstrap, prefix, policy, log)
        at = self._command.index("worker")
        self._command = [
            *self._command[:at], "detect", "run", "--bootstrap-servers", bootstrap, "--topic-prefix", prefix, "--session-timeout", "6s",
            "--checkpoint", "200ms",
        ]  # fmt: skip


def alerts(bootstrap: str, prefix: str) -> list[dict[str, Any]]:
    """Every one that was told."""
    return records(bootstrap, f"{prefix}session-alerts")


def records(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """Every record of the topic, compaction having had no time."""
    found = []
    with consumer(bootstrap, topic) as reader:
        ends = reader.end_offsets(reader.assignment())
        while any(reader.position(place) < end for place, end in ends.items()):
            found += [json.loads(record.value) for some in reader.poll(200).values() for record in some if record.value]
    return found


def until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def open_session(producer: KafkaProducer, prefix: str, number: int) -> None:
    event = {"type": "session.opened", "session_id": f"m-{number}", "subject": "mallory", "time": rfc3339(int(time.time() * 1000))}
    producer.send(f"{prefix}access-events", key=f"m-{number}".encode(), value=json.dumps(event).encode()).get(10)


def lives(found: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {(one["fingerprint"], one["state"], one["since"]) for one in found}


def test_killed_in_a_burst_it_fires_once_with_the_right_count_and_what_is_over_does_not_come_back(kafka_topics, tmp_path: Path) -> None:
    bootstrap, prefix = kafka_topics
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    detection = Detection(bootstrap, prefix, policy, tmp_path / "detection.log")
    with Worker(bootstrap, prefix, policy, tmp_path / "worker.log") as worker:
        worker.wait_until_ready()
        try:
            detection.start().wait_until_ready()
            for number in range(SESSIONS):
                open_session(producer, prefix, number)
                time.sleep(0.5)
                if number in {3, 5}:
                    detection.kill()
                    detection.start()
            detection.wait_until_ready()
            until(lambda: bool(alerts(bootstrap, prefix)), 30, "the alert has not fired")
            until(lambda: alerts(bootstrap, prefix)[-1]["evidence"]["seen"]["timeouts"] == SESSIONS, 60, detection.tail())
            until(lambda: alerts(bootstrap, prefix)[-1]["state"] == "resolved", 90, detection.tail())
            told = alerts(bootstrap, prefix)
            assert len(lives(told)) == 2, "it fired once, and was over once"
            assert {(one["alert"], one["subject"]) for one in told} == {("timeout_churn", "mallory")}
            assert max(one["evidence"]["seen"]["timeouts"] for one in told) == SESSIONS
            detection.kill()
            detection.start().wait_until_ready()
            open_session(producer, prefix, SESSIONS)
            time.sleep(5)
            assert lives(alerts(bootstrap, prefix)) == lives(told)
            assert detection.stop() == 0, detection.tail()
        finally:
            detection.ensure_dead()
            producer.close()


def test_an_alert_that_may_lock_keeps_its_subject_out(kafka_topics, tmp_path: Path) -> None:
    bootstrap, prefix = kafka_topics
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.replace("count: 5,", "count: 3, act: lock, act_for: 10m,"))
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    detection = Detection(bootstrap, prefix, policy, tmp_path / "detection.log")
    with Worker(bootstrap, prefix, policy, tmp_path / "worker.log") as worker:
        worker.wait_until_ready()
        try:
            detection.start().wait_until_ready()
            for number in range(3):
                open_session(producer, prefix, number)
            until(lambda: len(records(bootstrap, f"{prefix}session-control")) == 2, 30, detection.tail())
            lock = records(bootstrap, f"{prefix}session-control")[-1]
            assert (lock["type"], lock["target"], lock["by"]) == ("control.lock", {"subject": "mallory"}, "detection/timeout_churn")
            open_session(producer, prefix, 3)
            ended = {"session_id": "m-3", "reason": "locked"}
            until(lambda: any(ended.items() <= one.items() for one in records(bootstrap, f"{prefix}session-commands")), 30, worker.tail())
            told = [one for one in records(bootstrap, f"{prefix}session-lifecycle") if one.get("control_id") == lock["id"]]
            assert {one["session_id"] for one in told} >= {"m-3"}
        finally:
            detection.ensure_dead()
            producer.close()
