"""The control topic from outside the worker: one acknowledged write, and the whole of it read."""

from collections.abc import Sequence

import msgspec
from kafka import TopicPartition

from monitor.broker.clients import absent, consumer
from monitor.broker.connection import Connection
from monitor.broker.single import write_one
from monitor.broker.tail import read_to_end
from monitor.core.instants import LogMillis
from monitor.wire.topics import Topics


class StoredControl(msgspec.Struct, frozen=True):
    """A record of session-control, as `monitor.wire.controls.decode_control` takes it."""

    offset: int
    appended: LogMillis
    key: bytes
    value: bytes | None
    """None: taken back (a tombstone)."""


def write_control(
    connection: Connection,
    topics: Topics,
    key: str,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]] = (),
) -> int:
    """Write one control and return its offset, once all in-sync replicas have it. Raises AbsenceError."""
    return write_one(connection, topics.session_control.name, key.encode(), value, headers)


def read_controls(connection: Connection, topics: Topics) -> list[StoredControl]:
    """Every control there is at the moment of asking, in order. Raises AbsenceError."""
    name = topics.session_control.name
    with consumer(connection) as client:
        if not client.partitions_for_topic(name):
            raise absent(connection, name)
        return [
            StoredControl(record.offset, record.timestamp, record.key or b"", record.value)
            for record in read_to_end(client, [TopicPartition(name, 0)])
        ]
