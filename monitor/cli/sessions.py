"""`sessions list|show|watch`: the sessions of all running workers, as they stand."""

import sys
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Annotated, Final

import typer
from msgspec.structs import replace
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from monitor.cli.failure import ExitCode, NotFound
from monitor.cli.fleet import Fleet, Token, Workers, reach, to_builtins
from monitor.cli.output import Format, Output, emit, hint, printable, show
from monitor.cli.settings import Installation, takes_installation
from monitor.cli.view import STATES, ends_at, left
from monitor.core.instants import Millis
from monitor.observe.views import EndView, LimitView, SessionDetail, SessionRow
from monitor.policy.durations import format_duration
from monitor.wire.times import Instant, format_time

COLUMNS: Final = ("session", "state", "subject", "class", "workload", "idle left", "absolute left", "by")
PAGE: Final = "500"

State = Annotated[str, typer.Option(help="live, expired, revoked, ended or all.")]
Subject = Annotated[str | None, typer.Option(help="Only of this subject.")]
Role = Annotated[str | None, typer.Option(help="Only with this role.")]
Tenant = Annotated[str | None, typer.Option(help="Only of this tenant.")]
Classification = Annotated[str | None, typer.Option(help="Only at this classification.")]
Workload = Annotated[str | None, typer.Option(help="Only with this workload.")]
ClientIp = Annotated[str | None, typer.Option("--client-ip", help="Only from this address.")]
Most = Annotated[int, typer.Option("--most", "-n", min=1, help="Show no more than this many.")]

sessions = typer.Typer(
    name="sessions", help="See the sessions of all running workers: list, show, watch.", no_args_is_help=True
)


def register(program: typer.Typer) -> None:
    """Put the noun on the program."""
    program.add_typer(sessions)


@sessions.command("list")
@takes_installation
def list_(
    installation: Installation, state: State = "live", subject: Subject = None, role: Role = None, tenant: Tenant = None,
    classification: Classification = None, workload: Workload = None, client_ip: ClientIp = None, most: Most = 1000,
    worker: Workers = None, token: Token = None, output: Output = Format.TABLE,
) -> None:  # fmt: skip
    """List sessions, those that end first at the top. Exit code 1 where not every worker answered."""
    parameters = given(
        state=state, subject=subject, role=role, tenant=tenant, classification=classification, workload=workload,
        client_ip=client_ip,
    )  # fmt: skip
    fleet = reach(worker, token, installation)
    rows = list(islice(fleet.sessions(parameters), most))
    rows.sort(key=lambda row: (ends_at(row), row.session_id))
    if output is Format.TABLE:
        show([_cells(row) for row in rows], COLUMNS, output)
    else:
        show([to_builtins(row) for row in rows], (), output)
    if len(rows) == most:
        hint(f"there may be more than these {most}: narrow the question, or raise --most")
    _whole(fleet)


@sessions.command("show")
@takes_installation
def show_(
    installation: Installation, session_id: Annotated[str, typer.Argument(help="The session's id.")],
    worker: Workers = None, token: Token = None, output: Output = Format.TABLE,
) -> None:  # fmt: skip
    """Show one session: attributes, deadlines, time left, and the rules that gave its limits. Exit code 3: unknown."""
    fleet = reach(worker, token, installation)
    detail = fleet.session(session_id)
    if detail is None:
        _whole(fleet)
        raise NotFound(f"no session {session_id!r}: never seen, or ended and forgotten")
    if output is Format.TABLE:
        show(
            [{"what": what, "value": printable(value)} for what, value in facts(detail)],
            ("what", "value"),
            output,
        )
    else:
        show([to_builtins(detail)], (), output)


@sessions.command("watch")
@takes_installation
def watch(
    installation: Installation, state: State = "live", subject: Subject = None, role: Role = None, tenant: Tenant = None,
    classification: Classification = None, workload: Workload = None, client_ip: ClientIp = None, most: Most = 200,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 1.0,
    times: Annotated[int, typer.Option(min=0, help="Look this many times; 0: until Ctrl-C.")] = 0,
    worker: Workers = None, token: Token = None, output: Output = Format.TABLE,
) -> None:  # fmt: skip
    """Watch sessions: a table that stays up to date; with -o ndjson (or without a terminal) a line for each change."""
    parameters = given(
        state=state, subject=subject, role=role, tenant=tenant, classification=classification, workload=workload,
        client_ip=client_ip,
    )  # fmt: skip
    fleet = reach(worker, token, installation)

    def look() -> list[SessionRow]:
        return list(islice(fleet.sessions(parameters), most))

    looks = range(times) if times else iter(int, 1)
    try:
        if output is Format.TABLE and sys.stdout.isatty():
            console = Console()
            with Live(console=console, auto_refresh=False, screen=False) as live:
                for number, _ in enumerate(looks):
                    if number:
                        time.sleep(every)
                    live.update(_table(look(), console.height - 4), refresh=True)
        else:
            before: dict[str, SessionRow] = {}
            for number, _ in enumerate(looks):
                if number:
                    time.sleep(every)
                now = {row.session_id: row for row in look()}
                for change, row in changes(before, now):
                    emit({"change": change, **to_builtins(row)})
                before = now
    except KeyboardInterrupt:
        return


def changes(
    before: Mapping[str, SessionRow], now: Mapping[str, SessionRow]
) -> Iterable[tuple[str, SessionRow]]:
    """What came, what changed and what went between two looks. Log time and time left pass without a change."""
    for session_id, row in now.items():
        known = before.get(session_id)
        if known is None:
            yield "appeared", row
        elif _lasting(known) != _lasting(row):
            yield "changed", row
    for session_id, row in before.items():
        if session_id not in now:
            yield "gone", row


def facts(detail: SessionDetail) -> list[tuple[str, str]]:
    """A session as pairs of words, for people."""
    found: list[tuple[str, str]] = [
        ("session", detail.session_id), ("state", f"{detail.state}, epoch {detail.epoch}"),
        ("subject", detail.subject or "-"), ("principal", detail.principal or "-"),
        ("roles", ", ".join(detail.roles) or "-"), ("classification", detail.classification or "-"),
        ("workload", detail.workload or "-"), ("route", detail.route or "-"), ("tenant", detail.tenant or "-"),
        ("client", " ".join(filter(None, (detail.client_ip, detail.user_agent))) or "-"),
        ("opened", format_time(detail.opened_at)), ("authenticated", format_time(detail.started_at)),
        ("last activity", format_time(detail.last_activity)),
        ("idle", _limit(detail.idle)), ("absolute", _limit(detail.absolute)),
    ]  # fmt: skip
    if detail.end is not None:
        found.append(("ended", _end(detail.end)))
    found.append(
        (
            "activity",
            ", ".join(f"{count} {kind}" for kind, count in detail.activity.items() if count) or "none",
        )
    )
    found.append(("idle clock", f"reset by {', '.join(detail.counts)}"))
    for link in detail.chain:
        said = "none" if link.ms is None else format_duration(link.ms)
        words = [link.limit.value, said, "won" if link.won else "", "on trial" if link.observe else ""]
        found.append((f"because {link.origin} {link.rule}", " ".join(filter(None, words))))
    found.append(("policy", detail.policy))
    found.append(("partition", f"{detail.partition}, applied up to offset {detail.applied_offset}"))
    found.append(("log time", format_time(detail.log_time)))
    return found


def given(**parameters: str | None) -> dict[str, str]:
    """The parameters of a query that are there, in pages of the largest size."""
    return {"limit": PAGE, **{name: value for name, value in parameters.items() if value is not None}}


def _whole(fleet: Fleet) -> None:
    if not fleet.whole:
        hint("this is not the whole: not every partition's worker answered")
        raise typer.Exit(ExitCode.FAILURE)


def _lasting(row: SessionRow) -> SessionRow:
    """What is the same as long as nothing happens to the session."""
    idle, absolute = replace(row.idle, left_ms=None), replace(row.absolute, left_ms=None)
    return replace(row, log_time=Instant(0), idle=idle, absolute=absolute)


def _cells(row: SessionRow) -> dict[str, object]:
    values = (
        row.session_id, row.state, row.subject or "-", row.classification or "-", row.workload or "-",
        _left(row.idle.left_ms), _left(row.absolute.left_ms), _by(row),
    )  # fmt: skip
    return {name: printable(value) for name, value in zip(COLUMNS, values, strict=True)}


def _table(rows: list[SessionRow], most: int) -> Table:
    rows.sort(key=lambda row: (ends_at(row), row.session_id))
    table = Table(*COLUMNS, box=None, pad_edge=False, header_style="bold", title=f"{len(rows)} sessions")
    for row in rows[: max(1, most)]:
        # Text, not markup: a session id may look like a tag.
        table.add_row(
            *(
                Text(str(cell), style=STATES.get(row.state, "") if name == "state" else "")
                for name, cell in _cells(row).items()
            )
        )
    return table


def _left(milliseconds: Millis | None) -> str:
    return "-" if milliseconds is None else left(milliseconds)


def _by(row: SessionRow) -> str:
    if row.end is not None:
        return row.end.reason
    if row.next is None:
        return "-"
    return (row.absolute if row.next == "absolute" else row.idle).rule


def _limit(limit: LimitView) -> str:
    if limit.deadline is None:
        return f"none ({limit.rule})"
    said = f"{format_duration(limit.limit_ms)} by {limit.rule}, until {format_time(limit.deadline)}"
    if limit.left_ms is None:
        return said
    return f"{said}, {left(limit.left_ms)} left" if limit.left_ms > 0 else f"{said}, due"


def _end(end: EndView) -> str:
    words = [end.reason, f"at {format_time(end.effective_at)}", f"rule {end.rule}" if end.rule else ""]
    return ", ".join(filter(None, [*words, f"control {end.control_id}" if end.control_id else ""]))
