"""Applications with the middleware, on a real uvicorn; and clients that see what a connection sees."""

import asyncio
import socket
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn

from monitor.gateway import Gateway, MemoryView, Now
from tests.gateway.asking import COOKIE, NOW, fresh
from tests.gateway.worlds import T

COOKIE_HEADER = f"session={COOKIE}"
LONG = 30.0
"""Seconds: longer than anything here takes, on the busiest machine."""


def gateway(view: MemoryView | None = None, *, session_id: str = "cookie:session", now: Now = NOW, **more) -> Gateway:
    """One whose view is fresh, unless another is given."""
    return Gateway(session_id=session_id, view=view or fresh(), now=lambda: now, **more)


@asynccontextmanager
async def served(app, *, http: str = "h11", ws: str = "websockets-sansio", lifespan: str = "on"):
    """The address that a uvicorn serves `app` on, in this event loop."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=http, ws=ws, lifespan=lifespan, log_config=None, timeout_graceful_shutdown=1)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started:
            assert not serving.done(), "it ended before it began"
            await asyncio.sleep(0.01)
        yield listening.getsockname()
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self):
        yield


class Client:
    """One HTTP/1.1 connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, path: str = "/", *, method: str = "GET", **headers: str) -> None:
        said = {"Host": "app.example", "Cookie": COOKIE_HEADER} | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items() if value)]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers."""
        text = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), LONG)).decode("latin-1")
        status, *lines = text.rstrip().split("\r\n")
        return int(status.split(" ")[1]), {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines}

    async def chunk(self) -> bytes | None:
        """The next chunk; b"": the body has come to its end; None: the connection ended before."""
        try:
            size = int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), LONG), 16)
            data = await asyncio.wait_for(self.reader.readexactly(size + 2), LONG)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None
        return data[:-2]

    async def body(self, headers: dict[str, str]) -> bytes:
        """All of it, after this head."""
        if "chunked" in headers.get("transfer-encoding", ""):
            parts = []
            while part := await self.chunk():
                parts.append(part)
            assert part == b"", "it did not come to its end"
            return b"".join(parts)
        return await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), LONG)

    async def rest(self) -> bytes:
        """All that comes until the connection ends."""
        return await asyncio.wait_for(self.reader.read(), LONG)


@asynccontextmanager
async def client(address):
    reader, writer = await asyncio.open_connection(*address[:2])
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


class EndsAtOnce:
    """A witness by whom a session ends right behind the decision that admitted it."""

    def __init__(self, view: MemoryView) -> None:
        self.view = view

    def admitted(self, facts, seen, now) -> None:
        self.view.revoke(facts.session_id, T)

    def refused(self, facts, verdict, seen, now) -> None:
        pass
