"""No broker there: what is there instead is said so that a stranger can act on it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from monitor.broker.connection import Connection
from monitor.broker.port import free_port, require_free
from monitor.broker.reach import require_broker
from monitor.core.errors import AbsenceError


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answers one connection and ends it."""

    def serve() -> None:
        with listening.accept()[0] as talk:
            answer(talk)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            thread.join(10)


def said(address: str, timeout: float = 5.0, **settings) -> str:
    with pytest.raises(AbsenceError) as error:
        require_broker(Connection(bootstrap_servers=address, **settings), timeout)
    return str(error.value)


def test_nothing_listens():
    address = f"127.0.0.1:{free_port()}"
    assert said(address) == (
        f"no Kafka broker: {address} refuses connections: start the broker, or check the port (session-monitor up brings its own)"
    )


def test_the_host_is_not_known():
    assert "nowhere.invalid:9092 is no known host" in said("nowhere.invalid:9092")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is a web server, not a Kafka broker: check the port"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS: give --security-protocol SSL or SASL_SSL"),
        (b"+OK ready\r\n", "does not speak Kafka"),
        (b"", "ended the connection at once"),
    ],
)
def test_something_else_listens(answer, text):
    def reply(talk: socket.socket) -> None:
        talk.recv(1000)
        talk.sendall(answer)

    with server(reply) as address:
        assert text in said(address)


def test_something_listens_and_says_nothing():
    quiet = threading.Event()
    with server(lambda _: quiet.wait(10) and None) as address:
        assert "did not answer as a Kafka broker within 0.5 s" in said(address, timeout=0.5)
        quiet.set()


def test_tls_is_asked_of_a_plain_broker():
    def reply(talk: socket.socket) -> None:
        talk.recv(1000)
        talk.sendall(b"\x00\x00\x00\x04none")

    with server(reply) as address:
        assert "does not speak TLS as we do" in said(address, security_protocol="SSL")


@pytest.mark.embedded
def test_one_of_several_is_enough(embedded):
    connection = Connection(bootstrap_servers=f"127.0.0.1:{free_port()},{embedded.bootstrap_servers}")
    assert require_broker(connection) == embedded.connection.addresses()[0]


def test_a_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            AbsenceError, match=f"the thing: port {port} of 127.0.0.1 can't be had .* choose another port"
        ):
            require_free(port, "the thing")
    require_free(port, "the thing")
