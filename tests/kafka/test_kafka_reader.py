"""The bulk reader on real brokers: exact ends, holes, trimmed starts."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from transport_world import World, appender, fill, make_topic, until, world_of

from monitor.broker.apache import runnable
from monitor.core.errors import AbsenceError, InvariantError
from monitor.worker.reader import KafkaReader

WORLDS = [
    pytest.param("embedded", marks=[pytest.mark.embedded]),
    pytest.param(
        "apache",
        marks=[pytest.mark.kafka, pytest.mark.skipif(not runnable(), reason="no Java or no Kafka jars")],
    ),
]
_numbers = count()


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_of(request.param) as one:
        yield one


@pytest.fixture
async def topic(world: World) -> str:
    return await make_topic(world.address, f"read-{os.getpid()}-{next(_numbers)}")


@pytest.fixture
async def reader(world: World) -> AsyncIterator[KafkaReader]:
    one = KafkaReader(world.address, request_timeout_ms=5000)
    yield one
    await one.stop()
    await one.stop()


async def offsets(reader: KafkaReader, topic: str, partition: int, start: int, end: int) -> list[int]:
    async with asyncio.timeout(20):
        return [r.offset async for records in reader.read(topic, partition, start, end) for r in records]


async def test_a_range_is_read_whole_and_not_beyond(world: World, topic: str, reader: KafkaReader) -> None:
    await fill(world.address, topic, 4000)
    assert await reader.bounds(topic, 2) == (0, 1000)
    several = await asyncio.gather(*(offsets(reader, topic, p, 0, 1000) for p in range(4)))
    assert several == [list(range(1000))] * 4
    assert await offsets(reader, topic, 1, 17, 203) == list(range(17, 203))
    assert await offsets(reader, topic, 1, 17, 17) == []


async def test_an_empty_topic_is_read_at_once(topic: str, reader: KafkaReader) -> None:
    assert await reader.bounds(topic, 0) == (0, 0)
    assert await offsets(reader, topic, 0, 0, 0) == []


async def test_memory_is_bounded_by_small_fetches(world: World, topic: str) -> None:
    await fill(world.address, topic, 4000)
    reader = KafkaReader(world.address, poll_records=64)
    try:
        sizes = [len(records) async for records in reader.read(topic, 0, 0, 1000)]
        assert sum(sizes) == 1000
        assert max(sizes) <= 64
    finally:
        await reader.stop()


async def test_a_trimmed_start_is_taken_as_it_is(world: World, topic: str, reader: KafkaReader) -> None:
    await fill(world.address, topic, 400)
    admin = AIOKafkaAdminClient(**world.address.aiokafka())
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=60)})
    finally:
        await admin.close()
    assert await reader.bounds(topic, 0) == (60, 100)
    assert await offsets(reader, topic, 0, 0, 100) == list(range(60, 100))


async def test_an_end_made_of_control_records_is_an_end(
    world: World, topic: str, reader: KafkaReader
) -> None:
    producer = AIOKafkaProducer(**world.address.aiokafka(), transactional_id=f"t-{topic}")
    await producer.start()
    try:
        for _ in range(3):
            async with producer.transaction():
                await producer.send_and_wait(topic, b"v", partition=0)
    finally:
        await producer.stop()
    start, end = await reader.bounds(topic, 0)
    assert end == 6
    assert await offsets(reader, topic, 0, start, end) == [0, 2, 4]


@pytest.mark.slow
async def test_holes_of_compaction_before_the_end_do_not_hold_it_up(
    world: World, reader: KafkaReader
) -> None:
    topic = await make_topic(
        world.address, f"compact-{next(_numbers)}", 1, cleanup_policy="compact", segment_ms="200",
        min_cleanable_dirty_ratio="0.01", delete_retention_ms="0", min_compaction_lag_ms="0",
    )  # fmt: skip
    async with appender(world.address) as one:
        for round_number in range(30):
            for key in range(5):
                one.append(topic, 0, b"k%d" % key, b"%d" % round_number)
            await one.settled(one.mark())
            await asyncio.sleep(0.25)
            found = await offsets(reader, topic, 0, 0, (await reader.bounds(topic, 0))[1])
            if len(found) < round_number * 5:
                break
    _, end = await reader.bounds(topic, 0)
    found = await offsets(reader, topic, 0, 0, end)
    assert len(found) < end, "nothing was compacted"
    for cut in range(0, end, 7):
        assert await offsets(reader, topic, 0, 0, cut) == [offset for offset in found if offset < cut]


async def test_following_goes_on_with_what_comes(world: World, topic: str, reader: KafkaReader) -> None:
    await fill(world.address, topic, 40)
    got: list[int] = []

    async def follow() -> None:
        async for records in reader.follow(topic, 0, 4):
            got.extend(record.offset for record in records)

    following: asyncio.Task[Any] = asyncio.create_task(follow())
    await until(lambda: got == list(range(4, 10)))
    await fill(world.address, topic, 40, start=40)
    await until(lambda: got == list(range(4, 20)))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_start_behind_the_end_is_a_topic_made_anew(
    world: World, topic: str, reader: KafkaReader
) -> None:
    await fill(world.address, topic, 40)
    with pytest.raises(InvariantError, match="ends at 10, but is to be read from 500"):
        await offsets(reader, topic, 0, 500, 600)


async def test_a_partition_that_is_not_there_is_an_absence(topic: str, reader: KafkaReader) -> None:
    with pytest.raises(AbsenceError, match="no such topic or partition"):
        await reader.bounds(topic, 99)
