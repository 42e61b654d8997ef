"""How many events one CPU-second takes: the worker beside the stock Faust agent, on the same log."""

import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
from kafka.admin import KafkaAdminClient

from monitor.bench.load import run_preload
from monitor.bench.processes import usage
from monitor.broker.administration import apply_topics
from monitor.broker.connection import Connection
from monitor.core.errors import AbsenceError
from monitor.wire.topics import Topics

POLICY = "version: 1\ndefaults: {idle: 30m, absolute: 12h}\n"
WARM = 1.2
"""Times as many events as sessions, after which every session is known."""
PATIENCE = 300.0
"""Seconds without any progress after which a run has failed."""


class Drain(msgspec.Struct, frozen=True):
    """One process that emptied the log."""

    events: int
    cpu_seconds: float
    """From the moment that every session was known until the last event was committed ..."""
    warm_events: int
    """... and how many events that were."""
    cpu_seconds_cold: float
    """The same with the start of the process."""
    wall_seconds: float
    rss_bytes: int
    bytes_per_session: float
    """What resident memory grew by while draining, for each session: sessions, buffers and all."""

    @property
    def per_cpu_second(self) -> float:
        """Events per second of CPU, warm."""
        return self.warm_events / self.cpu_seconds if self.cpu_seconds else 0.0

    @property
    def per_cpu_second_cold(self) -> float:
        """The same with the start of the process, and the opening of every session."""
        return self.events / self.cpu_seconds_cold if self.cpu_seconds_cold else 0.0


class Throughput(msgspec.Struct, frozen=True):
    """The worker, and the yardstick of the same run."""

    sessions: int
    event_bytes: int
    monitor: Drain
    stock: Drain | None


def measure(connection: Connection, events: int, sessions: int, stock_events: int, directory: Path) -> Throughput:
    """Write the load, let each drain it, and account their CPU."""
    run = uuid.uuid4().hex[:8]
    topics = Topics(f"bench-{run}-", 8)
    apply_topics(connection, topics)
    size = run_preload(connection, topics, events, sessions)
    policy = directory / "policy.yaml"
    policy.write_text(POLICY)
    bootstrap = connection.bootstrap_servers
    worker = [
        sys.executable, "-m", "monitor", "worker", "--bootstrap-servers", bootstrap, "--topic-prefix", topics.prefix,
        "--policy", str(policy), "--from", "earliest",
    ]  # fmt: skip
    monitor = _drain(
        connection, worker, topics.app_id, topics.access_events.name, events, sessions, directory / "worker.log"
    )
    stock = None
    if stock_events:
        few = Topics(f"stock-{run}-", 8)
        apply_topics(connection, few)
        run_preload(connection, few, stock_events, min(sessions, stock_events))
        agent = [
            sys.executable, "-m", "monitor.worker.stock_agent", bootstrap, f"stock-{run}", few.access_events.name, "8",
        ]  # fmt: skip
        stock = _drain(
            connection, agent, f"stock-{run}", few.access_events.name, stock_events, 0, directory / "stock.log"
        )
    return Throughput(sessions, size, monitor, stock)


def _drain(
    connection: Connection, command: list[str], group: str, topic: str, events: int, sessions: int, log: Path
) -> Drain:
    """`sessions` are opened by the first events of the log; a little later all of them are sure to be known."""
    admin = KafkaAdminClient(**connection.kafka_python())
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - a command of ours
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
    try:
        ready, ready_at, moved = None, began, began
        committed = -1
        warm, warm_at = None, 0
        while committed < events:
            now = time.monotonic()
            if process.poll() is not None or now - moved > PATIENCE:
                raise AbsenceError(f"the run stopped at {committed} of {events} events:\n{_tail(log)}")
            seen = _committed(admin, group, topic)
            if seen is not None and ready is None:
                ready, ready_at = usage(process.pid), now
            if seen is not None and seen > committed:
                committed, moved = seen, now
                if warm is None and committed >= WARM * sessions:
                    warm, warm_at = usage(process.pid), committed
            time.sleep(0.05)
        end, ended = usage(process.pid), time.monotonic()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        admin.close()
    if ready is None or warm is None:
        raise AbsenceError(f"nothing was committed:\n{_tail(log)}")
    grown = (end.rss_bytes - ready.rss_bytes) / sessions if sessions else 0.0
    return Drain(
        events, end.cpu_seconds - warm.cpu_seconds, events - warm_at, end.cpu_seconds, ended - ready_at, end.rss_bytes,
        round(grown, 1),
    )  # fmt: skip


def _committed(admin: KafkaAdminClient, group: str, topic: str) -> int | None:
    """Events committed so far, over all partitions; None before the first commit. Ticks count too: they are few."""
    try:
        offsets: Any = admin.list_group_offsets([group])
    except Exception:  # noqa: BLE001 - no coordinator yet
        return None
    found = [entry.offset for entries in offsets.values() for tp, entry in entries.items() if tp.topic == topic and entry.offset >= 0]
    return sum(found) if found else None


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])
