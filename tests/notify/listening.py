"""An HTTP server that takes alerts, fails as it is told, and comes back on the same port."""

import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import msgspec

from monitor.broker.port import LOOPBACK, free_port


class Post(NamedTuple):
    """A request as it came, and what it was answered."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def said(self):
        return msgspec.json.decode(self.body)


class Listening:
    """`status` is what is answered, or a function of the request's number (0 and on); `headers` go with each answer."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.port = free_port()
        self.posts: list[Post] = []
        self.status: int | Callable[[int], int] = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.hold = threading.Event()
        """Nothing is answered before it is set."""
        self.hold.set()
        self.drip = False
        """Answer a byte at a time, for ever."""
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def taken(self) -> list[Post]:
        return [post for post in self.posts if post.status == 200]

    def start(self) -> None:
        world, taking = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with taking:
                    status = world.status(len(world.posts)) if callable(world.status) else world.status
                    world.posts.append(Post(self.path, dict(self.headers), body, status))
                world.hold.wait(30)
                if world.drip:
                    self._drip()
                    return
                self.send_response(status)
                for name, value in world.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(world.body)))
                self.end_headers()
                self.wfile.write(world.body)

            def _drip(self) -> None:
                try:
                    while True:
                        self.wfile.write(b"H")
                        self.wfile.flush()
                        time.sleep(0.02)
                except OSError:
                    self.close_connection = True

            def log_message(self, *said) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address) -> None:
                """A client that has gone is no error here."""

        self._server = Server((LOOPBACK, self.port), Handler)
        if self._context is not None:
            self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


def until(met: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for it; fail where it does not come."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
