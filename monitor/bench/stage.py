"""Where a benchmark takes place: topics of its own on a broker, workers with the shipped settings, loads beside them."""

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError

from monitor.bench import generator, preload
from monitor.bench.observer import Observer
from monitor.bench.processes import Program
from monitor.broker.administration import apply_topics
from monitor.broker.clients import administrator, consumer
from monitor.broker.connection import Connection
from monitor.core.errors import AbsenceError
from monitor.wire.topics import Topics

PARTITIONS = 8
PATIENCE = 300.0
"""Seconds without any progress after which a run has failed."""
SHARES = 2
"""Programs that preload side by side."""


class Stage:
    """A context: topics under a new prefix, gone at its end like whatever was started on it."""

    def __init__(self, connection: Connection, directory: Path, policy: str, name: str = "bench") -> None:
        """`policy` is the text that rules the workers. Logs go to `directory`."""
        self.connection = connection
        self.topics = Topics(f"{name}-{uuid.uuid4().hex[:8]}-", PARTITIONS)
        self._directory = directory
        self._policy = policy
        self._programs: list[Program] = []

    def __enter__(self) -> Self:
        """Make the topics."""
        apply_topics(self.connection, self.topics)
        self._path("policy.yaml").write_text(self._policy)
        # Whatever file of settings lies in the working directory: those shipped count.
        self._path("shipped.toml").write_text("")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what runs, the last first, and remove the topics."""
        for program in reversed(self._programs):
            program.stop(10)
        with contextlib.suppress(AbsenceError, KafkaError), administrator(self.connection) as admin:
            admin.delete_topics([topic.name for topic in self.topics.all()], raise_errors=False)
            admin.delete_groups([self.topics.app_id])

    def _path(self, name: str) -> Path:
        return self._directory / f"{self.topics.prefix}{name}"

    def run(self, name: str, arguments: Sequence[str], program: str = sys.executable) -> Program:
        """Start a program that ends with this stage."""
        started = Program(arguments, self._path(f"{name}.log"), program)
        self._programs.append(started)
        return started.start()

    def gateway(self, port: int, *options: str) -> Program:
        """Start a sidecar with the shipped settings and these options."""
        return self.run(
            "gateway",
            [
                "-m", "monitor", "--config", str(self._path("shipped.toml")), "gateway",
                "--bootstrap-servers", self.connection.bootstrap_servers, "--topic-prefix", self.topics.prefix,
                "--port", str(port), *options,
            ],
        )  # fmt: skip

    def write(self, name: str, text: str) -> Path:
        """A file that programs of this stage read."""
        path = self._path(name)
        path.write_text(text)
        return path

    def worker(self, name: str = "worker", *options: str) -> Program:
        """Start a worker with the shipped settings and these options."""
        return self.run(
            name,
            [
                "-m", "monitor", "--config", str(self._path("shipped.toml")), "worker",
                "--bootstrap-servers", self.connection.bootstrap_servers, "--topic-prefix", self.topics.prefix,
                "--policy", str(self._path("policy.yaml")), "--from", "earliest", "--name", name, *options,
            ],
        )  # fmt: skip

    def ready(self, observer: Observer, worker: Program, since: int = 0, seconds: float = 120.0) -> float:
        """When every partition was at work (milliseconds since 1970), judged by its watermarks from mark `since` on."""

        def done() -> bool:
            worker.require()
            return observer.fresh_at(since) is not None

        observer.until(done, seconds, "a watermark of each partition with log time within 1 s of now")
        at = observer.fresh_at(since)
        if at is None:
            raise AbsenceError("the watermarks are gone")
        return at

    def preload(self, sessions: int, events: int, first: int = 0) -> preload.Filled:
        """Fill the log: each session once, then uniform. Returns when all is acknowledged."""
        shares = min(SHARES, os.cpu_count() or 1)
        programs = []
        for share in range(shares):
            spec = preload.Spec(
                bootstrap_servers=self.connection.bootstrap_servers, prefix=self.topics.prefix,
                partitions=self.topics.partitions, sessions=sessions, events=events, first=first, share=share, shares=shares,
            )  # fmt: skip
            programs.append(
                self.run(f"preload-{first}-{share}", ["-m", "monitor.bench.preload", msgspec.json.encode(spec).decode()])
            )
        openings: dict[int, int] = {}
        written: dict[int, int] = {}
        for program in programs:
            program.wait(PATIENCE + events / 10_000)
            said = msgspec.json.decode(program.report(), type=preload.Filled)
            openings |= said.openings
            written |= said.written
        return preload.Filled(openings, written)

    def ends(self) -> dict[int, int]:
        """Where each partition of the log ends now: the load, and the owner's ticks."""
        with consumer(self.connection) as client:
            return {place.partition: end for place, end in client.end_offsets(_places(self.topics)).items()}

    def load(self, name: str = "load", **wanted: Any) -> Program:
        """Start a steady load; `wanted` as in `generator.Spec`."""
        spec = generator.Spec(
            bootstrap_servers=self.connection.bootstrap_servers, prefix=self.topics.prefix,
            partitions=self.topics.partitions, **wanted,
        )  # fmt: skip
        return self.run(name, ["-m", "monitor.bench.generator", msgspec.json.encode(spec).decode()])

    def reached(self, program: Program) -> generator.Reached:
        """End a steady load; what it wrote."""
        program.require()
        program.stop()
        return msgspec.json.decode(program.report(), type=generator.Reached)

    def drain(
        self, worker: Program, wanted: dict[int, int], progress: Callable[[dict[int, int]], bool] | None = None,
        group: str = "", every: float = 0.1,
    ) -> dict[int, int]:
        """Wait until these offsets are committed, by partition, or `progress`, told of each change, says that it is enough.

        Returns what was committed. Raises AbsenceError where nothing moves for PATIENCE seconds.
        """
        committed: dict[int, int] = {}
        moved = time.monotonic()
        with administrator(self.connection) as admin:
            while not reaches(committed, wanted):
                worker.require()
                seen = _committed(admin, group or self.topics.app_id, self.topics.access_events.name)
                if seen != committed:
                    committed, moved = seen, time.monotonic()
                    if progress is not None and progress(committed):
                        break
                elif time.monotonic() - moved > PATIENCE:
                    raise AbsenceError(f"nothing was committed for {PATIENCE:.0f} s: {committed} of {wanted}\n{worker.said()}")
                time.sleep(every)
        return committed


def _places(topics: Topics) -> list[TopicPartition]:
    return [TopicPartition(topics.access_events.name, number) for number in range(topics.partitions)]


def reaches(committed: dict[int, int], wanted: dict[int, int]) -> bool:
    """Whether each partition's commit is at its wanted offset, or past it."""
    return all(committed.get(partition, 0) >= offset for partition, offset in wanted.items())


def events_of(committed: dict[int, int], written: dict[int, int]) -> int:
    """Events of the load below the committed offsets. What lies above the load are ticks, and no events."""
    return sum(min(committed.get(partition, 0), count) for partition, count in written.items())


def _committed(admin: Any, group: str, topic: str) -> dict[int, int]:
    """Committed offsets by partition; empty before the first commit."""
    try:
        said = admin.list_group_offsets([group])
    except KafkaError:  # no coordinator yet
        return {}
    return {
        place.partition: entry.offset
        for entries in said.values()
        for place, entry in entries.items()
        if place.topic == topic and entry.offset >= 0
    }
