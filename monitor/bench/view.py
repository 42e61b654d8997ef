"""A gateway that starts among many ended sessions: until its view is loaded, and what that costs in memory.

Run as a program, once to write the commands and once to load them: `python -m monitor.bench.view SPEC`, SPEC in JSON.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import msgspec
from kafka import TopicPartition

from monitor.bench.asker import cookie
from monitor.bench.processes import usage
from monitor.bench.stage import PATIENCE, Stage
from monitor.broker.clients import consumer
from monitor.broker.connection import Connection
from monitor.core.commands import Command, CommandType, Reauth
from monitor.core.errors import AbsenceError
from monitor.core.instants import DAY, MINUTE, Millis
from monitor.core.reasons import MESSAGE, Reason
from monitor.gateway.follower import Follower
from monitor.publish import hashed_session_id
from monitor.wire.commands import encode_command
from monitor.wire.partitioner import partition_for
from monitor.wire.topics import Topics
from monitor.worker.appender import KafkaAppender

HOW: Final = (
    "one expiry a session on session-commands, as the worker writes it, the sessions named as the sidecar names those of cookies; then a process with a follower and nothing else:"
    " from its connection until it is ready, the CPU seconds of that, and the growth of its resident memory since an empty"
    " client, buffers included"
)
_CHUNK: Final = 5000
_PENDING: Final = 60_000
_AT: Final[Millis] = 1_795_500_000_000


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What to do."""

    bootstrap_servers: str
    prefix: str
    partitions: int
    ended: int
    fill: bool


class Loaded(msgspec.Struct, frozen=True):
    """What was measured."""

    ended: int
    seconds: float
    cpu_seconds: float
    bytes_per_session: float


def measure(connection: Connection, ended: int, directory: Path) -> Loaded:
    """Write so many commands, and load them in a fresh process."""
    with Stage(connection, directory, "", "view") as stage:
        said = b""
        for name, fill in (("fill", True), ("load", False)):
            spec = Spec(
                bootstrap_servers=connection.bootstrap_servers, prefix=stage.topics.prefix, partitions=stage.topics.partitions,
                ended=ended, fill=fill,
            )  # fmt: skip
            program = stage.run(name, ["-m", "monitor.bench.view", msgspec.json.encode(spec).decode()])
            program.wait(PATIENCE + ended / 10_000)
            said = program.report()
    return msgspec.json.decode(said, type=Loaded)


def load(spec: Spec) -> Loaded:
    """Follow until ready. Raises AbsenceError where that does not come about."""
    connection, topics = Connection(bootstrap_servers=spec.bootstrap_servers), Topics(spec.prefix, spec.partitions)
    with consumer(connection) as client:  # what any client takes, with or without sessions
        client.end_offsets([TopicPartition(topics.session_commands.name, 0)])
    before = usage(os.getpid())
    follower = Follower(connection, topics)
    follower.start()
    try:
        if not follower.wait_ready(PATIENCE):
            raise AbsenceError(f"the view was not loaded within {PATIENCE:.0f} s: {follower.last_error}")
        after, known = usage(os.getpid()), len(follower.view.commanded)
        return Loaded(
            known, round(follower.loading_seconds, 2), round(after.cpu_seconds - before.cpu_seconds, 2),
            (after.rss_bytes - before.rss_bytes) / known,
        )  # fmt: skip
    finally:
        follower.stop()


async def fill(spec: Spec) -> Loaded:
    """Write the commands; everything is acknowledged when this returns."""
    topics = Topics(spec.prefix, spec.partitions)
    appender = KafkaAppender(Connection(bootstrap_servers=spec.bootstrap_servers), batch_bytes=1_000_000, linger=0.05)
    await appender.start()
    try:
        for number in range(spec.ended):
            command = _command(hashed_session_id(cookie(number)), number)
            record = encode_command(command, _AT)
            appender.append(
                topics.session_commands.name, partition_for(record.key or b"", spec.partitions), record.key, record.value, record.headers
            )
            if number % _CHUNK == 0:
                await asyncio.sleep(0)
                while appender.pending > _PENDING and not appender.failed:
                    await asyncio.sleep(0.002)
        await appender.settled(appender.mark())
    finally:
        await appender.stop()
    return Loaded(spec.ended, 0, 0, 0)


def _command(session_id: str, number: int) -> Command:
    at = _AT + number
    return Command(
        type=CommandType.EXPIRE, session_id=session_id, epoch=0, reason=Reason.IDLE_TIMEOUT, effective_at=at, cutoff=at,
        limit_ms=15 * MINUTE, rule="restricted-data", policy="9b1f04c2", subject=f"user-{number % 1000}@example.com",
        classification="restricted", reauth=Reauth(allowed=True, max_age=900, acr_values=("aal2",)), forget_after=at + DAY,
        partition=0, offset=number, log_time=at, due=at, message=MESSAGE,
    )  # fmt: skip


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=Spec)
    done = asyncio.run(fill(given)) if given.fill else load(given)
    sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
