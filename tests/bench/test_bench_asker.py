"""Who asks for a benchmark over HTTP: what counts, and from when."""

import asyncio

import pytest

from monitor.bench.asker import Connection, Spec, ask_all, cookie, ended, request
from monitor.broker.port import LOOPBACK
from monitor.core.errors import AbsenceError
from monitor.gateway.server import Server


class Service:
    """Refuses those that have ended, with a body; the first request of all takes its time."""

    def __init__(self, slow: float = 0.0) -> None:
        self.slow, self.paths = slow, set()

    async def __call__(self, scope, receive, send) -> None:
        self.paths.add(scope["path"])
        slow, self.slow = self.slow, 0.0
        await asyncio.sleep(slow)
        (session,) = [value.decode() for name, value in scope["headers"] if name == b"cookie"]
        refused = ended(int(session.rpartition("-")[2]))
        body = b"x" * 3000 if refused else b""
        await send({"type": "http.response.start", "status": 401 if refused else 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def serving():
    begun = []

    async def begin(service: Service) -> int:
        server = Server(service, LOOPBACK, 0)
        await server.start()
        begun.append(server)
        return server.addr[1]

    yield begin
    for server in begun:
        await server.stop()


def spec(port: int, **more) -> Spec:
    return Spec(host=LOOPBACK, port=port, path="/check", sessions=100, warm=0.0, **({"seconds": 0.5, "connections": 3} | more))


async def test_every_answer_is_counted_by_its_status(serving) -> None:
    service = Service()
    asked = await ask_all(spec(await serving(service)))
    assert service.paths == {"/check"}
    assert asked.requests == sum(asked.statuses.values()) == asked.milliseconds.count
    assert asked.statuses[401] == pytest.approx(asked.requests / 10, abs=asked.requests / 20)


async def test_at_a_rate_a_server_that_stands_still_is_not_asked_less(serving) -> None:
    asked = await ask_all(spec(await serving(Service(slow=0.3)), rate=100, connections=1))
    assert asked.requests == pytest.approx(50, abs=2)
    waited = asked.milliseconds
    assert waited.worst >= 300
    # Some thirty should have been asked meanwhile: each waited for the rest of it.
    assert waited.p50 > 50


async def test_what_is_not_answered_is_an_error() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, LOOPBACK, 0)
    async with server:
        connection = await Connection.connect(*server.sockets[0].getsockname())
        with pytest.raises(AbsenceError):
            await connection.ask(request(LOOPBACK, "/", cookie(1)))
        connection.close()
