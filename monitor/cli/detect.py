"""`detect run`: the process that watches session-lifecycle, and tells of what stands out."""

from typing import Annotated

import typer

from monitor.cli.durations import within
from monitor.cli.settings import Installation, takes_installation
from monitor.cli.worker import CHECKPOINTS, SESSION_TIMEOUTS, From, require_topics, require_worker
from monitor.detect.watch import Watch
from monitor.worker.detection import DetectionSettings, run_detection

detect = typer.Typer(name="detect", help="Tell of what stands out among sessions: run.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the noun on the program."""
    program.add_typer(detect)


@detect.callback()
def _noun() -> None:
    """Tell of what stands out among sessions."""


@detect.command()
@takes_installation
def run(
    installation: Installation,
    start: Annotated[From, typer.Option("--from", help="Where a group that has read nothing yet begins.")] = From.EARLIEST,
    checkpoint: Annotated[str, typer.Option(help="From one checkpoint to the next.")] = "700ms",
    session_timeout: Annotated[str, typer.Option(help="After which a silent process's partitions go to others.")] = "10s",
    name: Annotated[str, typer.Option(help="Names this process; by default host and process id.")] = "",
) -> None:
    """Watch session-lifecycle and publish alerts, by the policy's `detect:`, until SIGTERM or Ctrl-C. Exit code 0: ended because told to.

    Needs a worker that has brought a policy. Several share the partitions. What is known is kept in a changelog, so a restart counts nothing
    twice and forgets nothing.
    """
    require_worker()
    settings = DetectionSettings(
        connection=installation.connection, app_id=installation.topics.app_id.removeprefix(installation.topics.prefix),
        topic_prefix=installation.topics.prefix, partitions=installation.topics.partitions, start_from=start.value, name=name,
        checkpoint_every_ms=within("--checkpoint", checkpoint, CHECKPOINTS),
        session_timeout_ms=within("--session-timeout", session_timeout, SESSION_TIMEOUTS),
    )  # fmt: skip
    require_topics(installation)
    raise typer.Exit(run_detection(settings, Watch))
