"""Fills the log before a measurement: each session once, then activities uniform over the sessions, as fast as may be.

Run as a program, one for each share of the partitions: `python -m monitor.bench.preload SPEC`, SPEC in JSON. So in each partition
all that opens a session stands before all that does not.
"""

import asyncio
import os
import random
import sys
import time

import msgspec

from monitor.bench.load import activity, homes, instant, key_of
from monitor.broker.connection import Connection
from monitor.wire.topics import Topics
from monitor.worker.appender import KafkaAppender

BATCH_BYTES = 1_000_000
"""Just below what a topic of ours takes."""
CHUNK = 4_000
"""Events built between two turns of the loop."""
PENDING = 60_000
"""Events on their way at most: memory is bounded, and the broker kept busy."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What to write."""

    bootstrap_servers: str
    prefix: str
    partitions: int
    sessions: int
    events: int
    """In all, over all shares; at least one for each session."""
    first: int = 0
    """The first session's number."""
    share: int = 0
    shares: int = 1
    """This program fills the partitions p with p % shares == share."""


class Filled(msgspec.Struct, frozen=True):
    """What was written, by partition."""

    openings: dict[int, int]
    """Events that were the first of their session ..."""
    written: dict[int, int]
    """... and all of them."""


async def fill(spec: Spec) -> Filled:
    """Write one share; everything is acknowledged when this returns."""
    topics = Topics(spec.prefix, spec.partitions)
    topic = topics.access_events.name
    mine = [
        (partition, sessions)
        for partition, sessions in enumerate(homes(spec.sessions, spec.partitions, spec.first))
        if partition % spec.shares == spec.share
    ]
    openings = {partition: len(sessions) for partition, sessions in mine}
    home = [(session, partition) for partition, sessions in mine for session in sessions]
    appender = KafkaAppender(Connection(bootstrap_servers=spec.bootstrap_servers), batch_bytes=BATCH_BYTES, linger=0.05)
    await appender.start()
    try:
        written = dict.fromkeys(openings, 0)
        dice = random.Random(spec.share)  # noqa: S311 - a load, no secret
        dice.shuffle(home)
        roll, known = dice.random, len(home)
        total = max(known, round(spec.events * known / spec.sessions))
        number = 0
        while number < total:
            now = instant(time.time_ns() // 1_000_000)
            for event in range(number, min(number + CHUNK, total)):
                session, partition = home[event] if event < known else home[int(roll() * known)]
                appender.append(topic, partition, key_of(session), activity(session, event, now))
                written[partition] += 1
            number += CHUNK
            await asyncio.sleep(0)
            while appender.pending > PENDING and not appender.failed:
                await asyncio.sleep(0.002)
            if appender.failed or os.getppid() == 1:
                break
        await appender.settled(appender.mark())
        return Filled(openings, written)
    finally:
        await appender.stop()


if __name__ == "__main__":
    spec = msgspec.json.decode(sys.argv[1], type=Spec)
    sys.stdout.write(msgspec.json.encode(asyncio.run(fill(spec))).decode() + "\n")
