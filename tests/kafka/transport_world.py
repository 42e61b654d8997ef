"""Brokers to start, stop and kill, and an owner that writes down what the engine does to it."""

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from monitor.worker.appender import KafkaAppender
from monitor.worker.engine_app import Engine, Ports
from monitor.worker.settings import EngineSettings


class Address(msgspec.Struct, frozen=True):
    bootstrap: str

    def aiokafka(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Broker:
    """A broker process on one port and one directory, that can be killed and started again."""

    commits_while_rebalancing = True
    """Kafka takes commits of the old generation until all have joined; the embedded broker from the first join does not."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        self.address = Address(f"127.0.0.1:{self.port}")
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def prepare(self) -> None: ...

    def start(self) -> None:
        self.prepare()
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError((self.directory / "log").read_text()[-2000:])

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Noida(Broker):
    commits_while_rebalancing = False

    def command(self) -> list[str]:
        from importlib.resources import files

        binary = str(files("noida_db") / "noida-db")
        return [
            binary, "start", "--only", "kafka", "--kafka-port", str(self.port), "--data-dir", str(self.directory / "data"),
        ]  # fmt: skip


class Apache(Broker):
    def __init__(self, directory: Path, libs: str) -> None:
        super().__init__(directory)
        self.classpath = f"{libs}/*"
        self.controller = free_port()

    def prepare(self) -> None:
        properties = self.directory / "server.properties"
        if properties.exists():
            return
        lines = {
            "process.roles": "broker,controller", "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self.directory / "data"), "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1", "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "2",
            "group.initial.rebalance.delay.ms": "0", "log.cleaner.backoff.ms": "200",
            "log.segment.delete.delay.ms": "200", "log.initial.task.delay.ms": "100",
        }  # fmt: skip
        properties.write_text("\n".join(f"{key}={value}" for key, value in lines.items()))
        subprocess.run(
            ["java", "-cp", self.classpath, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg",
             "-c", str(properties)],
            check=True, capture_output=True,
        )  # fmt: skip

    def command(self) -> list[str]:
        return ["java", "-Xmx512m", "-cp", self.classpath, "kafka.Kafka", str(self.directory / "server.properties")]


@contextmanager
def broker_of(kind: str) -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(prefix="shell-") as scratch:
        directory = Path(scratch)
        broker = Noida(directory) if kind == "embedded" else Apache(directory, os.environ["SESSION_MONITOR_KAFKA_LIBS"])
        broker.start()
        try:
            yield broker
        finally:
            broker.end()


async def make_topic(address: Address, name: str, partitions: int = 4, **config: str) -> str:
    settings = {"message.timestamp.type": "LogAppendTime"} | {k.replace("_", "."): v for k, v in config.items()}
    admin = AIOKafkaAdminClient(bootstrap_servers=address.bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        assert all(error[1] == 0 for error in answer.topic_errors), answer
    finally:
        await admin.close()
    return name


@asynccontextmanager
async def appender(address: Address, **settings: Any) -> AsyncIterator[KafkaAppender]:
    one = KafkaAppender(address, **settings)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


async def fill(address: Address, topic: str, count: int, partitions: int = 4, start: int = 0) -> None:
    async with appender(address) as one:
        for number in range(start, start + count):
            one.append(topic, number % partitions, b"k%d" % number, b"v%d" % number)
        await one.settled(one.mark())


class RecordingOwner:
    """Commits what it was given, and keeps a diary: (monotonic time, owner, what, partition or partitions)."""

    def __init__(self, ports: Ports, name: str, diary: list[tuple[float, str, str, Any]], topic: str) -> None:
        self.ports, self.name, self.diary, self.topic = ports, name, diary, topic
        self.next: dict[int, int] = {}
        self.got: dict[int, list[int]] = {}
        self.records_seen: list[Any] = []
        self.ends: dict[int, int] = {}
        self.starts: dict[int, int] = {}
        self.slow_assigned = self.slow_revoked = self.slow_records = 0.0
        self.omit: set[int] = set()
        self.on_records: Callable[[int, Sequence[Any]], None] | None = None
        self.busy = False
        self.stopped = 0

    @property
    def count(self) -> int:
        return sum(map(len, self.got.values()))

    def note(self, what: str, about: Any) -> None:
        self.diary.append((time.monotonic(), self.name, what, about))

    def enter(self) -> None:
        assert not self.busy, "two calls at a time"
        self.busy = True

    async def assigned(self, partitions: Collection[int]) -> dict[int, int]:
        self.enter()
        try:
            self.note("assigning", sorted(partitions))
            await asyncio.sleep(self.slow_assigned)
            starts = {}
            for partition in partitions:
                committed = await self.ports.offsets.committed(partition)
                if committed is None:
                    committed = (await self.ports.reader.bounds(self.topic, partition))[0]
                    await self.ports.offsets.commit({partition: committed})
                starts[partition] = self.starts.get(partition, committed)
            self.next.update(starts)
            self.note("assigned", dict(starts))
            return {partition: start for partition, start in starts.items() if partition not in self.omit}
        finally:
            self.busy = False

    async def revoked(self, partitions: Collection[int]) -> None:
        self.enter()
        try:
            self.note("revoking", sorted(partitions))
            await asyncio.sleep(self.slow_revoked)
            await self.ports.offsets.commit({partition: self.next.pop(partition) for partition in partitions})
            self.note("revoked", sorted(partitions))
        finally:
            self.busy = False

    async def lost(self, partitions: Collection[int]) -> None:
        self.enter()
        self.note("lost", sorted(partitions))
        for partition in partitions:
            self.next.pop(partition, None)
        self.busy = False

    async def records(self, partition: int, records: Sequence[Any], end_offset: int) -> None:
        self.enter()
        try:
            assert partition in self.next, "not ours"
            assert records[0].offset >= self.next[partition]
            if self.slow_records:
                await asyncio.sleep(self.slow_records)
            self.next[partition] = records[-1].offset + 1
            self.got.setdefault(partition, []).extend(record.offset for record in records)
            self.records_seen.extend(records)
            self.ends[partition] = end_offset
            if self.on_records is not None:
                self.on_records(partition, records)
        finally:
            self.busy = False

    async def stop(self) -> None:
        self.stopped += 1
        self.note("stop", dict(self.next))
        if self.next:
            await self.ports.offsets.commit(dict(self.next))


class Worker:
    """An engine in this loop, with a recording owner."""

    def __init__(
        self, address: Address, topic: str, group: str, *, name: str = "a", diary: list[Any] | None = None,
        prepare: Callable[[RecordingOwner], None] = lambda _: None, **settings: Any,
    ) -> None:  # fmt: skip
        self.diary: list[Any] = [] if diary is None else diary
        self.owner: RecordingOwner | None = None

        async def factory(ports: Ports) -> RecordingOwner:
            self.owner = RecordingOwner(ports, name, self.diary, topic)
            prepare(self.owner)
            return self.owner

        options = {"session_timeout_ms": 6000, "heartbeat_ms": 500, "fetch_wait_ms": 200} | settings
        self.engine = Engine(EngineSettings(app_id=group, topic=topic, connection=address, **options), factory)
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Worker":
        self.task = asyncio.create_task(self.engine.run(signals=False))
        await until(lambda: self.owner is not None or self.done)
        return self

    async def __aexit__(self, kind: Any, *_: object) -> None:
        self.engine.stop()
        assert self.task is not None
        result = (await asyncio.gather(self.task, return_exceptions=True))[0]
        if kind is None and isinstance(result, BaseException) and not self.expected_failure:
            raise result

    expected_failure = False

    @property
    def done(self) -> bool:
        return self.task is not None and self.task.done()

    @property
    def own(self) -> RecordingOwner:
        assert self.owner is not None
        return self.owner


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
