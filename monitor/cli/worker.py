"""`worker`: the monitor itself, one process or several."""

import asyncio
import importlib.util
import logging
import os
import socket
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from monitor.broker.administration import verify_topics
from monitor.broker.connection import Connection
from monitor.broker.reach import require_broker
from monitor.core.errors import AbsenceError, InputError, MissingExtraError
from monitor.core.instants import SECOND, Millis
from monitor.observe.token import check_token, read_or_create_token, token_path
from monitor.policy import compile_policy
from monitor.policy.durations import format_duration, parse_duration
from monitor.wire.topics import Topics
from monitor.worker.main import WorkerSettings, read_policy, run_worker
from monitor.worker.supervisor import Supervisor, worker_commands

PARTS: Final = ("faust", "aiokafka", "aiohttp")
"""What the extra brings."""
SESSION_TIMEOUTS: Final = (6 * SECOND, 300 * SECOND)
"""What Kafka's brokers take unless told otherwise begins with 6 s; the sessions of a dead worker wait so long."""
CHECKPOINTS: Final = (50, 10 * SECOND)
_NOISY: Final = ("faust", "mode", "aiokafka", "kafka", "aiohttp")
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class From(StrEnum):
    """Where a group that has read nothing yet begins."""

    EARLIEST = "earliest"
    LATEST = "latest"


def register(program: typer.Typer) -> None:
    """Put the verb on the program."""
    program.command()(worker)


def worker(
    bootstrap_servers: Annotated[str, typer.Option(envvar="SESSION_MONITOR_BOOTSTRAP_SERVERS", help="host:port, several with commas.")] = "localhost:9092",
    policy: Annotated[Path | None, typer.Option(help="The policy file; the first worker of all needs one.")] = None,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes on this machine.")] = 1,
    start: Annotated[From | None, typer.Option("--from", help="Where a group that has read nothing yet begins.")] = None,
    app_id: Annotated[str, typer.Option(help="Names the consumer group and the changelog.")] = "session-monitor",
    topic_prefix: Annotated[str, typer.Option(envvar="SESSION_MONITOR_TOPIC_PREFIX", help="Stands before every topic's name.")] = "",
    partitions: Annotated[int, typer.Option(min=1, help="Of the co-partitioned topics.")] = 8,
    api_host: Annotated[str, typer.Option(help="Where the sessions API listens.")] = "127.0.0.1",
    api_port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    checkpoint: Annotated[str, typer.Option(help="From one checkpoint to the next.")] = "700ms",
    session_timeout: Annotated[str, typer.Option(help="After which a silent worker's partitions go to others.")] = "10s",
    name: Annotated[str, typer.Option(help="Names this process; host and process id, if left out.")] = "",
    token: Annotated[str | None, typer.Option(envvar="SESSION_MONITOR_TOKEN", help="Of the sessions API; this user's own, if left out.")] = None,
) -> None:
    """Watch sessions, and end them by policy, until SIGTERM or Ctrl-C."""
    connection = Connection(bootstrap_servers=bootstrap_servers)
    require_worker()
    if processes > 1 and api_port:
        raise InputError("worker: --api-port is for one process; of several each takes a free one (sessions list finds them)")
    text = None if policy is None else read_policy(policy)
    if text is not None:
        compile_policy(text, name=str(policy))
    settings = WorkerSettings(
        connection=connection, app_id=app_id, topic_prefix=topic_prefix, partitions=partitions, policy=text,
        start_from=None if start is None else start.value, name=name, api_host=api_host, api_port=api_port,
        api_token=read_or_create_token(token_path()) if token is None else check_token(token, "--token"),
        checkpoint_every_ms=duration("checkpoint", checkpoint, CHECKPOINTS),
        session_timeout_ms=duration("session-timeout", session_timeout, SESSION_TIMEOUTS),
    )  # fmt: skip
    log_to_stderr()
    require_topics(connection, Topics(topic_prefix, partitions, app_id))
    if processes == 1:
        raise typer.Exit(run_worker(settings))
    base = name or f"{socket.gethostname()}-{os.getpid()}"
    raise typer.Exit(asyncio.run(Supervisor(worker_commands(base, processes, arguments_of_one(sys.argv))).run()))
