"""Applications with the middleware on the embedded broker: what the monitor orders there is what their clients see."""

import asyncio
import json
import time

import pytest
from kafka import KafkaConsumer, TopicPartition

from monitor.core.commands import CommandType
from monitor.gateway import Gateway
from monitor.gateway.asgi import SessionMiddleware
from tests.gateway.asking import SESSION
from tests.gateway.serving import LONG, client, served
from tests.gateway.test_gateway_asgi import App, connect
from tests.gateway.worlds import monitor

pytestmark = pytest.mark.embedded


def receipts(world, type_: str) -> list[dict]:
    """What has been proven so far."""
    topic = world.topics.enforcement_receipts
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    consumer = KafkaConsumer(bootstrap_servers=world.bootstrap_servers)
    try:
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends, found = consumer.end_offsets(partitions), []
        while any(consumer.position(one) < end for one, end in ends.items()):
            found += [json.loads(record.value) for some in consumer.poll(500).values() for record in some]
    finally:
        consumer.close()
    return [one for one in found if one["type"] == type_]


@pytest.fixture
def world(embedded, own_topics):
    return own_topics(embedded)


async def test_a_revocation_cuts_streams_and_websockets_and_is_proven(world) -> None:
    app = App()
    gateway = Gateway(bootstrap_servers=world.bootstrap_servers, topic_prefix=world.prefix, session_id="cookie:session", name="shop")
    with monitor(world) as orders:
        await asyncio.to_thread(orders.watermarks)
        async with served(SessionMiddleware(app, gateway)) as address, client(address) as one, client(address) as two:
            # Until the view is loaded nobody passes.
            while not gateway.ready:
                await asyncio.sleep(0.01)
            for stream in (one, two):
                await stream.ask("/stream")
                assert (await stream.head())[0] == 200
                assert await stream.chunk() == b"one"
            async with connect(address) as socket:
                await socket.send("a")
                assert await socket.recv() == "a"
                began = time.monotonic()
                await asyncio.to_thread(lambda: orders.end(SESSION, type_=CommandType.REVOKE))
                assert [await one.chunk(), await two.chunk()] == [None, None]
                await asyncio.wait_for(socket.wait_closed(), LONG)
                print(f"from the order to the last cut: {time.monotonic() - began:.3f} s")  # noqa: T201
                assert socket.close_code == 4401
            async with client(address) as late:
                await late.ask()
                assert (await late.head())[0] == 401
    (refused, *_) = receipts(world, "gateway.refused")
    assert (refused["session_id"], refused["inflight_cut"], refused["status"]) == (SESSION, 3, 401)
    assert refused["gateway"].startswith("shop/")
    assert [one["gateway"] for one in receipts(world, "gateway.stopped")] == [refused["gateway"]]
