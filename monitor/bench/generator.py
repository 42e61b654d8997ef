"""A steady load: a process of its own, so that it neither waits for the worker nor makes it wait.

Run as a program: `python -m monitor.bench.generator SPEC`, SPEC in JSON; SIGTERM ends it, and then it reports. Events leave every
20 ms, all partitions in one request, which costs a few percent of a core for 20,000 a second.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from itertools import count

import msgspec

from monitor.bench.load import activity, homes, instant, key_of, special
from monitor.broker.connection import Connection
from monitor.wire.partitioner import partition_for
from monitor.wire.topics import Topics
from monitor.worker.appender import KafkaAppender

SLOT = 0.02
CATCH_UP = 0.2
"""Seconds of load written at once at the most: whoever fell behind does not pour it all out in one go."""
PENDING = 100_000
BATCH_BYTES = 256 << 10


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What to write, in events a second."""

    bootstrap_servers: str
    prefix: str
    partitions: int
    sessions: int
    rate: float
    """Activities, uniform over the sessions 0 .. sessions - 1."""
    brief: float = 0.0
    """Sessions of workload `brief` that are opened and not heard of again."""
    closed: float = 0.0
    """Sessions unknown before of which the first event is `session.closed`."""
    made: int = 0
    """How many sessions an earlier load has made: none of them comes again."""
    silent: tuple[int, ...] = ()
    """Partitions that get nothing."""


class Reached(msgspec.Struct, frozen=True):
    """What was written and acknowledged."""

    seconds: float
    events: int
    brief: int
    closed: int
    cpu_seconds: float
    dropped: float
    """Seconds of load that were left out because the broker or this process did not keep up."""

    @property
    def per_second(self) -> float:
        """All events."""
        return (self.events + self.brief + self.closed) / self.seconds if self.seconds else 0.0


class _Pace:
    """How many of one kind are owed."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.sent = 0
        self._due = 0.0

    def owed(self, seconds: float) -> int:
        """After so many more seconds."""
        self._due += self.rate * seconds
        whole = int(self._due)
        self._due -= whole
        self.sent += whole
        return whole


async def generate(spec: Spec, ended: asyncio.Event) -> Reached:
    """Write until `ended`; everything is acknowledged when this returns."""
    topic, partitions = Topics(spec.prefix, spec.partitions).access_events.name, spec.partitions
    home = [
        (session, partition)
        for partition, sessions in enumerate(homes(spec.sessions, partitions))
        if partition not in spec.silent
        for session in sessions
    ]
    loud = [partition for partition in range(partitions) if partition not in spec.silent]
    steady, brief, closed = _Pace(spec.rate), _Pace(spec.brief), _Pace(spec.closed)
    appender = KafkaAppender(Connection(bootstrap_servers=spec.bootstrap_servers), batch_bytes=BATCH_BYTES)
    await appender.start()
    try:
        roll, known = random.random, len(home)
        made = spec.made
        began = last = time.monotonic()
        used, dropped = time.process_time(), 0.0
        slot = 0
        while not ended.is_set() and not appender.failed and os.getppid() != 1:
            now = time.monotonic()
            span = now - last
            last = now
            if appender.pending > PENDING:
                span, dropped = 0.0, dropped + span
            elif span > CATCH_UP:
                span, dropped = CATCH_UP, dropped + span - CATCH_UP
            millis = time.time_ns() // 1_000_000
            when = instant(millis)
            for _ in range(steady.owed(span)):
                session, partition = home[int(roll() * known)]
                appender.append(topic, partition, key_of(session), activity(session, steady.sent, when))
            for pace, name, kind in ((brief, "brief", "session.opened"), (closed, "closed", "session.closed")):
                for _ in range(pace.owed(span)):
                    made += 1
                    session_id, partition = fresh(name, made, partitions, loud)
                    appender.append(topic, partition, session_id.encode(), special(session_id, kind, millis, name))
            slot = max(slot + 1, int((time.monotonic() - began) / SLOT))
            await asyncio.sleep(max(0.0, began + slot * SLOT - time.monotonic()))
        seconds = time.monotonic() - began
        await appender.settled(appender.mark())
        return Reached(seconds, steady.sent, brief.sent, closed.sent, time.process_time() - used, round(dropped, 3))
    finally:
        await appender.stop()


def fresh(name: str, number: int, partitions: int, loud: Sequence[int]) -> tuple[str, int]:
    """A session id for each number, and its partition: the loud ones by turns, as many ids each. About 15 us."""
    partition = loud[number % len(loud)]
    for attempt in count():
        session_id = f"{name}-{number:08x}-{attempt:x}"
        if partition_for(session_id.encode(), partitions) == partition:
            break
    return session_id, partition


async def _run(spec: Spec) -> Reached:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    return await generate(spec, ended)


if __name__ == "__main__":
    spec = msgspec.json.decode(sys.argv[1], type=Spec)
    sys.stdout.write(msgspec.json.encode(asyncio.run(_run(spec))).decode() + "\n")
