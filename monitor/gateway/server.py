"""`Server`: an ASGI application on a port of its own, by uvicorn. Needs the extra `gateway`.

h11 reads the requests, whatever else is installed: it waits for no more of one when it has 64 KiB of its head, and takes no path
that is not ASCII.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any, Final

from monitor.core.errors import AbsenceError, InvariantError, MissingExtraError

try:
    import uvicorn
except ModuleNotFoundError as error:
    raise MissingExtraError("gateway", "the sidecar") from error

log = logging.getLogger(__name__)

BACKLOG: Final = 2048
KEEP_ALIVE: Final = 75
"""Seconds. Longer than proxies keep a connection that they don't use (nginx: 60): the one who uses it should be the one to close it."""
GRACE: Final = 5
"""Seconds that requests under way have when it stops."""


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop for it: uvloop's, where it is installed."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class _Server(uvicorn.Server):
    """Leaves signals to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Server:
    """Use it with `start` and `stop`, on one event loop."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        """`port` 0 is a free one. Nothing is bound before `start`."""
        self._app, self._host, self._port = app, host, port
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._addr: tuple[str, int] | None = None

    @property
    def addr(self) -> tuple[str, int]:
        """Host and port that it listens on. Raises InvariantError before `start`."""
        if self._addr is None:
            raise InvariantError("the server has not been started")
        return self._addr

    @property
    def url(self) -> str:
        """Of the root, without a slash at its end."""
        host, port = self.addr
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen. Raises AbsenceError where the address can't be had."""
        listening = self._bind()
        host, port = listening.getsockname()[:2]
        self._addr = (str(host), int(port))
        # Its log would tell of each request that is no HTTP; faults of ours are errors.
        self._server = _Server(uvicorn.Config(
            self._app, http="h11", ws="none", lifespan="off", log_config=None, log_level="error", access_log=False,
            proxy_headers=False, server_header=False, timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=GRACE,
        ))  # fmt: skip
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]), name="sidecar-server")
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise InvariantError("the server ended before it began")
            await asyncio.sleep(0.01)
        log.info("sidecar_started", extra={"url": self.url})

    async def stop(self) -> None:
        """Listen no more; requests under way have `GRACE` seconds. Idempotent."""
        server, self._server = self._server, None
        serving, self._serving = self._serving, None
        if server is not None and serving is not None:
            server.should_exit = True
            await serving

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            listening = socket.create_server((self._host, self._port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise AbsenceError(
                f"the sidecar can't listen on {self._host}:{self._port}: {error.strerror}. "
                "Choose another --host or --port (0: any free one)."
            ) from error
        listening.setblocking(False)
        return listening
