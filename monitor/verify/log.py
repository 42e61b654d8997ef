"""The topics as they stand when `verify` begins: where each partition begins and ends, and its records."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from kafka import KafkaConsumer, TopicPartition

from monitor.broker.clients import absent, consumer
from monitor.broker.connection import Connection
from monitor.core.instants import Millis
from monitor.wire.topics import Topics

_POLL: Final[Millis] = 200
CREATE_TIME: Final = 0
"""The timestamp type of a record whose time is its producer's word."""


class Stored(Protocol):
    """A record as kafka-python gives it."""

    partition: int
    offset: int
    timestamp: Millis
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Log(Protocol):
    """What the judge asks for."""

    def partitions(self, topic: str) -> Sequence[int]:
        """Its partitions."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is still there, and the end."""

    def read(self, topic: str, partition: int, since: Millis | None = None) -> Iterator[Stored]:
        """Its records up to the end, from the first or from the first that was appended at `since` or later."""


class TopicLog:
    """Topics on a broker. Their ends are taken once, those of topics that rest on others first."""

    def __init__(self, client: KafkaConsumer, connection: Connection, topics: Topics) -> None:
        """Raises AbsenceError where a topic is not there."""
        self._client = client
        self._bounds: dict[str, dict[int, tuple[int, int]]] = {}
        for topic in (
            topics.session_commands, topics.session_lifecycle, topics.dead_letters, topics.access_events, topics.session_control,
        ):  # fmt: skip
            numbers = client.partitions_for_topic(topic.name)
            if not numbers:
                raise absent(connection, topic.name)
            wanted = [TopicPartition(topic.name, number) for number in sorted(numbers)]
            ends, begins = client.end_offsets(wanted), client.beginning_offsets(wanted)
            self._bounds[topic.name] = {tp.partition: (begins[tp], ends[tp]) for tp in wanted}

    def partitions(self, topic: str) -> Sequence[int]:
        """Its partitions."""
        return sorted(self._bounds[topic])

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that was there, and the end."""
        return self._bounds[topic][partition]

    def read(self, topic: str, partition: int, since: Millis | None = None) -> Iterator[Stored]:
        """Its records up to the end, from the first or from the first that was appended at `since` or later."""
        place, client = TopicPartition(topic, partition), self._client
        begin, end = self._bounds[topic][partition]
        if since is not None:
            found = client.offsets_for_times({place: since})[place]
            begin = end if found is None else max(begin, found.offset)
        if begin >= end:
            return
        client.assign([place])
        client.seek(place, begin)
        # By position, not by the last record: compaction leaves holes before the end.
        while client.position(place) < end:
            batches: dict[Any, list[Stored]] = client.poll(_POLL)
            for records in batches.values():
                yield from (record for record in records if record.offset < end)


@contextmanager
def topic_log(connection: Connection, topics: Topics) -> Iterator[TopicLog]:
    """The topics as they stand now. Raises AbsenceError, also for what goes wrong inside the block."""
    with consumer(connection, auto_offset_reset="earliest") as client:
        yield TopicLog(client, connection, topics)
