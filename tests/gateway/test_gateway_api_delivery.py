"""Events on their way to the log: acknowledged one by one, on each kind of broker."""

import asyncio
import contextlib
import socket

import pytest

from monitor.broker.administration import apply_topics
from monitor.broker.connection import Connection
from monitor.broker.embedded import EmbeddedBroker
from monitor.gateway.api.delivery import Delivery, Post
from monitor.publish.encode import ALIVE_KEY
from monitor.wire.codec import Record
from monitor.wire.partitioner import partition_for
from monitor.wire.topics import Topics
from tests.kafka.plain import read_all
from tests.publish.worlds import broker_away

WORLDS = [
    pytest.param("embedded", marks=pytest.mark.embedded, id="embedded"),
    pytest.param("kafka", marks=pytest.mark.kafka, id="kafka"),
]


@pytest.fixture(params=WORLDS)
def world(request, own_topics):
    return own_topics(request.getfixturevalue(request.param))


def event(n: int) -> Post:
    session_id = f"s-{n}-ü"
    return Post(Record(session_id.encode(), f'{{"type":"session.opened","session_id":"{session_id}"}}'.encode(), []))


ALIVE = Post(Record(ALIVE_KEY, b'{"type":"source.alive","source":"a","time":"2026-11-23T07:09:00Z"}', []), everywhere=True)


@contextlib.asynccontextmanager
async def delivery(world, **settings):
    one = Delivery(world.connection, world.topics.access_events.name, **settings)
    try:
        yield one
    finally:
        await one.stop()


async def test_what_is_acknowledged_is_on_the_log_under_its_session(world) -> None:
    async with delivery(world) as one:
        posts = [event(n) for n in range(200)]
        assert (await one.deliver(posts)).lost == ()
        records = await asyncio.to_thread(read_all, world.bootstrap_servers, world.topics.access_events.name)
        assert sorted(record.value for record in records) == sorted(post.record.value for post in posts)
        assert all(record.partition == partition_for(record.key, 8) for record in records)
        assert (await one.deliver([])).lost == ()


async def test_a_source_that_is_alive_tells_every_partition_after_what_came_before(world) -> None:
    async with delivery(world) as one:
        assert (await one.deliver([ALIVE, event(1), event(2)])).lost == ()
        records = await asyncio.to_thread(read_all, world.bootstrap_servers, world.topics.access_events.name)
        assert sorted(record.partition for record in records if record.key == ALIVE_KEY) == list(range(8))
        for record in records:
            if record.key != ALIVE_KEY:
                (alive,) = [other for other in records if other.key == ALIVE_KEY and other.partition == record.partition]
                assert alive.offset > record.offset


async def test_many_at_once(world) -> None:
    async with delivery(world) as one:
        found = await asyncio.gather(*(one.deliver([event(100 * k + n) for n in range(10)]) for k in range(30)))
        assert [delivered.lost for delivered in found] == [()] * 30
        records = await asyncio.to_thread(read_all, world.bootstrap_servers, world.topics.access_events.name)
        assert len({record.key for record in records}) == len(records) == 300


async def test_more_than_the_buffer_holds_is_not_taken(world) -> None:
    async with delivery(world, buffer=5) as one:
        first = asyncio.create_task(one.deliver([event(n) for n in range(5)]))
        await asyncio.sleep(0)
        delivered = await one.deliver([event(9)])
        assert (delivered.lost, delivered.why) == ((0,), "5 events wait for the broker already, 5 are allowed")
        assert (await first).lost == ()
        assert (await one.deliver([event(9)])).lost == ()


async def test_what_the_broker_does_not_take_is_told_and_the_rest_is_there(world) -> None:
    async with delivery(world) as one:
        # The API bounds an event at 64 KiB; what is larger than the broker takes shows what becomes of a refused one.
        large = Post(Record(b"s-1", b"x" * 2_000_000, []))
        delivered = await one.deliver([event(1), large, event(2), ALIVE])
        assert delivered.lost == (1, 3)
        assert "MessageSizeTooLarge" in delivered.why or "RecordTooLarge" in delivered.why
        records = await asyncio.to_thread(read_all, world.bootstrap_servers, world.topics.access_events.name)
        assert {record.key for record in records} == {event(1).record.key, event(2).record.key}
        assert (await one.deliver([event(3), ALIVE])).lost == ()


async def test_topics_that_are_not_there_are_named(world) -> None:
    one = Delivery(world.connection, f"{world.prefix}nowhere")
    delivered = await one.deliver([event(1), ALIVE])
    assert delivered.lost == (0, 1)
    assert f"{world.prefix}nowhere" in delivered.why
    await one.stop()
    await one.stop()


async def test_without_a_broker_nobody_waits_long_and_the_next_one_not_at_all(refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    one = Delivery(Connection(bootstrap_servers=f"127.0.0.1:{port}"), "access-events")
    async with asyncio.timeout(5):
        for _ in range(3):
            delivered = await one.deliver([event(1)])
            assert delivered.lost == (0,)
            assert f"127.0.0.1:{port} refuses connections" in delivered.why
    await one.stop()


@pytest.mark.embedded
@broker_away
async def test_what_a_broker_that_went_away_has_not_acknowledged_is_lost_and_told() -> None:
    with EmbeddedBroker() as broker:
        apply_topics(broker.connection, Topics(), replication=1)
        one = Delivery(broker.connection, "access-events", wait=1500)
        assert (await one.deliver([event(1)])).lost == ()
        await asyncio.to_thread(broker.kill)
        assert (await one.deliver([event(1), event(2), ALIVE])).lost == (0, 1, 2)
        # By now it is known to be away.
        assert "refuses connections" in (await one.deliver([event(3)])).why
        await one.stop()


@pytest.mark.kafka
@pytest.mark.slow
@broker_away
async def test_a_broker_that_comes_back_is_found(apache_kafka) -> None:
    broker = apache_kafka()
    apply_topics(broker.connection, Topics(), replication=1)
    one = Delivery(broker.connection, "access-events", wait=3000)
    assert (await one.deliver([event(1)])).lost == ()
    await asyncio.to_thread(broker.kill)
    assert (await one.deliver([event(2)])).lost == (0,)
    await asyncio.to_thread(broker.restart)
    async with asyncio.timeout(60):
        while (await one.deliver([event(3), ALIVE])).lost:
            await asyncio.sleep(0.1)
    await one.stop()
    records = await asyncio.to_thread(read_all, broker.bootstrap_servers, "access-events")
    assert {event(1).record.key, event(3).record.key} <= {record.key for record in records}
