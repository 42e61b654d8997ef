"""Requests over HTTP, from a process of its own: how long each answer takes, and what it is.

Run as a program: `python -m monitor.bench.asker SPEC`, SPEC in JSON; it ends by itself and reports. It reads no more of an answer
than its status and its length, so it takes a quarter of what a server in Python takes for the same request.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from monitor.bench.figures import Spread, spread
from monitor.bench.processes import usage
from monitor.core.errors import AbsenceError

WARM: Final = 1.0
TENTH: Final = 10
"""One of so many sessions has ended."""
_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask. The session is a cookie `session`, one of `sessions` in turn."""

    host: str
    port: int
    path: str
    sessions: int
    seconds: float
    connections: int
    rate: float = 0.0
    """Requests a second, all connections together; 0: each connection asks again as soon as it has its answer."""
    warm: float = WARM
    """Seconds before it counts."""


class Asked(msgspec.Struct, frozen=True):
    """What came of it."""

    requests: int
    seconds: float
    milliseconds: Spread
    """From the instant at which it should have been asked until the answer was there."""
    statuses: dict[int, int]
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Answers."""
        return self.requests / self.seconds


def cookie(number: int) -> str:
    """The session's cookie."""
    return f"bench-{number:08d}"


def ended(number: int) -> bool:
    """Whether it is one of those that have ended."""
    return number % TENTH == 0


def request(host: str, path: str, session: str) -> bytes:
    """A request as a small client sends it."""
    lines = (f"GET {path} HTTP/1.1", f"Host: {host}", f"Cookie: session={session}", "Accept: */*", "User-Agent: session-monitor-bench")
    return "\r\n".join((*lines, "", "")).encode()


class Connection(asyncio.Protocol):
    """One connection that is kept, for one request at a time."""

    def __init__(self) -> None:
        """Use `connect`."""
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._buffer = b""

    @classmethod
    async def connect(cls, host: str, port: int) -> "Connection":
        """A connection. Raises OSError."""
        _, made = await asyncio.get_running_loop().create_connection(cls, host, port)
        return made

    async def ask(self, raw: bytes) -> int:
        """The status of the answer, once all of it is there. Raises AbsenceError where the connection ends instead."""
        if self._transport is None:
            raise AbsenceError("the server has closed a connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answer

    def close(self) -> None:
        """Idempotent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """By the loop."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """By the loop."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(AbsenceError(f"the server has closed a connection before it answered: {exc or 'no error'}"))

    def data_received(self, data: bytes) -> None:
        """By the loop."""
        buffer = self._buffer = self._buffer + data
        head = buffer.find(_END)
        if head < 0:
            return
        said = buffer[:head].lower()
        at = said.find(_LENGTH)
        length = 0 if at < 0 else int(said[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
        if len(buffer) < head + len(_END) + length:
            return
        self._buffer = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(int(buffer[9:12]))


async def ask_all(spec: Spec) -> Asked:
    """Ask for so long."""
    raws = [request(f"{spec.host}:{spec.port}", spec.path, cookie(number)) for number in range(spec.sessions)]
    connections = [await Connection.connect(spec.host, spec.port) for _ in range(spec.connections)]
    begin = time.perf_counter() + spec.warm
    end = begin + spec.seconds
    times: list[float] = []
    statuses: Counter[int] = Counter()

    async def keep_asking(connection: Connection, first: int) -> None:
        numbers = _every(first, spec)
        due = time.perf_counter() + first * (1 / spec.rate if spec.rate else 0)
        while True:
            now = time.perf_counter()
            if not spec.rate:
                due = now
            elif now < due:
                await asyncio.sleep(due - now)
            if due >= end:
                return
            status = await connection.ask(raws[next(numbers)])
            if due >= begin:
                times.append((time.perf_counter() - due) * 1000)
                statuses[status] += 1
            if spec.rate:
                due += spec.connections / spec.rate

    try:
        async with asyncio.TaskGroup() as group:
            for number, connection in enumerate(connections):
                group.create_task(keep_asking(connection, number))
    finally:
        for connection in connections:
            connection.close()
    return Asked(len(times), spec.seconds, spread(times), dict(statuses), round(usage(os.getpid()).cpu_seconds, 2))


def _every(first: int, spec: Spec) -> Iterator[int]:
    number = first
    while True:
        yield number % spec.sessions
        number += spec.connections


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(asyncio.run(ask_all(msgspec.json.decode(sys.argv[1], type=Spec)))).decode() + "\n")
