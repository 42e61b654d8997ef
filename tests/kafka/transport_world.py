"""Brokers to start, stop and kill, and an owner that writes down what the engine does to it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from monitor.broker.apache import ApacheKafka
from monitor.broker.connection import Connection
from monitor.broker.embedded import EmbeddedBroker
from monitor.worker.appender import KafkaAppender
from monitor.worker.engine_app import Engine, Ports
from monitor.worker.settings import EngineSettings


class World:
    """A broker of one kind, running."""

    def __init__(self, kind: str) -> None:
        self.broker: ApacheKafka | EmbeddedBroker = (
            EmbeddedBroker()
            if kind == "embedded"
            else ApacheKafka(heap="512m", short_lived=True, settings={"log.cleaner.backoff.ms": "200"})
        )
        self.keeps_its_word = kind != "embedded"
        """The embedded broker refuses the old generation's commits from the first join on, never buries a silent
        member, and forgets topics when it is killed."""

    @property
    def address(self) -> Connection:
        return self.broker.connection

    def kill(self) -> None:
        self.broker.kill()

    def again(self) -> None:
        assert isinstance(self.broker, ApacheKafka)
        self.broker.restart()


@contextmanager
def world_of(kind: str) -> Iterator[World]:
    world = World(kind)
    with world.broker:
        yield world


async def make_topic(address: Connection, name: str, partitions: int = 4, **config: str) -> str:
    settings = {"message.timestamp.type": "LogAppendTime"} | {
        k.replace("_", "."): v for k, v in config.items()
    }
    admin = AIOKafkaAdminClient(**address.aiokafka())
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        assert all(error[1] == 0 for error in answer.topic_errors), answer
    finally:
        await admin.close()
    return name


@asynccontextmanager
async def appender(address: Connection, **settings: Any) -> AsyncIterator[KafkaAppender]:
    one = KafkaAppender(address, **settings)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


async def fill(address: Connection, topic: str, count: int, partitions: int = 4, start: int = 0) -> None:
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
        self.records_of: dict[int, list[Any]] = {}
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
            self.records_of.setdefault(partition, []).extend(records)
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
        self, address: Connection, topic: str, group: str, *, name: str = "a", diary: list[Any] | None = None,
        prepare: Callable[[RecordingOwner], None] = lambda _: None, **settings: Any,
    ) -> None:  # fmt: skip
        self.diary: list[Any] = [] if diary is None else diary
        self.owner: RecordingOwner | None = None

        async def factory(ports: Ports) -> RecordingOwner:
            self.owner = RecordingOwner(ports, name, self.diary, topic)
            prepare(self.owner)
            return self.owner

        options = {"session_timeout_ms": 6000, "heartbeat_ms": 500, "fetch_wait_ms": 200} | settings
        self.engine = Engine(
            EngineSettings(app_id=group, topic=topic, connection=address, **options), factory
        )
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.engine.run(signals=False))
        await until(lambda: self.owner is not None or self.done)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
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
