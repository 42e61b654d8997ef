"""Applications with the middleware on the embedded broker: what the monitor orders is what their clients see, and what they do it learns."""

import asyncio
import json
import time

import pytest
from kafka import KafkaConsumer, TopicPartition

from monitor.core.commands import CommandType
from monitor.gateway import Gateway
from monitor.gateway.asgi import SessionMiddleware
from monitor.publish import hashed_session_id
from tests.gateway.asking import SESSION
from tests.gateway.serving import LONG, client, served
from tests.gateway.test_gateway_asgi import App, connect
from tests.gateway.worlds import monitor
from tests.kafka.plain import Worker, read_all

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


POLICY = "version: 1\ntiming: {{lateness: 500ms, inflight_cap: {cap}}}\ndefaults: {{idle: 4s, absolute: 1h}}\n"
LISTENER, WORKER = "session=listener", "session=worker"


@pytest.fixture
def monitored(world, tmp_path, monkeypatch):
    """Runs a monitor beside an application; gives the application, and the gateway that it holds."""
    workers = []

    def begin(cap: str) -> tuple[App, Gateway]:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "policy.yaml").write_text(POLICY.format(cap=cap))
        worker = Worker(*world, tmp_path / "policy.yaml", tmp_path / "worker.log")
        workers.append(worker)
        worker.start().wait_until_ready()
        return App(), Gateway(bootstrap_servers=world.bootstrap_servers, topic_prefix=world.prefix, session_id="cookie:session", granularity=200)

    yield begin
    for worker in workers:
        worker.ensure_dead()


async def ready(address) -> None:
    """Wait until the view is loaded and fresh."""
    status = 503
    while status == 503:
        async with client(address) as one:
            await one.ask(Cookie="session=first")
            status, _ = await one.head()


def kinds(world, cookie: str) -> set[str]:
    """Of the activities that were published of a session."""
    name = hashed_session_id(cookie.partition("=")[2])
    records = read_all(world.bootstrap_servers, world.topics.access_events.name)
    events = [json.loads(record.value) for record in records if record.value]
    return {event.get("activity", "human") for event in events if event.get("session_id") == name}


@pytest.mark.slow
async def test_a_long_request_keeps_its_session_from_idling_and_listening_does_not(world, monitored) -> None:
    app, gateway = await asyncio.to_thread(monitored, "1h")
    async with served(SessionMiddleware(app, gateway)) as address, client(address) as working:
        await ready(address)
        await working.ask("/slow", Cookie=WORKER)
        await asyncio.wait_for(app.began.wait(), LONG)
        # Twice a session that only listens comes to its end, so twice the idle limit has passed.
        for number in (1, 2):
            async with client(address) as listening:
                await listening.ask("/feed", Cookie=f"{LISTENER}{number}")
                assert (await listening.head())[0] == 200
                while (said := await listening.chunk()) == b"data: still here\n\n":
                    pass
                assert said == b"data: idle_timeout\n\n"
        app.go_on.set()
        assert (await working.head())[0] == 200
    assert kinds(world, WORKER) == {"human", "inflight"}
    assert kinds(world, f"{LISTENER}1") == {"human"}
    assert b"session.late_activity" not in b"".join(record.value for record in read_all(world.bootstrap_servers, f"{world.prefix}session-lifecycle"))


@pytest.mark.slow
async def test_it_holds_its_session_up_to_the_cap(world, monitored) -> None:
    app, gateway = await asyncio.to_thread(monitored, "2s")
    async with served(SessionMiddleware(app, gateway)) as address, client(address) as working:
        await ready(address)
        await working.ask("/slow", Cookie=WORKER)
        status, headers = await working.head()
        assert (status, json.loads(await working.body(headers))["reason"]) == (401, "idle_timeout")
    assert kinds(world, WORKER) == {"human", "inflight"}
