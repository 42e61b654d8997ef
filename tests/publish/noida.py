"""Brokers for the tests of publishing: the shared fixtures `embedded` and `kafka` where they are, else noida-db by hand."""

import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import pytest
from kafka.admin import KafkaAdminClient, NewTopic


def broker_away(test):
    """For a test whose broker is away: kafka-python 3.0 leaves refused sockets to the garbage collector."""
    marked = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")(test)
    return pytest.mark.usefixtures("refused")(marked)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def noida(port: int | None = None, directory: str | None = None) -> Iterator[str]:
    port = port or free_port()
    with tempfile.TemporaryDirectory() as scratch:
        process = subprocess.Popen(
            [str(files("noida_db") / "noida-db"), "start", "--only", "kafka", "--kafka-port", str(port), "--data-dir", directory or scratch],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            pause = threading.Event()
            for _ in range(600):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    pause.wait(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def make_topic(address: str, name: str, partitions: int = 8) -> None:
    """Make it, unless it is there already."""
    admin = KafkaAdminClient(bootstrap_servers=address)
    try:
        if name not in admin.list_topics():
            admin.create_topics([NewTopic(name, partitions, 1)])
    finally:
        admin.close()


BOTH = [pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)]
"""The worlds that a `broker` fixture takes as its params."""


@contextmanager
def world(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the broker that the fixture's param names."""
    try:
        shared = request.getfixturevalue(request.param)
    except pytest.FixtureLookupError:
        shared = None
    if shared is not None:
        yield shared if isinstance(shared, str) else shared.bootstrap_servers
    elif request.param == "embedded":
        with noida() as address:
            yield address
    else:
        pytest.skip("there is no fixture 'kafka' yet")
