"""`Edge`: a gateway, the sidecar it asks, and the service behind; as a client meets them."""

import asyncio
import http.client
import json
import threading
from collections.abc import Coroutine
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

from monitor.broker.port import LOOPBACK
from monitor.gateway.server import Server
from tests.gateways.proxies import Proxy
from tests.gateways.service import Service

SECONDS = 60


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="edge-loop")
        self._thread.start()

    def run(self, awaited: Coroutine[Any, Any, Any]) -> Any:
        """Its result."""
        return asyncio.run_coroutine_threadsafe(awaited, self._loop).result(SECONDS)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


class Answered(NamedTuple):
    """What a client got."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        """Each header of this name."""
        return self.headers.get_all(name) or []


class Client:
    """One connection, kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=SECONDS)
        self.connections = 0

    def ask(self, path: str = "/v1/chats", headers=(), *, method: str = "GET", body: bytes | None = None) -> Answered:
        """`headers` are a dict or pairs, so that a name may come twice; the path goes as it is."""
        connection = self._connection
        self.connections += connection.sock is None
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items() if isinstance(headers, dict) else headers:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answered(response.status, response.headers, response.read())

    def close(self) -> None:
        self._connection.close()


def ask(port: int, path: str = "/v1/chats", headers=(), *, method: str = "GET", body: bytes | None = None) -> Answered:
    """The answer to a request on a connection of its own."""
    client = Client(port)
    try:
        return client.ask(path, headers, method=method, body=body)
    finally:
        client.close()


class Edge:
    """What the sidecar is, `app`, may change at any time."""

    def __init__(self, proxy: type[Proxy], directory: Path) -> None:
        self.app: Any = None
        self._kind, self._directory = proxy, directory
        self._loop: Loop | None = None

    def start(self) -> None:
        self._kind.program()
        self._loop = Loop()
        self._loop.run(self._serve())
        self.proxy = self._kind(self._directory, sidecar=self.sidecar_port, service=self.service.port)
        self.proxy.start()

    async def _serve(self) -> None:
        self.service = Service()
        await self.service.start()
        self._server = Server(self, LOOPBACK, 0)
        await self._server.start()
        self.sidecar_port = self._server.addr[1]

    async def __call__(self, scope, receive, send) -> None:
        """What the sidecar's port answers."""
        await self.app(scope, receive, send)

    def stop_sidecar(self) -> None:
        """Nobody listens there any more."""
        self._loop.run(self._server.stop())

    def start_sidecar(self) -> None:
        """Listen there again."""
        self._server = Server(self, LOOPBACK, self.sidecar_port)
        self._loop.run(self._server.start())

    def stop(self) -> None:
        if self._loop is None:
            return
        if hasattr(self, "proxy"):
            self.proxy.stop()
        self._loop.run(self._server.stop())
        self._loop.run(self.service.stop())
        self._loop.close()

    def ask(self, path: str = "/v1/chats", headers=(), *, method: str = "GET", body: bytes | None = None) -> Answered:
        """The answer to a client of this request alone."""
        return ask(self.proxy.port, path, headers, method=method, body=body)
