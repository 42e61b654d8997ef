"""The appender on real brokers: order, acknowledgements, refusals, latency."""

import asyncio
import os
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from transport_world import World, appender, make_topic, world_of

from monitor.broker.apache import runnable
from monitor.core.errors import InvariantError
from monitor.worker.appender import RecordTooLargeError
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
    return await make_topic(world.address, f"append-{os.getpid()}-{next(_numbers)}", 2)


async def written(world: World, topic: str, partition: int) -> list[Any]:
    reader = KafkaReader(world.address)
    try:
        start, end = await reader.bounds(topic, partition)
        return [record async for records in reader.read(topic, partition, start, end) for record in records]
    finally:
        await reader.stop()


async def test_many_records_leave_in_order_and_in_few_batches(world: World, topic: str) -> None:
    async with appender(world.address) as one:
        acks: list[Any] = []
        one.on_acknowledged(acks.append)
        for number in range(20_000):
            one.append(topic, number % 2, b"k%d" % number, b"%d" % number, [("h", b"%d" % number)])
        assert one.pending == 20_000
        mark = one.mark()
        await one.settled(mark)
        assert one.pending == 0
    assert len(acks) < 40
    assert {ack.topic for ack in acks} == {topic}
    for partition in range(2):
        records = await written(world, topic, partition)
        assert [int(record.value) for record in records] == list(range(partition, 20_000, 2))
        assert all(dict(record.headers)["h"] == record.value for record in records[:100])
        mine = [ack for ack in acks if ack.partition == partition]
        assert [ack.base_offset for ack in mine] == [sum(a.count for a in mine[:i]) for i in range(len(mine))]
        for ack in mine:  # the acknowledgement tells the append time that readers see
            assert ack.timestamp == records[ack.base_offset].timestamp
            assert ack.sent_at <= ack.acked_at


async def test_a_mark_settles_without_what_comes_after_it(world: World, topic: str) -> None:
    async with appender(world.address) as one:
        one.append(topic, 0, b"k", b"1")
        mark = one.mark()
        settling = asyncio.create_task(one.settled(mark))
        while not settling.done():
            one.append(topic, 1, b"k", b"more")
            await asyncio.sleep(0)
        await settling
        await one.settled(one.mark())
        await one.settled(0)


async def test_who_waits_for_room_goes_on_when_less_is_on_its_way_and_not_only_when_nothing_is(world: World, topic: str) -> None:
    async with appender(world.address) as one:
        for number in range(20_000):
            one.append(topic, number % 2, b"k", b"%d" % number + b" " * 200)
        await one.below(20_000)
        assert one.pending == 20_000, "there was room"
        waiting = [asyncio.create_task(one.below(most)) for most in (15_000, 0)]
        await waiting[0]
        assert 0 < one.pending <= 15_000
        one.discard(topic, 0)
        one.discard(topic, 1)
        await waiting[1]
        assert one.pending == 0


async def test_tombstones_and_empty_values_differ(world: World, topic: str) -> None:
    async with appender(world.address) as one:
        one.append(topic, 0, b"k", None)
        one.append(topic, 0, b"k", b"")
        await one.settled(one.mark())
    assert [record.value for record in await written(world, topic, 0)] == [None, b""]


async def test_a_single_record_leaves_at_once(world: World, topic: str) -> None:
    async with appender(world.address) as one:
        took = []
        for _ in range(60):
            began = time.perf_counter()
            one.append(topic, 0, b"k", b"v")
            await one.settled(one.mark())
            took.append(time.perf_counter() - began)
    # 2 to 5 ms on an idle machine; the bound only tells a linger or a timer apart.
    assert sorted(took)[30] < 0.025


async def test_a_refused_record_gives_way_to_its_smaller_form_in_its_place(world: World) -> None:
    topic = await make_topic(world.address, f"small-{next(_numbers)}", 2, max_message_bytes="20000")
    async with appender(world.address) as one:
        for number in range(500):  # together larger than the topic takes: sent again in halves
            one.append(topic, 0, b"k", b"%d" % number + b" " * 200)
        one.append(topic, 0, b"k", b"x" * 50_000, instead=(b"k", b"too large", [("sha256", b"...")]))
        for number in range(500, 600):
            one.append(topic, 0, b"k", b"%d" % number + b" " * 200)
            one.append(topic, 1, b"k", b"%d" % number)
        await one.settled(one.mark())
        assert not one.failed
        one.append(topic, 0, b"k", b"600")  # sequence numbers are in order after it all
        await one.settled(one.mark())
    values = [record.value.strip() for record in await written(world, topic, 0)]
    assert values == [b"%d" % n for n in range(500)] + [b"too large"] + [b"%d" % n for n in range(500, 601)]
    assert [int(record.value) for record in await written(world, topic, 1)] == list(range(500, 600))


async def test_a_refused_record_without_a_smaller_form_is_a_failure_that_settled_tells(world: World) -> None:
    topic = await make_topic(world.address, f"small-{next(_numbers)}", 2, max_message_bytes="20000")
    async with appender(world.address) as one:
        one.append(topic, 0, b"k", b"x" * 50_000)
        waiting = [asyncio.create_task(one.settled(one.mark())), asyncio.create_task(one.below(0))]
        for each in waiting:
            with pytest.raises(RecordTooLargeError, match=r"refuses a record of 50001 bytes"):
                await each
        assert one.failed
        one.append(topic, 1, b"k", b"v")  # never blocks, never pretends
        for again in (one.settled(one.mark()), one.below(0)):
            with pytest.raises(InvariantError):
                await again


async def test_a_partition_that_is_not_there_is_a_failure(world: World, topic: str) -> None:
    async with appender(world.address) as one:
        one.append(topic, 99, b"k", b"v")
        with pytest.raises(InvariantError, match="appending failed"):
            await one.settled(one.mark())
