"""The events of every load, and how they are spread: pure but for `write`, which puts a few of them on the log."""

import asyncio
from collections.abc import Iterable, Sequence

from monitor.broker.connection import Connection
from monitor.wire.partitioner import partition_for
from monitor.wire.times import format_time
from monitor.wire.topics import Topics
from monitor.worker.appender import KafkaAppender

EVENT_BYTES = 250
"""Of one activity, exactly."""
_ACTIVITY = (
    b'{"type":"session.activity","session_id":"s-%08x","time":"%b","id":"%012x","source":"gateway/eu-1",'
    b'"subject":"u%09d@acme.info","principal":"user","roles":["analyst"],"classification":"internal","workload":"batch"}'
)

Written = tuple[int, bytes, bytes]
"""Partition, key, value."""


def key_of(session: int) -> bytes:
    """The key of a session of the load."""
    return b"s-%08x" % session


def activity(session: int, number: int, when: bytes) -> bytes:
    """One activity as a gateway would write it, of EVENT_BYTES bytes; about 1 us. `when` is RFC 3339 in milliseconds."""
    return _ACTIVITY % (session, when, number, session)


def instant(millis: int) -> bytes:
    """As `activity` takes it."""
    return format_time(millis).encode()


def special(session_id: str, type_: str, millis: int, workload: str, auth_time: int | None = None) -> bytes:
    """One event of a session that stands apart from the load: its policy goes by its workload."""
    authenticated = "" if auth_time is None else f'"auth_time":"{format_time(auth_time)}",'
    return (
        f'{{"type":"{type_}","session_id":"{session_id}","time":"{format_time(millis)}",{authenticated}'
        f'"source":"gateway/eu-1","subject":"{session_id}@acme.info","principal":"user","classification":"internal",'
        f'"workload":"{workload}"}}'
    ).encode()


def homes(sessions: int, partitions: int, first: int = 0) -> list[list[int]]:
    """The sessions of each partition, in ascending order: `sessions` of them from number `first` on."""
    found: list[list[int]] = [[] for _ in range(partitions)]
    for session in range(first, first + sessions):
        found[partition_for(key_of(session), partitions)].append(session)
    return found


def ids_at(partition: int, partitions: int, count: int, name: str) -> list[str]:
    """So many session ids that belong to one partition."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        session_id = f"{name}-{number:08x}"
        if partition_for(session_id.encode(), partitions) == partition:
            found.append(session_id)
        number += 1
    return found


def write(connection: Connection, topics: Topics, events: Iterable[Written]) -> None:
    """Put a few events on the log; each is acknowledged when this returns."""
    asyncio.run(_write(connection, topics.access_events.name, list(events)))


async def _write(connection: Connection, topic: str, events: Sequence[Written]) -> None:
    appender = KafkaAppender(connection)
    await appender.start()
    try:
        for partition, key, value in events:
            appender.append(topic, partition, key, value)
        await appender.settled(appender.mark())
    finally:
        await appender.stop()
