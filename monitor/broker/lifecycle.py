"""What all brokers that we run have in common."""

import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from monitor.broker.connection import Connection
from monitor.broker.reach import probe


class Broker(Protocol):
    """A Kafka broker of our own. `start` returns when it serves; `stop` is idempotent, bounded, and leaves nothing."""

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, from `start` on."""

    @property
    def connection(self) -> Connection:
        """How clients reach it, from `start` on."""

    def start(self) -> None:
        """Serve. Raises AbsenceError where something that it needs is not there."""

    def stop(self) -> None:
        """End, and remove its data."""


class Stopping:
    """Gives a broker `with`: started on entry, stopped on exit, also where the start failed half-way."""

    def start(self) -> None:
        """Serve."""
        raise NotImplementedError

    def stop(self) -> None:
        """End."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Start."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def serves(connection: Connection, timeout: float, alive: Callable[[], bool]) -> bool:
    """Wait until the broker gives metadata with a broker in it; False where it died or `timeout` seconds passed."""
    deadline = time.monotonic() + timeout
    host, port = connection.addresses()[0]
    while time.monotonic() < deadline and alive():
        if probe(connection, host, port, 2.0) is None:
            with contextlib.suppress(KafkaError):
                admin = KafkaAdminClient(
                    **connection.kafka_python(), bootstrap_timeout_ms=5000, request_timeout_ms=5000
                )
                try:
                    admin.list_topics()
                    return True
                finally:
                    admin.close()
        time.sleep(0.02)
    return False
