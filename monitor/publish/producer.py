"""The Kafka client underneath: kafka-python, set up so that nothing is doubled, reordered or sent astray."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from monitor.core.errors import AbsenceError, InputError
from monitor.core.instants import Millis
from monitor.wire.codec import Record

SENDER_WAIT_SECONDS: Final = 5.0


class KafkaSettings(Protocol):
    """What knows how to reach the broker: `monitor.broker.connection.Connection` is one."""

    def kafka_python(self) -> Mapping[str, Any]:
        """Keyword arguments for kafka-python's clients."""


class Outcome(Protocol):
    """kafka-python's future of one record."""

    def add_callback(self, f: Callable[[object], object]) -> object:
        """Call when acknowledged."""

    def add_errback(self, f: Callable[[BaseException], object]) -> object:
        """Call when given up."""


class Producer(Protocol):
    """What the outbox needs of Kafka."""

    def send(self, record: Record, partition: int | None) -> Outcome:
        """Take one record without waiting; in order per partition. Raises KafkaError or ValueError."""

    def partitions(self) -> list[int]:
        """The topic's partitions."""

    def close(self, timeout: float) -> None:
        """End; what is not acknowledged by then fails."""


class KafkaPythonProducer:
    """One topic, idempotent, acknowledged by all in-sync replicas.

    Connects at once. Raises AbsenceError where no broker answers within `connect_timeout` seconds, or the topic is
    not there: the client never makes it, for it would have the wrong number of partitions.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        topic: str,
        connect_timeout: float,
        delivery_timeout: Millis,
        linger: Millis,
    ) -> None:
        """`settings` as of `KafkaSettings.kafka_python`."""
        self._topic = topic
        servers = settings.get("bootstrap_servers")
        # kafka-python 3.0 leaves its sockets open where the first connection fails: keep hold of what has them.
        clients: list[Any] = []

        def make_client(**config: object) -> object:
            client = KafkaProducer.DEFAULT_CONFIG["kafka_client"](**config)
            # kafka-python 3.0 doesn't hand this setting on to what asks for topics, and would make them.
            client.cluster.config["allow_auto_create_topics"] = False
            clients.append(client)
            return client

        try:
            self._kafka = KafkaProducer(
                **{
                    "client_id": "session-monitor-publish",
                    **settings,
                    "enable_idempotence": True,
                    "acks": "all",
                    "allow_auto_create_topics": False,
                    "bootstrap_timeout_ms": int(connect_timeout * 1000),
                    "max_block_ms": int(connect_timeout * 1000),
                    "request_timeout_ms": min(30_000, delivery_timeout - linger),
                    "delivery_timeout_ms": delivery_timeout,
                    "linger_ms": linger,
                    "kafka_client": make_client,
                }
            )
        except ValueError as error:
            raise InputError(f"publisher: the Kafka settings can't be used: {error}") from error
        except (KafkaError, OSError) as error:
            for client in clients:
                client.close()
            raise AbsenceError(
                f"publisher: no broker answers at {servers} ({error}); check the address and that it runs"
            ) from error
        try:
            self._kafka.partitions_for(topic)
        except KafkaError as error:
            self.close(SENDER_WAIT_SECONDS)
            raise AbsenceError(
                f"publisher: the topic {topic!r} isn't there at {servers} ({error}); make it with `session-monitor topics apply`"
            ) from error

    def send(self, record: Record, partition: int | None) -> Outcome:
        """Partition None: murmur2 of the key, kafka-python's default, as Java has it."""
        outcome: Outcome = self._kafka.send(
            self._topic, value=record.value, key=record.key, headers=record.headers, partition=partition
        )
        return outcome

    def partitions(self) -> list[int]:
        """As the client knows them by now."""
        return sorted(self._kafka.partitions_for(self._topic))

    def close(self, timeout: float) -> None:
        """Graceful within `timeout` seconds, then by force."""
        try:
            self._kafka.close(timeout=timeout)
        except KafkaTimeoutError:
            # kafka-python 3.0 flushes before it closes, and where the flush is late it raises and leaves its
            # thread and its records behind. Only the thread itself can then give the records up.
            sender = self._kafka._sender  # noqa: SLF001
            sender.force_close()
            sender.join(SENDER_WAIT_SECONDS)
            self._kafka._closed = True  # noqa: SLF001
            self._kafka._unregister_cleanup()  # noqa: SLF001
