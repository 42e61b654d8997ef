"""The embedded broker, started by hand: stands in until the broker room's fixture is there."""

import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

from kafka.admin import KafkaAdminClient, NewTopic


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
    admin = KafkaAdminClient(bootstrap_servers=address)
    admin.create_topics([NewTopic(name, partitions, 1)])
    admin.close()
