"""Ready is what says so itself; whatever else happens is not ready."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from monitor.broker.port import LOOPBACK, free_port
from monitor.observe.probe import is_ready


@pytest.fixture
def health():
    """Something that answers; `.status` is what it says of being ready."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(server.status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    server = HTTPServer((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (404, False)])
def test_it_is_ready_when_it_says_so(health, monkeypatch, status, ready) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    health.status = status
    assert is_ready(f"http://{LOOPBACK}:{health.server_address[1]}") is ready


def test_where_nobody_listens_nobody_is_ready() -> None:
    assert not is_ready(f"http://{LOOPBACK}:{free_port()}")
