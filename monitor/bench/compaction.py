"""Has the broker compact the changelog of a stage at once; a production topic waits for an hour, at least."""

import asyncio
import time
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType

from monitor.broker.clients import administrator
from monitor.broker.connection import Connection
from monitor.wire.topics import Topics
from monitor.worker.reader import KafkaReader

_EAGER: Final = {
    "min.compaction.lag.ms": "0", "delete.retention.ms": "0", "min.cleanable.dirty.ratio": "0.001", "segment.ms": "1000",
    "segment.bytes": str(16 << 20),
}  # fmt: skip
"""Only closed segments are compacted: they close soon, as long as something is appended."""
CALM = 12.0
"""Seconds without a smaller changelog after which there is nothing left to compact (or the broker does not)."""
LONGEST = 180.0


def compact(connection: Connection, topics: Topics) -> None:
    """Return when the changelog gets no smaller. A worker must be at work on it: its checkpoints close the segments.

    `restore` must follow before the next worker starts: it refuses a changelog that is compacted too soon.
    """
    with administrator(connection) as admin:
        _alter(admin, topics, _EAGER)
        smallest, since, began = _bytes(admin, topics), time.monotonic(), time.monotonic()
        while (now := time.monotonic()) - since < CALM and now - began < LONGEST:
            time.sleep(0.5)
            if (size := _bytes(admin, topics)) < smallest * 0.99:
                smallest, since = size, time.monotonic()


def restore(connection: Connection, topics: Topics) -> None:
    """Give the changelog its own settings back."""
    own = topics.changelog.configs
    with administrator(connection) as admin:
        _alter(admin, topics, {name: own.get(name, (AlterConfigOp.DELETE, None)) for name in _EAGER})


def count_records(connection: Connection, topics: Topics) -> int:
    """How many records the changelog holds: compaction leaves gaps between offsets, so all are read."""
    return asyncio.run(_count(connection, topics))


async def _count(connection: Connection, topics: Topics) -> int:
    reader = KafkaReader(connection, client_id="session-monitor-bench")
    total = 0
    try:
        for partition in range(topics.changelog.partitions):
            begin, end = await reader.bounds(topics.changelog.name, partition)
            async for records in reader.read(topics.changelog.name, partition, begin, end):
                total += len(records)
    finally:
        await reader.stop()
    return total


def _alter(admin: KafkaAdminClient, topics: Topics, settings: dict[str, Any]) -> None:
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.changelog.name, configs=settings)])


def _bytes(admin: KafkaAdminClient, topics: Topics) -> int:
    said = admin.describe_log_dirs({topics.changelog.name: list(range(topics.changelog.partitions))})
    return sum(
        int(partition["partition_size"])
        for broker in said
        for directory in broker["log_dirs"]
        for topic in directory["topics"]
        for partition in topic["partitions"]
    )
