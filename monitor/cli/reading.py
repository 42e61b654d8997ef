"""Topics read for people: outside of any group, to the end as it is now, or on and on."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from monitor.broker.connection import Connection
from monitor.broker.reach import require_broker
from monitor.core.errors import AbsenceError

POLL_MILLIS = 500


class Read(Protocol):
    """One record: kafka-python's `ConsumerRecord` is one."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class TopicReader:
    """Reads one topic whole. Raises AbsenceError where there is no broker or no such topic; never makes one."""

    def __init__(self, connection: Connection, topic: str) -> None:
        """Connects at once."""
        require_broker(connection)
        self.topic = topic
        self._consumer: Any = KafkaConsumer(
            **connection.kafka_python(), client_id="session-monitor-cli", enable_auto_commit=False, group_id=None,
            auto_offset_reset="earliest", allow_auto_create_topics=False, fetch_max_wait_ms=100,
        )  # fmt: skip
        try:
            # The list of all, not a question about one: that might make it.
            there = topic in self._consumer.topics()
            numbers = self._consumer.partitions_for_topic(topic) if there else set()
            self.places = [TopicPartition(topic, number) for number in sorted(numbers)]
            self._consumer.assign(self.places)
        except BaseException as error:
            self.close()
            if isinstance(error, KafkaError):
                raise AbsenceError(f"{topic} can't be read: {error}") from error
            raise
        if not there:
            self.close()
            raise AbsenceError(
                f"there is no topic {topic!r} at {connection.bootstrap_servers}: check --topic-prefix, "
                "or make it with `session-monitor topics apply`"
            )

    def __enter__(self) -> Self:
        """It is connected already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Let go of the broker. Idempotent."""
        with contextlib.suppress(KafkaError):
            self._consumer.close()

    @property
    def partitions(self) -> int:
        """How many the topic has."""
        return len(self.places)

    def read(self, last: int | None = None) -> Iterator[Read]:
        """Every record up to the end as it is now; of each partition only the `last` offsets, where given."""
        consumer = self._consumer
        ends = consumer.end_offsets(self.places)
        firsts = consumer.beginning_offsets(self.places)
        for place in self.places:
            consumer.seek(place, firsts[place] if last is None else max(firsts[place], ends[place] - last))
        # The position counts, not the last record seen: compaction and transactions leave gaps.
        while any(consumer.position(place) < ends[place] for place in self.places):
            for place, records in consumer.poll(POLL_MILLIS).items():
                yield from (record for record in records if record.offset < ends[place])

    def follow(self, *, from_beginning: bool) -> Iterator[Read]:
        """Every record as it comes, without end."""
        consumer = self._consumer
        ends = (
            consumer.beginning_offsets(self.places) if from_beginning else consumer.end_offsets(self.places)
        )
        for place in self.places:
            consumer.seek(place, ends[place])
        while True:
            for records in consumer.poll(POLL_MILLIS).values():
                yield from records
