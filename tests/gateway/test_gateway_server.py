"""The sidecar on a port, as proxies reach it."""

import asyncio
import http.client
import socket

import pytest

from monitor.broker.port import LOOPBACK
from monitor.core.errors import AbsenceError, InvariantError
from monitor.gateway.server import Server
from tests.gateway.asking import COOKIE, sidecar


async def raw(server: Server, request: bytes) -> bytes:
    """What comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection(*server.addr)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


async def status_line(server: Server, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server.addr)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.readline(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def server():
    one = Server(sidecar(), LOOPBACK, 0)
    await one.start()
    yield one
    await one.stop()


async def test_it_answers_until_it_is_stopped_and_stops_twice() -> None:
    server = Server(sidecar(), LOOPBACK, 0)
    with pytest.raises(InvariantError):
        _ = server.url
    await server.start()
    request = f"GET /check HTTP/1.1\r\nHost: x\r\nCookie: session={COOKIE}\r\nConnection: close\r\n\r\n".encode()
    answered = await raw(server, request)
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nx-session-id: " in answered
    assert b"uvicorn" not in answered
    await server.stop()
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await raw(server, request)


async def test_a_port_that_is_taken_is_named(server) -> None:
    with pytest.raises(AbsenceError, match=rf"can't listen on {LOOPBACK}:{server.addr[1]}: .*--port"):
        await Server(sidecar(), LOOPBACK, server.addr[1]).start()


async def test_a_host_that_is_not_here_is_named() -> None:
    with pytest.raises(AbsenceError, match=r"can't listen on nobody\.invalid:0"):
        await Server(sidecar(), "nobody.invalid", 0).start()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_an_ipv6_address_stands_in_brackets() -> None:
    server = Server(sidecar(), "::1", 0)
    try:
        await server.start()
    except AbsenceError:
        pytest.skip("this machine has no ::1")
    assert server.url == f"http://[::1]:{server.addr[1]}"
    await server.stop()


async def test_a_connection_serves_many_and_a_body_that_nobody_reads_is_no_hindrance(server) -> None:
    def talk() -> list[int]:
        connection = http.client.HTTPConnection(*server.addr, timeout=10)
        statuses = []
        try:
            for method, path, body in (("POST", "/check/a", b"x" * 100_000), ("HEAD", "/check/b", None), ("GET", "/healthz", None)):
                connection.request(method, path, body, {"Cookie": f"session={COOKIE}"})
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
        finally:
            connection.close()
        return statuses

    assert await asyncio.to_thread(talk) == [200, 200, 200]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /check HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /check/" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /check/é HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        b"GET /check HTTP/1.1\r\nno header\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=["header", "path", "not-ascii", "no-header", "tls"],
)
async def test_what_is_no_request_is_a_400(server, request_) -> None:
    assert (await status_line(server, request_)).startswith(b"HTTP/1.1 400 ")


async def test_a_websocket_is_asked_about_like_anything_else(server) -> None:
    asked = (
        b"GET /check/live HTTP/1.1\r\nHost: x\r\nCookie: session=a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert (await status_line(server, asked)).startswith(b"HTTP/1.1 200 ")
