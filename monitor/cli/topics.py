"""`session-monitor topics`: the topics as they have to be, made and checked."""

from typing import Annotated

import typer

from monitor.cli.failure import Refused
from monitor.cli.output import Format, Output, hint, show
from monitor.cli.settings import Installation, takes_installation

topics = typer.Typer(name="topics", help="The topics: make, check and show them.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the noun on the program."""
    program.add_typer(topics)


@topics.command()
@takes_installation
def apply(
    installation: Installation,
    replication_factor: Annotated[
        int, typer.Option(min=-1, help="Copies of each topic; -1: the broker's default.")
    ] = -1,
) -> None:
    """Make the topics that are missing. Those that are there stay as they are; exit code 4 where one must not."""
    from monitor.broker.administration import apply_topics

    made = apply_topics(installation.connection, installation.topics, replication_factor)
    for name in made:
        typer.echo(name)
    hint(f"{len(made)} topics made, {len(installation.topics.all()) - len(made)} were there")
    _verify(installation, Format.TABLE, quiet=True)


@topics.command()
@takes_installation
def verify(installation: Installation, output: Output = Format.TABLE) -> None:
    """Check the topics: partition counts, cleanup, timestamps, limits. Exit code 4 where a worker must not start on them."""
    _verify(installation, output, quiet=False)


@topics.command("show")
@takes_installation
def catalogue(installation: Installation, output: Output = Format.TABLE) -> None:
    """Print the topics as they have to be; needs no broker."""
    rows = [
        {
            "topic": one.name, "partitions": one.partitions, "key": one.key, "written_by": one.written_by, "read_by": one.read_by,
            "settings": one.configs if output is not Format.TABLE else ", ".join(f"{k}={v}" for k, v in one.configs.items()),
        } for one in installation.topics.all()
    ]  # fmt: skip
    show(rows, ("topic", "partitions", "key", "settings"), output)


def _verify(installation: Installation, output: Format, *, quiet: bool) -> None:
    from monitor.broker.administration import verify_topics

    findings = verify_topics(installation.connection, installation.topics)
    rows = [
        {"topic": one.topic, "finding": one.kind.value, "what": one.what, "do": one.advice}
        for one in findings
    ]
    if rows or not quiet:
        show(rows, ("topic", "finding", "what", "do"), output)
    if failing := sum(one.fails for one in findings):
        raise Refused(f"{failing} findings: a worker must not start on these topics")
    if not quiet:
        hint(
            f"{len(installation.topics.all())} topics are as they have to be"
            + (f", {len(findings)} doubts" if findings else "")
        )
