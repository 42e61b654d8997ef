"""`session-monitor verify`: whether the promises held, from the topics alone."""

from typing import Annotated, Any, Final

import msgspec
import typer

from monitor.cli.failure import Refused
from monitor.cli.output import Format, Output, emit, hint, show
from monitor.cli.settings import Installation, takes_installation
from monitor.core.errors import InputError
from monitor.core.instants import Millis
from monitor.wire.times import format_time, parse_time

VIOLATION: Final = ("wrong", "session_id", "epoch", "topic", "partition", "offset", "what")
PARTITION: Final = ("partition", "begins", "ends", "judged_to", "events", "sessions", "commands", "repeated", "violations")


def register(program: typer.Typer) -> None:
    """Put the verb on the program."""
    program.command()(verify)


@takes_installation
def verify(
    installation: Installation,
    from_: Annotated[str, typer.Option("--from", metavar="TIME|earliest", help="Judge events from then on, such as 2026-11-23T07:09:00Z; where the monitor's first start was --from latest: that time.")] = "earliest",
    to: Annotated[str, typer.Option("--to", metavar="TIME|latest", help="Judge events before then.")] = "latest",
    output: Output = Format.TABLE,
) -> None:  # fmt: skip
    """Decide everything on the topics a second time, and say whether what stands there is what had to.

    No command missing, none that was never due, none contradicted or weakened; ids and watermarks honest; every event
    accounted for. What the topics no longer say (retention, compaction, --from) is named as not judged. Exit code 4
    where a promise was broken. The monitor may go on meanwhile.
    """
    since, until = _instant("--from", from_, "earliest"), _instant("--to", to, "latest")
    if since is not None and until is not None and since >= until:
        raise InputError(f"--from {from_} is not before --to {to}: nothing lies between them")
    from monitor.verify.judge import verify as judge
    from monitor.verify.log import topic_log

    with topic_log(installation.connection, installation.topics) as log:
        report = judge(log, installation.topics, since, until)
    partitions = [_row(one) | {"judged_to": one.judged_to and format_time(one.judged_to)} for one in report.partitions]
    violations, unjudged = [_row(one) for one in report.violations], [_row(one) for one in report.unjudged]
    if output is Format.JSON:
        show_whole({"held": report.held, "violations": violations, "not_judged": unjudged, "partitions": partitions})
    elif output is Format.NDJSON:
        for row, rows in (("partition", partitions), ("not_judged", unjudged), ("violation", violations)):
            for one in rows:
                emit({"row": row} | one)
    else:
        show(partitions, PARTITION, output)
        if violations:
            show(violations, VIOLATION, output)
    if output is Format.TABLE:
        for doubt in report.unjudged:
            hint(f"not judged: {doubt.topic} {doubt.partition}: {doubt.why} ({doubt.count})")
    if not report.held:
        raise Refused(f"{len(violations)} violations: promises were broken at the places named")
    commands = sum(one.commands for one in report.partitions)
    if not any(one.judged_to for one in report.partitions):
        hint("nothing was judged: no partition has a watermark")
    else:
        hint(f"held: {sum(one.events for one in report.partitions)} events, {commands} commands")


def show_whole(verdict: dict[str, Any]) -> None:
    """Print the verdict as one JSON object, so that a script asks `.held`."""
    import orjson

    typer.echo(orjson.dumps(verdict, option=orjson.OPT_INDENT_2).decode())


def _row(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(struct).items() if value is not None}


def _instant(name: str, said: str, whole: str) -> Millis | None:
    if said == whole:
        return None
    try:
        return parse_time(said)
    except InputError as error:
        raise InputError(f"{name} {said!r}: give {whole}, or an instant such as 2026-11-23T07:09:00Z ({error})") from None
