"""Writes the load: access events as JSON of about 250 bytes, uniform over sessions."""

import asyncio
import random
import time
from typing import Any

from monitor.wire.partitioner import partition_for
from monitor.wire.times import format_time
from monitor.wire.topics import Topics
from monitor.worker.appender import KafkaAppender

FLUSH = 20_000


def event(session: int, number: int, now: int) -> bytes:
    """One activity of 250 bytes, as a gateway would write it."""
    return (
        f'{{"type":"session.activity","session_id":"s-{session:08x}","time":"{format_time(now)}",'
        f'"id":"{number:012x}","source":"gateway/eu-1","subject":"u{session:09}@acme.info","principal":"user",'
        f'"roles":["analyst"],"classification":"internal","workload":"batch"}}'
    ).encode()


async def preload(connection: Any, topics: Topics, events: int, sessions: int, seed: int = 1) -> int:
    """Write `events` records over `sessions` sessions, each at least once; the size of one record."""
    appender = KafkaAppender(connection, batch_bytes=512 << 10)
    await appender.start()
    try:
        dice = random.Random(seed)  # noqa: S311 - a load, no secret
        ids = [f"s-{number:08x}".encode() for number in range(sessions)]
        homes = [partition_for(name, topics.access_events.partitions) for name in ids]
        size = 0
        for number in range(events):
            session = number if number < sessions else dice.randrange(sessions)
            value = event(session, number, time.time_ns() // 1_000_000)
            size = len(value)
            appender.append(topics.access_events.name, homes[session], ids[session], value)
            if number % FLUSH == FLUSH - 1:
                await appender.settled(appender.mark())
        await appender.settled(appender.mark())
        return size
    finally:
        await appender.stop()


def run_preload(connection: Any, topics: Topics, events: int, sessions: int) -> int:
    """`preload` from a program without an event loop."""
    return asyncio.run(preload(connection, topics, events, sessions))
