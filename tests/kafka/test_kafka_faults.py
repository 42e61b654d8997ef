"""A worker killed under load and started again; workers that join and leave. Judged by the naive model."""

import json
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from monitor.broker.administration import apply_topics
from monitor.broker.apache import ApacheKafka
from monitor.broker.connection import Connection
from monitor.wire.topics import Topics
from tests.kafka.outages import held
from tests.kafka.plain import Worker, rfc3339
from tests.kafka.verifier import Findings, verify

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

POLICY = """
version: 1
timing: {lateness: 2s, outage_grace: 4s}
defaults: {idle: 4s, absolute: 20s}
rules:
  - name: secret
    when: {classification: {at_least: restricted}}
    idle: 2s
"""
MODEL: dict[str, Any] = {
    "classifications": ["public", "internal", "confidential", "restricted"],
    "timing": {"lateness": 2000, "outage_grace": 4000, "source_grace": 300_000, "credential_lifetime": 86_400_000},
    "defaults": {"idle": 4000, "absolute": 20_000, "warn_before": []},
    "rules": [{"name": "secret", "when": {"classification": {"at_least": "restricted"}}, "idle": 2000}],
    "exceptions": [],
}


class Load(threading.Thread):
    """Sessions that come, work at their own pace, and stop: about 150 events a second."""

    def __init__(self, bootstrap: str, prefix: str, seconds: float, seed: int) -> None:
        super().__init__(daemon=True)
        self._servers, self._topic, self._seconds = bootstrap, f"{prefix}access-events", seconds
        self._dice = random.Random(seed)
        self.sent = 0

    def run(self) -> None:
        producer = Producer({"bootstrap.servers": self._servers, "acks": "all", "partitioner": "murmur2_random", "linger.ms": 5})
        pace = {f"s{number}": self._dice.choice([0.3, 1.0, 2.5, 6.0]) for number in range(120)}
        due = {name: self._dice.random() * 10 for name in pace}
        began = time.monotonic()
        while (now := time.monotonic() - began) < self._seconds:
            for name, at in due.items():
                if at <= now:
                    due[name] = now + pace[name] * (0.5 + self._dice.random())
                    self._send(producer, name)
            producer.poll(0.01)
        producer.flush()

    def _delivered(self, error: Any, _record: Any) -> None:
        assert error is None, error
        self.sent += 1

    def _send(self, producer: Producer, name: str) -> None:
        event: dict[str, Any] = {
            "type": "session.activity", "session_id": name, "subject": f"user-{name}",
            "time": rfc3339(int(time.time() * 1000) - self._dice.choice([0, 0, 20, 300])),
        }  # fmt: skip
        event["classification"] = "restricted" if name.endswith("7") else "internal"
        if self._dice.random() < 0.02:
            event["auth_time"] = rfc3339(int(time.time() * 1000) - 50)
        producer.produce(self._topic, key=name.encode(), value=json.dumps(event).encode(), on_delivery=self._delivered)


def _judge(bootstrap: str, prefix: str) -> Findings:
    findings = verify(bootstrap, prefix, {POLICY: MODEL})
    assert not findings.wrong, repr(findings)
    held(bootstrap, prefix)
    return findings


def _policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def test_worker_killed_under_load_misses_and_contradicts_nothing(kafka_topics, tmp_path: Path) -> None:
    bootstrap, prefix = kafka_topics
    dice = random.Random(7)
    load = Load(bootstrap, prefix, 80, seed=7)
    worker = Worker(bootstrap, prefix, _policy(tmp_path), tmp_path / "worker.log").start()
    try:
        worker.wait_until_ready()
        load.start()
        for _ in range(22):
            time.sleep(1 + 4 * dice.random())
            worker.kill()
            worker.start()
        load.join()
        worker.wait_until_ready()
        time.sleep(12)  # every idle deadline has struck, whatever the graces
        assert worker.stop() == 0, worker.tail()
    finally:
        worker.ensure_dead()
    findings = _judge(bootstrap, prefix)
    assert findings.events >= load.sent > 1000
    assert findings.commands > 100


def test_second_and_third_worker_join_and_leave_without_a_trace(kafka_topics, tmp_path: Path) -> None:
    bootstrap, prefix = kafka_topics
    policy = _policy(tmp_path)
    load = Load(bootstrap, prefix, 30, seed=11)
    first = Worker(bootstrap, prefix, policy, tmp_path / "first.log").start()
    second = Worker(bootstrap, prefix, policy, tmp_path / "second.log")
    third = Worker(bootstrap, prefix, policy, tmp_path / "third.log")
    try:
        first.wait_until_ready()
        load.start()
        time.sleep(6)
        second.start()
        time.sleep(4)
        third.start()
        time.sleep(5)
        assert second.stop() == 0, second.tail()
        time.sleep(5)
        second.start()
        time.sleep(4)
        assert first.stop() == 0, first.tail()
        load.join()
        time.sleep(12)
        assert third.stop() == 0, third.tail()
        assert second.stop() == 0, second.tail()
    finally:
        third.ensure_dead()
        first.ensure_dead()
        second.ensure_dead()
    findings = _judge(bootstrap, prefix)
    assert findings.events >= load.sent > 1000
    assert findings.commands > 100


def test_worker_stopped_for_longer_than_its_session_timeout_does_no_harm(kafka_topics, tmp_path: Path) -> None:
    bootstrap, prefix = kafka_topics
    policy = _policy(tmp_path)
    load = Load(bootstrap, prefix, 30, seed=23)
    zombie = Worker(bootstrap, prefix, policy, tmp_path / "zombie.log").start()
    heir = Worker(bootstrap, prefix, policy, tmp_path / "heir.log")
    try:
        zombie.wait_until_ready()
        heir.start()
        heir.wait_until_ready()
        load.start()
        time.sleep(6)
        assert zombie.process is not None
        zombie.process.send_signal(signal.SIGSTOP)
        time.sleep(11)  # its partitions go to the heir, who decides on
        zombie.process.send_signal(signal.SIGCONT)
        load.join()
        time.sleep(12)
        assert heir.stop() == 0, heir.tail()
        time.sleep(3)
        zombie.stop()
    finally:
        zombie.ensure_dead()
        heir.ensure_dead()
    findings = _judge(bootstrap, prefix)
    assert findings.events >= load.sent > 1000
    assert findings.commands > 100


def test_broker_killed_under_load_loses_and_contradicts_nothing(tmp_path: Path) -> None:
    with ApacheKafka(short_lived=True) as broker:
        bootstrap, prefix = broker.bootstrap_servers, "t-"
        apply_topics(Connection(bootstrap_servers=bootstrap), Topics(prefix))
        load = Load(bootstrap, prefix, 30, seed=31)
        worker = Worker(bootstrap, prefix, _policy(tmp_path), tmp_path / "worker.log").start()
        try:
            worker.wait_until_ready()
            load.start()
            for _ in range(2):
                time.sleep(6)
                broker.kill()
                time.sleep(2)
                broker.restart()
            load.join()
            time.sleep(14)
            assert worker.stop() == 0, worker.tail()
        finally:
            worker.ensure_dead()
        findings = _judge(bootstrap, prefix)
        assert findings.events >= load.sent > 1000
        assert findings.commands > 100
