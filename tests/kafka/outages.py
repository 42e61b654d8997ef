"""What the outage tests stand on: a broker with listeners behind proxies, and a cast whose ends are known beforehand."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

from confluent_kafka import Producer

from monitor.broker.administration import apply_topics
from monitor.broker.apache import ApacheKafka
from monitor.broker.connection import Connection
from monitor.broker.port import LOOPBACK, free_port
from monitor.verify import Report, verify
from monitor.verify.log import topic_log
from monitor.wire.topics import Topics
from tests.kafka.plain import millis, read_all, rfc3339
from tests.kafka.proxy import Proxy
from tests.kafka.verifier import verify as verify_by_brute_force

IDLE, ABSOLUTE, LATENESS, GRACE = 12_000, 30_000, 2000, 10_000
POLICY = """
version: 1
timing: {lateness: 2s, outage_grace: 10s, source_grace: 5m}
defaults: {idle: 12s, absolute: 12h}
rules:
  - {name: capped, when: {workload: [training]}, absolute: 30s}
"""
MODEL: dict[str, Any] = {
    "classifications": ["public", "internal", "confidential", "restricted"],
    "timing": {"lateness": LATENESS, "outage_grace": GRACE, "source_grace": 300_000, "credential_lifetime": 86_400_000},
    "defaults": {"idle": IDLE, "absolute": 43_200_000, "warn_before": []},
    "rules": [{"name": "capped", "when": {"workload": ["training"]}, "absolute": ABSOLUTE}],
    "exceptions": [],
}


class Behind:
    """An Apache Kafka of one test's own, which one worker and one source reach through a proxy each."""

    def __init__(self, make: Callable[..., ApacheKafka]) -> None:
        port, controller, for_worker, for_source = (free_port() for _ in range(4))
        self._stack = ExitStack()
        self.worker_proxy = self._stack.enter_context(Proxy(for_worker))
        self.source_proxy = self._stack.enter_context(Proxy(for_source))
        named = {"PLAINTEXT": port, "WORKER": for_worker, "SOURCE": for_source}
        advertised = {"PLAINTEXT": port, "WORKER": self.worker_proxy.port, "SOURCE": self.source_proxy.port}
        self.broker = make(
            port=port,
            settings={
                "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
                "listeners": _listeners(named | {"CONTROLLER": controller}),
                "advertised.listeners": _listeners(advertised),
                "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in (*named, "CONTROLLER")),
                "inter.broker.listener.name": "PLAINTEXT",
            },
        )
        self.direct = self.broker.bootstrap_servers
        self.through_worker_proxy = f"{LOOPBACK}:{self.worker_proxy.port}"
        self.through_source_proxy = f"{LOOPBACK}:{self.source_proxy.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def topics(self, prefix: str) -> str:
        apply_topics(Connection(bootstrap_servers=self.direct), Topics(prefix), replication=1)
        return prefix


def _listeners(ports: dict[str, int]) -> str:
    return ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items())


class Cast(threading.Thread):
    """Sessions of one source: `active` ones, `idle` ones that fall silent at `hush`, `capped` ones that work on past their absolute limit.

    An event that can't be delivered waits, with the time at which it happened, and goes out in order.
    """

    def __init__(self, bootstrap: str, prefix: str, source: str, *, announced: bool = False, each: int = 12) -> None:
        super().__init__(daemon=True)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 5, "enable.idempotence": True,
                "reconnect.backoff.max.ms": 500, "message.timeout.ms": 240_000, "log_level": 2,
            }
        )  # fmt: skip
        self.source, self._announced = source, announced
        self._events, self._commands = f"{prefix}access-events", f"{prefix}session-commands"
        self.active, self.idle, self.capped = (
            [f"{source}/{role}-{number}" for number in range(each)] for role in ("active", "idle", "capped")
        )
        self.first: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.acknowledged = 0
        self.failed: list[str] = []
        self._hushed, self._over = threading.Event(), threading.Event()

    def run(self) -> None:
        turn = 0
        while not self._over.is_set():
            began = time.monotonic()
            for place, name in enumerate([*self.active, *self.idle, *self.capped]):
                if (turn + place) % 3 == 0 and not (self._hushed.is_set() and name in self.idle):
                    self._event(name)
            if self._announced:
                said = {"type": "source.alive", "source": self.source, "time": rfc3339(int(time.time() * 1000))}
                for partition in range(8):
                    self._send(said, None, partition)
            while (left := began + 1 - time.monotonic()) > 0:
                self._producer.poll(min(left, 0.1))
            turn += 1
        assert self._producer.flush(30) == 0

    def hush(self) -> None:
        """The idle ones fall silent."""
        self._hushed.set()

    def stop(self) -> None:
        """Everything is sent and acknowledged."""
        self._over.set()
        self.join(40)
        assert not self.is_alive()
        assert self.failed == []

    def _event(self, name: str) -> None:
        now = int(time.time() * 1000)
        said = {"type": "session.activity", "session_id": name, "subject": name, "time": rfc3339(now), "source": self.source}
        # Known, both: what is not known meets every rule, and the highest classification waits for no source.
        said |= {"classification": "internal", "workload": "training" if name in self.capped else "console"}
        self.first.setdefault(name, now)
        self.last[name] = now
        self._send(said, name, -1)

    def _send(self, said: dict[str, Any], key: str | None, partition: int) -> None:
        given = {} if partition < 0 else {"partition": partition}
        self._producer.produce(self._events, key=key, value=json.dumps(said).encode(), on_delivery=self._told, **given)

    def _told(self, error: Any, _record: Any) -> None:
        self.acknowledged += error is None
        if error is not None:
            self.failed.append(str(error))

    # -- what has to have come of it --------------------------------------------------------------------

    def wrongs(self, bootstrap: str) -> list[str]:
        """Not one active session expired; each idle one at its own deadline; each capped one at its absolute limit."""
        told: dict[str, set[tuple[str, str, int]]] = {}
        for record in read_all(bootstrap, self._commands):
            said = json.loads(record.value) if record.value else {"type": ""}
            if said["type"].startswith("session."):
                decision = said["type"], said["reason"], millis(said["effective_at"])
                told.setdefault(said["session_id"], set()).add(decision)
        wanted = {name: set() for name in self.active}
        wanted |= {name: {("session.expire", "idle_timeout", self.last[name] + IDLE)} for name in self.idle}
        wanted |= {name: {("session.expire", "absolute_timeout", self.first[name] + ABSOLUTE)} for name in self.capped}
        return [
            f"{name}: {sorted(told.get(name, set()))}, has to be {sorted(want)}"
            for name, want in wanted.items()
            if told.get(name, set()) != want
        ]


def judged(bootstrap: str, prefix: str) -> Report:
    """Held, by the product's verifier and by the brute-force one; without exception."""
    report = held(bootstrap, prefix)
    found = verify_by_brute_force(bootstrap, prefix, {POLICY: MODEL})
    assert not found.wrong, repr(found)
    assert found.events == sum(one.events for one in report.partitions)
    assert found.commands == sum(one.commands for one in report.partitions)
    return report


def held(bootstrap: str, prefix: str) -> Report:
    """Held, by the product's verifier, and nothing was left unjudged."""
    connection, topics = Connection(bootstrap_servers=bootstrap), Topics(prefix)
    with topic_log(connection, topics) as log:
        report = verify(log, topics)
    assert report.violations == []
    assert report.unjudged == []
    return report
