"""`revoke`, `lock`, `unlock`, `locks`: what people order. Every order says who gave it and why."""

import secrets
import time
from typing import Annotated

import typer

from monitor.broker.connection import Connection
from monitor.broker.control_log import read_controls, write_control
from monitor.cli.failure import ExitCode, NotFound
from monitor.cli.fleet import Token, Workers, reach
from monitor.cli.output import Format, Output, hint, show
from monitor.cli.settings import Installation, takes_installation
from monitor.core.controls import Control, ControlType, Target
from monitor.core.errors import InputError
from monitor.core.instants import NEVER, Millis
from monitor.policy.durations import parse_duration
from monitor.wire.bad_record import BadRecord, BadTime
from monitor.wire.codec import Record
from monitor.wire.controls import decode_control, encode_control
from monitor.wire.times import format_time, parse_time
from monitor.wire.topics import Topics

Session = Annotated[str | None, typer.Option(help="The session of this id.")]
Subject = Annotated[str | None, typer.Option(help="Every session of this subject.")]
Role = Annotated[str | None, typer.Option(help="Every session with this role.")]
Tenant = Annotated[str | None, typer.Option(help="Every session of this tenant.")]
Classification = Annotated[str | None, typer.Option(help="Every session at this classification.")]
Workload = Annotated[str | None, typer.Option(help="Every session with this workload.")]
ClientIp = Annotated[str | None, typer.Option("--client-ip", help="Every session from this address.")]
All = Annotated[bool, typer.Option("--all", help="Every session there is.")]
Why = Annotated[str, typer.Option(help="Why: it stands beside the order for whoever asks later.")]
By = Annotated[str, typer.Option(envvar=["SESSION_MONITOR_BY", "USER"], help="Who orders it.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Order nothing; say how many sessions it would meet now.")
]


def register(program: typer.Typer) -> None:
    """Add the verbs."""
    for name, verb in (("revoke", revoke), ("lock", lock), ("unlock", unlock), ("locks", locks)):
        program.command(name)(verb)


@takes_installation
def revoke(
    installation: Installation, reason: Why, by: By,
    session: Session = None, subject: Subject = None, role: Role = None, tenant: Tenant = None,
    classification: Classification = None, workload: Workload = None, client_ip: ClientIp = None, everyone: All = False,
    before: Annotated[str | None, typer.Option(help="Only epochs that began before this instant (RFC 3339); now, if left out.")] = None,
    dry_run: DryRun = False, worker: Workers = None, token: Token = None,
) -> None:  # fmt: skip
    """End every session that matches, for good. Several targets must all match. Prints the order's id."""
    target = target_of(
        everyone=everyone, session_id=session, subject=subject, role=role, tenant=tenant,
        classification=classification, workload=workload, client_ip=client_ip,
    )  # fmt: skip
    instant = None if before is None else _past("--before", before)
    control = Control(-1, 0, ControlType.REVOKE, _new_id("revoke"), target, reason, by, before=instant)
    record = _encoded(control)
    if dry_run:
        parameters = parameters_of(target) | (
            {} if instant is None else {"started_before": format_time(instant)}
        )
        _rehearse(parameters, "end", worker, token, installation)
        return
    _give(record, control, installation)


@takes_installation
def lock(
    installation: Installation, reason: Why, by: By,
    session: Session = None, subject: Subject = None, role: Role = None, tenant: Tenant = None,
    classification: Classification = None, workload: Workload = None, client_ip: ClientIp = None, everyone: All = False,
    expires: Annotated[str | None, typer.Option(help="For how long (2h, 30m, 7d), or until when (RFC 3339); else until it is lifted.")] = None,
    dry_run: DryRun = False, worker: Workers = None, token: Token = None,
) -> None:  # fmt: skip
    """Refuse every session that matches, now and later, until it is lifted. Prints the lock's id."""
    target = target_of(
        everyone=everyone, session_id=session, subject=subject, role=role, tenant=tenant,
        classification=classification, workload=workload, client_ip=client_ip,
    )  # fmt: skip
    until = NEVER if expires is None else _end(expires)
    control = Control(-1, 0, ControlType.LOCK, _new_id("lock"), target, reason, by, expires=until)
    record = _encoded(control)
    if dry_run:
        _rehearse(parameters_of(target), "refuse", worker, token, installation)
        return
    _give(record, control, installation)


@takes_installation
def unlock(
    lock_id: Annotated[str, typer.Argument(help="The lock's id, as `locks` shows it.")],
    installation: Installation, reason: Why, by: By,
) -> None:  # fmt: skip
    """Lift a lock. Sessions that it ended come back with a re-authentication. Exit code 3: no such lock is in force."""
    control = Control(-1, 0, ControlType.UNLOCK, lock_id, Target(), reason, by)
    record = _encoded(control)
    standing = locks_in_force(installation.connection, installation.topics, _now())
    if lock_id not in standing:
        raise NotFound(f"no lock {lock_id!r} is in force; `session-monitor locks` lists those that are")
    _give(record, control, installation)


@takes_installation
def locks(installation: Installation, output: Output = Format.TABLE) -> None:
    """List the locks in force."""
    standing = locks_in_force(installation.connection, installation.topics, _now())
    rows: list[dict[str, object]] = []
    for control in standing.values():
        target = parameters_of(control.target) or {"all": "true"}
        until = None if control.expires >= NEVER else format_time(control.expires)
        row: dict[str, object] = {
            "id": control.id, "target": target, "since": format_time(control.appended), "until": until,
            "by": control.by, "reason": control.reason,
        }  # fmt: skip
        if output is Format.TABLE:
            words = " ".join(f"{name}={value}" for name, value in target.items())
            row |= {"target": words, "until": until or "lifted"}
        rows.append(row)
    show(rows, ("id", "target", "since", "until", "by", "reason"), output)


def locks_in_force(connection: Connection, topics: Topics, now: Millis) -> dict[str, Control]:
    """Every lock that stands at `now`, by id, oldest first."""
    standing: dict[str, Control] = {}
    for stored in read_controls(connection, topics):
        try:
            control = decode_control(stored.value, offset=stored.offset, appended=stored.appended)
        except BadRecord:
            continue
        standing.pop(control.id, None)
        if control.type is ControlType.LOCK and now <= control.expires:
            standing[control.id] = control
    return standing


def target_of(*, everyone: bool, **members: str | None) -> Target:
    """The target that these options name. Raises InputError for nobody, and for everyone with a condition."""
    named = {name: value for name, value in members.items() if value is not None}
    if everyone and named:
        raise InputError("--all means everyone: give either --all or what must match, not both")
    if not everyone and not named:
        raise InputError(
            "whom? give --session, --subject, --role, --tenant, --classification, --workload, --client-ip, or --all"
        )
    return Target(**named, all=everyone)


def parameters_of(target: Target) -> dict[str, str]:
    """The target's members, as the sessions API takes them; none for everyone."""
    names = [name for name in target.__struct_fields__ if name != "all"]
    return {name: value for name in names if (value := getattr(target, name)) is not None}


def _rehearse(
    parameters: dict[str, str],
    verb: str,
    worker: list[str] | None,
    token: str | None,
    installation: Installation,
) -> None:
    fleet = reach(worker, token, installation)
    found = fleet.matches(parameters)
    typer.echo(f"would {verb} {found.live} live sessions ({found.ended} that match have ended already)")
    if not fleet.whole:
        hint("this is not the whole: not every partition's worker answered")
        raise typer.Exit(ExitCode.FAILURE)


def _encoded(control: Control) -> Record:
    """The order's record. Raises InputError where it would be refused: before anything is connected."""
    for name in ("reason", "by"):
        if not getattr(control, name).strip():
            raise InputError(f"--{name} is empty: an order says who gave it and why; give it some words")
    return encode_control(control, _now())


def _give(record: Record, control: Control, installation: Installation) -> None:
    connection, topics = installation.connection, installation.topics
    offset = write_control(connection, topics, control.id, record.value, record.headers)
    typer.echo(control.id)
    hint(f"{control.type.value} stands at offset {offset} of {topics.session_control.name}")


def _new_id(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(6)}"


def _past(option: str, text: str) -> Millis:
    try:
        instant = parse_time(text)
    except BadTime as error:
        raise InputError(f"{option} {text!r}: {error.detail}") from None
    if instant > _now():
        raise InputError(f"{option} {text} lies ahead: an order speaks of what has been")
    return instant


def _end(text: str) -> Millis:
    """When a lock ends: after a duration, or at an instant."""
    try:
        until = parse_time(text) if "T" in text or "t" in text else _now() + parse_duration(text)
    except InputError as error:
        said = error.detail if isinstance(error, BadTime) else error
        raise InputError(f"--expires {text!r}: {said}") from None
    if until <= _now():
        raise InputError(f"--expires {text} is over already")
    return until


def _now() -> Millis:
    return time.time_ns() // 1_000_000
