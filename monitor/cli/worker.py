"""`worker`: the monitor itself, one process or several."""

import asyncio
import importlib.util
import os
import socket
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from monitor.broker.administration import verify_topics
from monitor.cli.durations import within
from monitor.cli.output import hint
from monitor.cli.settings import PREFIX, Installation, takes_installation
from monitor.core.errors import AbsenceError, InputError, MissingExtraError
from monitor.core.instants import SECOND
from monitor.observe.token import check_token, read_or_create_token, token_path
from monitor.policy import compile_policy
from monitor.worker.main import WorkerSettings, read_policy, run_worker
from monitor.worker.supervisor import Supervisor, worker_commands

PARTS: Final = ("faust", "aiokafka", "aiohttp")
"""What the extra brings."""
SESSION_TIMEOUTS: Final = (6 * SECOND, 300 * SECOND)
"""A Kafka broker takes nothing below 6 s unless told otherwise; a dead worker's sessions wait as long as this says."""
CHECKPOINTS: Final = (50, 10 * SECOND)


class From(StrEnum):
    """Where a group that has read nothing yet begins."""

    EARLIEST = "earliest"
    LATEST = "latest"


def register(program: typer.Typer) -> None:
    """Put the verb on the program."""
    program.command()(worker)


@takes_installation
def worker(
    context: typer.Context,
    installation: Installation,
    policy: Annotated[Path | None, typer.Option(help="The policy file; the first worker of all needs one.")] = None,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes on this machine.")] = 1,
    start: Annotated[From | None, typer.Option("--from", help="Where a group that has read nothing yet begins.")] = None,
    checkpoint: Annotated[str, typer.Option(help="From one checkpoint to the next.")] = "700ms",
    session_timeout: Annotated[str, typer.Option(help="After which a silent worker's partitions go to others.")] = "10s",
    name: Annotated[str, typer.Option(help="Names this process; by default host and process id.")] = "",
    api_host: Annotated[str, typer.Option(help="Where the sessions API listens.")] = "127.0.0.1",
    api_port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    token: Annotated[
        str | None, typer.Option(envvar=f"{PREFIX}_TOKEN", help="Of the sessions API; by default this user's own.")
    ] = None,
) -> None:
    """Watch every session and end it by policy, until SIGTERM or Ctrl-C. Exit code 0: ended because told to."""
    require_worker()
    if processes > 1 and api_port:
        raise InputError(
            f"worker: --api-port {api_port} can't serve {processes} processes; leave it out: each takes a free port,"
            " and `session-monitor sessions list` finds them"
        )
    settings = WorkerSettings(
        connection=installation.connection, app_id=installation.topics.app_id.removeprefix(installation.topics.prefix),
        topic_prefix=installation.topics.prefix, partitions=installation.topics.partitions, policy=policy_text(policy),
        start_from=None if start is None else start.value, name=name, api_host=api_host, api_port=api_port,
        checkpoint_every_ms=within("--checkpoint", checkpoint, CHECKPOINTS),
        session_timeout_ms=within("--session-timeout", session_timeout, SESSION_TIMEOUTS),
        api_token=read_or_create_token(token_path()) if token is None else check_token(token, "--token"),
    )  # fmt: skip
    require_topics(installation)
    if processes == 1:
        raise typer.Exit(run_worker(settings))
    base = name or f"{socket.gethostname()}-{os.getpid()}"
    commands = worker_commands(base, processes, [*arguments(sys.argv), "--processes", "1"])
    raise typer.Exit(asyncio.run(Supervisor(commands, environ=environment(context)).run()))


def require_worker() -> None:
    """Raise MissingExtraError unless all that a worker is made of is installed."""
    # faust, once imported, is a module without a spec.
    if absent := [part for part in PARTS if part not in sys.modules and importlib.util.find_spec(part) is None]:
        raise MissingExtraError("worker", f"the worker ({', '.join(absent)} can't be found)")


def policy_text(file: Path | None) -> str | None:
    """The text of the policy file, if there is one. Raises AbsenceError, and PolicyError with line and column."""
    if file is None:
        return None
    text = read_policy(file)
    compile_policy(text, name=str(file))
    return text


def require_topics(installation: Installation) -> None:
    """Raise AbsenceError unless a broker is there, with every topic as it has to be."""
    connection, topics = installation.connection, installation.topics
    findings = verify_topics(connection, topics)
    for finding in findings:
        if not finding.fails:
            hint(f"{finding.topic} {finding.what}: {finding.advice}")
    wrong: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        if finding.fails:
            wrong.setdefault((finding.what, finding.advice), []).append(finding.topic)
    if wrong:
        told = [f"\n  {', '.join(names)}: {what}; {advice}" for (what, advice), names in wrong.items()]
        raise AbsenceError(f"the topics at {connection.bootstrap_servers} are not as a worker needs them:{''.join(told)}")


def arguments(argv: list[str]) -> list[str]:
    """What was given to this verb, for each of several processes. What is given last wins."""
    return argv[argv.index("worker") + 1 :] if "worker" in argv else []


def environment(context: typer.Context) -> dict[str, str]:
    """What several processes see: our environment, and what was said to the program itself."""
    root = context.find_root().params
    said = {f"{PREFIX}_{name.upper()}": str(root[name]) for name in ("config", "log_format", "log_level") if root.get(name)}
    return {**os.environ, **said}
