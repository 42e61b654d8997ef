"""Topics followed from outside, without a group: from their beginning, or from now on."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from kafka import KafkaConsumer, TopicPartition

from monitor.broker.clients import absent, consumer
from monitor.broker.connection import Connection
from monitor.core.instants import Millis

_POLL: Final[Millis] = 200


class TailRecord(Protocol):
    """A record as kafka-python gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: Millis
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def tail(
    connection: Connection,
    topic: str,
    *,
    earliest: bool = False,
    since: Millis | None = None,
    follow: bool = True,
    partitions: Iterable[int] = (),
) -> Generator[TailRecord | None, None, None]:
    """The records of a topic, of each partition in order.

    With `follow` it goes on for ever, and gives None a few times a second while nothing comes, so that a caller can
    look up; without, it ends with what was there when it began. `partitions` empty means all.
    Raises AbsenceError where there is no broker or no such topic.
    """
    with consumer(connection, auto_offset_reset="earliest") as client:
        there = client.partitions_for_topic(topic)
        if not there:
            raise absent(connection, topic)
        wanted = [TopicPartition(topic, number) for number in sorted(set(partitions) or there)]
        # Asked now, not at the first poll: whatever comes after this call began is seen.
        ends: dict[TopicPartition, int] = client.end_offsets(wanted)
        starts = client.beginning_offsets(wanted) if earliest else ends if since is None else offsets_since(client, ends, since)
        if not follow:
            yield from read_between(client, starts, ends)
            return
        client.assign(wanted)
        for partition, start in starts.items():
            client.seek(partition, start)
        yield None
        while True:
            batches: dict[Any, list[TailRecord]] = client.poll(_POLL)
            for records in batches.values():
                yield from records
            if not batches:
                yield None


def read_to_end(client: KafkaConsumer, partitions: list[TopicPartition]) -> Iterator[TailRecord]:
    """Everything up to the ends of these partitions as they are now."""
    yield from read_between(client, client.beginning_offsets(partitions), client.end_offsets(partitions))


def read_between(
    client: KafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> Iterator[TailRecord]:
    """The records from `starts` on, up to and without `ends`; both name the same partitions."""
    client.assign(list(starts))
    for partition, start in starts.items():
        client.seek(partition, start)
    waiting = {partition for partition in starts if client.position(partition) < ends[partition]}
    while waiting:
        for partition, records in client.poll(_POLL).items():
            yield from (record for record in records if record.offset < ends[partition])
        # By position, not by the last record: compaction and transaction marks leave holes before the end.
        waiting = {partition for partition in waiting if client.position(partition) < ends[partition]}


def offsets_since(client: KafkaConsumer, ends: Mapping[TopicPartition, int], since: Millis) -> dict[TopicPartition, int]:
    """Where the records of that time or later begin; at the end of a partition that has none."""
    found = client.offsets_for_times(dict.fromkeys(ends, since))
    return {one: end if (at := found.get(one)) is None or not 0 <= at.offset < end else at.offset for one, end in ends.items()}
