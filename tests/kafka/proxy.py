"""A TCP proxy that fails on demand, for what a network does to one client and not to others.

Kafka's clients go where the broker tells them: it needs a listener of its own that is advertised at this port.
"""

import contextlib
import socket
import struct
import threading
import time
from typing import Self

LOOPBACK = "127.0.0.1"


class Proxy:
    """Forwards to `upstream`, a port of this machine; `forward` ends whatever fault there is."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._delay = 0.0
        self._server: socket.socket | None = None
        self.connections = 0
        """Accepted so far."""
        self.port = 0

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._open.set()

    def forward(self) -> None:
        """Let everything through; what was held back comes now."""
        self._delay = 0.0
        self._open.set()
        if self._server is None:
            self._listen()

    def delay(self, seconds: float) -> None:
        """Hold each piece for so long."""
        self._delay = seconds

    def stall(self) -> None:
        """Connections stay, and nothing moves in them; what is sent meanwhile arrives after `forward`."""
        self._open.clear()

    def cut(self) -> None:
        """Reset the connections there are; new ones are let in."""
        with self._lock:
            pairs = list(self._pairs)
            self._pairs.clear()
        for pair in pairs:
            for one in pair:
                _reset(one)

    def refuse(self) -> None:
        """Reset the connections there are, and let none in."""
        server, self._server = self._server, None
        if server is not None:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        self.cut()

    def _listen(self) -> None:
        self._server = server = socket.create_server((LOOPBACK, self.port))
        self.port = server.getsockname()[1]
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection((LOOPBACK, self._upstream), 5)
            except OSError:
                _reset(client)
                continue
            upstream.settimeout(None)
            with self._lock:
                pair = (client, upstream)
                self._pairs.add(pair)
                self.connections += 1
            if self._server is not server:  # refused meanwhile
                self.cut()
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self._pump, args=(source, sink, pair), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if self._delay:
                    time.sleep(self._delay)
                self._open.wait()
                sink.sendall(piece)
        # One side has ended: so does the other.
        for one in pair:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._pairs.discard(pair)
        source.close()


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # A thread that reads from it would keep it open.
        one.shutdown(socket.SHUT_RDWR)
    one.close()
