"""The yardstick of the sidecar, and the service behind a proxy: the same server, with an application that always says 200.

Run as a program: `python -m monitor.bench.constant PORT`; SIGTERM ends it.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from monitor.broker.port import LOOPBACK
from monitor.gateway.server import Server, new_loop


async def answer(_scope: Any, _receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """200, with a body of no bytes and as many headers as an admission has."""
    headers = [(b"x-session-id", b"0" * 64), (b"cache-control", b"no-store"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def serve(port: int) -> None:
    """Until SIGTERM."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    server = Server(answer, LOOPBACK, port)
    await server.start()
    await told.wait()
    await server.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
