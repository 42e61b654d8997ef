"""`session-monitor doctor`: what is in the way, and what to do about it; with --origin, where each setting comes from."""

from typing import Annotated

import typer

from monitor.cli.failure import ExitCode
from monitor.cli.origin import origins
from monitor.cli.output import Format, Output, hint, show
from monitor.cli.settings import Installation, takes_installation


def register(program: typer.Typer) -> None:
    """Put the verb on the program."""
    program.command()(doctor)


@takes_installation
def doctor(
    context: typer.Context,
    installation: Installation,
    origin: Annotated[
        bool, typer.Option("--origin", help="Print the settings and where each comes from, instead.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Look at this installation and its brokers. Exit code 1 where something is in the way."""
    if origin:
        show(origins(context), ("verb", "setting", "value", "origin", "where"), output)
        return
    # Here, because a client takes its time to import.
    from monitor.broker.checkup import Grade, check_brokers
    from monitor.broker.premises import check_premises

    checks = [*check_premises(), *check_brokers(installation.connection, installation.topics)]
    rows = [
        {"check": one.about, "result": one.grade.value, "what": one.what, "do": one.advice} for one in checks
    ]
    show(rows, ("check", "result", "what", "do"), output)
    failures = sum(one.grade is Grade.FAILURE for one in checks)
    hint(f"{len(checks)} checks, {failures} failures")
    if failures:
        raise typer.Exit(ExitCode.FAILURE)
