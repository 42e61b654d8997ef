"""The control topic from outside the worker: one acknowledged write, and the whole of it read."""

from collections.abc import Sequence

import msgspec
from kafka import TopicPartition

from monitor.broker.clients import REQUEST_WAIT, absent, administrator, consumer, producer
from monitor.broker.connection import Connection
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
    name = topics.session_control.name
    # kafka-python's producer would have a missing topic made, on brokers that do so; with the wrong settings.
    with administrator(connection) as admin:
        if name not in admin.list_topics():
            raise absent(connection, name)
    with producer(connection) as client:
        sent = client.send(name, key=key.encode(), value=value, headers=list(headers), partition=0)
        return int(sent.get(2 * REQUEST_WAIT / 1000).offset)


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
