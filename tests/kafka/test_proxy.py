"""The proxy does to a connection what its words say."""

import contextlib
import socket
import threading
import time

import pytest

from tests.kafka.proxy import LOOPBACK, Proxy


@pytest.fixture
def proxy():
    """In front of something that echoes."""

    def echo(one):
        with one, contextlib.suppress(OSError):
            while piece := one.recv(1024):
                one.sendall(piece)

    def serve(server):
        with contextlib.suppress(OSError):
            while True:
                one, _ = server.accept()
                threading.Thread(target=echo, args=(one,), daemon=True).start()

    with contextlib.closing(socket.create_server((LOOPBACK, 0))) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        with Proxy(server.getsockname()[1]) as proxy:
            yield proxy
        server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def connected(proxy):
    with socket.create_connection((LOOPBACK, proxy.port), 5) as client:
        yield client


def test_it_forwards_and_delays(proxy):
    with connected(proxy) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        proxy.delay(0.2)
        began = time.monotonic()
        client.sendall(b"two")
        assert client.recv(10) == b"two"
        assert time.monotonic() - began >= 0.4  # there and back


def test_what_is_stalled_arrives_later(proxy):
    with connected(proxy) as client:
        proxy.stall()
        client.sendall(b"late")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)
        proxy.forward()
        client.settimeout(5)
        assert client.recv(10) == b"late"


def test_a_cut_ends_connections_and_lets_new_ones_in(proxy):
    with connected(proxy) as client:
        client.sendall(b"x")
        assert client.recv(10) == b"x"
        proxy.cut()
        assert ended(client)
        with connected(proxy) as other:
            other.sendall(b"y")
            assert other.recv(10) == b"y"


def test_refused_until_it_forwards_again(proxy):
    with connected(proxy) as client:
        client.sendall(b"x")
        assert client.recv(10) == b"x"
        proxy.refuse()
        assert ended(client)
        with pytest.raises(ConnectionRefusedError), connected(proxy):
            pass
        proxy.forward()
        with connected(proxy) as other:
            other.sendall(b"y")
            assert other.recv(10) == b"y"


def ended(client):
    try:
        return client.recv(10) == b""
    except ConnectionError:
        return True
