"""Idle subscribers of the sidecar's feeds, by the thousand, in a process of its own.

Run as a program: `python -m monitor.bench.feeds SPEC`, SPEC in JSON. It prints how many there are once all have begun; SIGTERM ends it.
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from monitor.bench.asker import cookie
from monitor.publish import hashed_session_id

_AT_ONCE: Final = 200
_BEGUN: Final = b"\n\n"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """Whom they follow: the first `count` of the asker's sessions."""

    host: str
    port: int
    token_file: str
    count: int


class _Feed(asyncio.Protocol):
    """Asks for a feed, and takes what comes."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._said = b""
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self.begun.done():
            self._said += data
            if not self._said.startswith(b"HTTP/1.1 200"[: len(self._said)]):
                self.begun.set_exception(ConnectionError(f"a feed was refused: {self._said[:100]!r}"))
            elif _BEGUN in self._said:
                self.begun.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.begun.done():
            self.begun.set_exception(ConnectionError(f"a feed ended before it began: {exc}"))


async def follow(spec: Spec, token: str) -> None:
    """Until SIGTERM. Raises OSError."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    transports = []
    for first in range(0, spec.count, _AT_ONCE):
        feeds = []
        for number in range(first, min(first + _AT_ONCE, spec.count)):
            path = f"/v1/sessions/{hashed_session_id(cookie(number))}/events"
            raw = f"GET {path} HTTP/1.1\r\nHost: {spec.host}\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            transport, feed = await loop.create_connection(lambda raw=raw: _Feed(raw), spec.host, spec.port)  # type: ignore[misc]
            transports.append(transport)
            feeds.append(feed.begun)
        await asyncio.gather(*feeds)
    sys.stdout.write(f"{len(transports)}\n")
    sys.stdout.flush()
    await told.wait()
    for transport in transports:
        transport.close()


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=Spec)
    asyncio.run(follow(given, Path(given.token_file).read_text("ascii").strip()))
