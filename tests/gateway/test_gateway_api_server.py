"""The sidecar's own API on a port: real sockets, thousands of subscribers, clients that dawdle or go."""

import asyncio
import json
import resource

import pytest

from monitor.broker.port import LOOPBACK
from monitor.core.controls import Target
from monitor.gateway.server import Server
from tests.gateway.asking import fresh
from tests.gateway.calling import NOW, SECRET, Called, api

MANY = min(5000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 2)
"""Each takes a descriptor on both sides."""
AUTHORIZED = f"Authorization: Bearer {SECRET}\r\n"


class Running:
    """A server, and the API behind it."""

    def __init__(self, called: Called, server: Server) -> None:
        self.called, self.server = called, server

    async def open(self, path: str, method: str = "GET", headers: str = "", body: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.server.addr)
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}{headers}\r\n".encode() + body)
        await writer.drain()
        return reader, writer

    async def status(self, path: str, **more) -> int:
        reader, writer = await self.open(path, **more)
        try:
            return int((await asyncio.wait_for(reader.readline(), 30)).split()[1])
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.fixture
async def running():
    view = fresh()
    called = api(view, subscribers=MANY)
    server = Server(called.app, LOOPBACK, 0)
    await server.start()
    yield Running(called, server), view
    await called.hub.stop()
    await server.stop()


async def until(holds) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


async def begun(reader: asyncio.StreamReader) -> None:
    await asyncio.wait_for(reader.readuntil(b"retry: 3000\n\n"), 60)


@pytest.mark.slow
async def test_thousands_follow_their_sessions_and_decisions_are_answered_meanwhile(running) -> None:
    one, view = running
    feeds = []
    for start in range(0, MANY, 250):
        some = await asyncio.gather(*(one.open(f"/v1/sessions/s-{n}/events") for n in range(start, min(start + 250, MANY))))
        await asyncio.gather(*(begun(reader) for reader, _ in some))
        feeds += some
    assert len(one.called.hub) == MANY
    assert await one.status("/healthz") == 200
    # One is told of its own end, and nobody else of anything.
    view.expire("s-7", NOW)
    assert b"session.expired" in await asyncio.wait_for(feeds[7][0].readuntil(b"event: session.expired"), 60)
    assert await one.status("/v1/sessions/s-7") == 200
    # Everybody is looked at, and told.
    view.lock(Target(all=True), NOW)
    asked = asyncio.create_task(one.status("/v1/sessions/s-8"))
    await asyncio.gather(*(asyncio.wait_for(reader.readuntil(b'"reason":"locked"'), 60) for reader, _ in feeds))
    assert await asked == 200
    assert await one.status("/v1/sessions/one-more/events") == 503
    for _, writer in feeds:
        writer.close()
    await until(lambda: len(one.called.hub) == 0)


async def test_who_goes_gives_the_place_back(running) -> None:
    one, _ = running
    reader, writer = await one.open("/v1/sessions/s-1/events")
    await begun(reader)
    assert len(one.called.hub) == 1
    writer.close()
    await until(lambda: len(one.called.hub) == 0)


async def test_a_stop_ends_the_feeds_as_http_ends_a_body() -> None:
    called = api()
    server = Server(called.app, LOOPBACK, 0)
    await server.start()
    reader, writer = await Running(called, server).open("/v1/sessions/s-1/events")
    await begun(reader)
    await called.hub.stop()
    await server.stop()
    assert (await asyncio.wait_for(reader.read(), 30)).endswith(b"0\r\n\r\n")
    writer.close()


async def test_an_event_is_published_over_a_real_connection(running) -> None:
    one, _ = running
    body = b'{"type":"session.opened","session_id":"s-1"}'
    headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n"
    reader, writer = await one.open("/v1/events", method="POST", headers=headers)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 202 ")
    writer.close()
    assert one.called.log.events == [json.loads(body)]


@pytest.mark.parametrize("headers", [f"Content-Length: {1 << 40}\r\n", "Transfer-Encoding: chunked\r\n"])
async def test_a_huge_body_is_refused_and_not_held(running, headers) -> None:
    one, _ = running
    reader, writer = await one.open("/v1/events", method="POST", headers=f"Content-Type: application/json\r\n{headers}")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = asyncio.create_task(reader.readline())
    try:
        while not answer.done():
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    assert (await asyncio.wait_for(answer, 30)).startswith(b"HTTP/1.1 413 ")
    writer.close()
    assert await one.status("/healthz") == 200


async def test_who_may_not_publish_is_told_before_the_body_comes(running) -> None:
    one, _ = running
    reader, writer = await asyncio.open_connection(*one.server.addr)
    writer.write(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_a_client_that_dawdles_over_its_body_holds_up_nobody(running) -> None:
    one, _ = running
    slow = [await one.open("/v1/events", method="POST", headers="Content-Type: application/json\r\nContent-Length: 1000\r\n", body=b"{") for _ in range(70)]
    # More of them than bodies are held at once: the rest is told to come later.
    firsts = [asyncio.create_task(reader.readline()) for reader, _ in slow]
    await until(lambda: sum(first.done() for first in firsts) == 6)
    assert all(first.result().startswith(b"HTTP/1.1 503 ") for first in firsts if first.done())
    assert await one.status("/v1/sessions/s-1") == 200
    for first, (_, writer) in zip(firsts, slow, strict=True):
        first.cancel()
        writer.close()
    await until(lambda: one.called.app._api._intake._held == 0)
