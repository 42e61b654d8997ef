"""`alerts list|show|watch|silence|silences|lift`: what stands out, from the topic that detection keeps, and what is kept from people."""

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
import typer

from monitor.broker.single import write_one
from monitor.broker.tail import TailRecord, tail
from monitor.cli.acts import By
from monitor.cli.durations import within
from monitor.cli.failure import NotFound
from monitor.cli.notify import notify
from monitor.cli.output import Format, Output, hint, printable, show
from monitor.cli.settings import Installation, takes_installation
from monitor.core.errors import InputError
from monitor.core.instants import DAY, MINUTE
from monitor.detect.settings import Detector, Severity
from monitor.wire.alerts import AlertRecord, AlertState, decode_alert, is_alert
from monitor.wire.bad_record import BadRecord
from monitor.wire.codec import encode
from monitor.wire.silences import Silence, SilenceRecord, decode_silence, encode_lifted, encode_silence
from monitor.wire.silences import silence_id as silence_of
from monitor.wire.times import Instant, format_time

COLUMNS: Final = ("fingerprint", "alert", "state", "severity", "since", "about", "summary")
_SEVERITIES: Final = {word.value: place for place, word in enumerate(Severity)}

Names = Annotated[list[str] | None, typer.Option("--alert", help=f"Only of this kind; repeat it for several. One of {', '.join(Detector)}.")]
Subject = Annotated[str | None, typer.Option(help="Only about this subject.")]

LONGEST: Final = (MINUTE, 365 * DAY)
SILENCES: Final = ("id", "matchers", "since", "until", "by", "reason")

alerts = typer.Typer(name="alerts", help="See what stands out, and keep it from people: list, show, watch, silence, silences, lift, notify.", no_args_is_help=True)
alerts.command()(notify)


def register(program: typer.Typer) -> None:
    """Put the noun on the program."""
    program.add_typer(alerts)


@alerts.command("list")
@takes_installation
def list_(
    installation: Installation,
    everything: Annotated[bool, typer.Option("--all", help="Those too that are over, as long as the topic has them.")] = False,
    alert: Names = None,
    subject: Subject = None,
    output: Output = Format.TABLE,
) -> None:  # fmt: skip
    """List what fires, the most severe first, and of these the newest first."""
    names = names_of(alert)
    found = [one for one in standing(installation).values() if chosen(one, names, subject) and (everything or one.state is AlertState.FIRING)]
    found.sort(key=lambda one: (one.state is AlertState.RESOLVED, -_SEVERITIES.get(one.severity, 0), -int(one.since)))
    rows = (_cells(one) for one in found) if output is Format.TABLE else (_whole(one) for one in found)
    show(rows, COLUMNS, output)


@alerts.command("show")
@takes_installation
def show_(
    installation: Installation,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="As `list` shows it; its beginning, where that names one alone.")],
    output: Output = Format.TABLE,
) -> None:  # fmt: skip
    """Show one alert, whole: what was expected, what was seen, which sessions. Exit code 3: there is none of this fingerprint."""
    found = [one for one in standing(installation).values() if one.fingerprint.startswith(fingerprint)]
    if not found:
        raise NotFound(f"no alert {fingerprint!r}: `session-monitor alerts list --all` shows those there are")
    if len(found) > 1:
        raise InputError(f"{fingerprint!r} is the beginning of {len(found)} fingerprints; give more of it")
    whole = _whole(found[0])
    if output is Format.TABLE:
        show(({"what": what, "value": value} for what, value in _flat(whole)), ("what", "value"), output)
    else:
        show([whole], (), output)


@alerts.command()
@takes_installation
def watch(
    installation: Installation,
    alert: Names = None,
    subject: Subject = None,
    most: Annotated[int, typer.Option("--most", "-n", min=0, help="End after this many; 0: never.")] = 0,
    output: Annotated[Format, typer.Option("-o", "--output", help="table: a line for people; ndjson or json: one object a line.")] = Format.TABLE,
) -> None:  # fmt: skip
    """Print each alert as it fires, changes and is over, until Ctrl-C."""
    names = names_of(alert)
    topic = installation.topics.session_alerts.name
    records = tail(installation.connection, topic, earliest=False)
    with contextlib.closing(records), contextlib.suppress(KeyboardInterrupt):
        hint(f"following {topic}; Ctrl-C ends")
        found = (one for one in read(records) if one is not None and chosen(one, names, subject))
        for count, one in enumerate(found, start=1):
            try:
                print(_line(one) if output is Format.TABLE else encode(one).decode(), flush=True)  # noqa: T201 - this is the output
            except BrokenPipeError:
                # Who read has had enough. The interpreter would complain once more at its end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return
            if count == most:
                return


@alerts.command()
@takes_installation
def silence(
    installation: Installation,
    matchers: Annotated[list[str], typer.Argument(metavar="MATCHER...", help="alert=timeout_churn, subject=~svc-.*, severity!=critical ...; all must be met.")],
    last: Annotated[str, typer.Option("--for", help="For how long (2h, 30m, 7d).")],
    reason: Annotated[str, typer.Option(help="Why; never empty.")],
    by: By,
) -> None:  # fmt: skip
    """Keep the alerts that meet all matchers from people, for a while. They are still published, with the silence's id. Prints that id."""
    now = time.time_ns() // 1_000_000
    until = Instant(now + within("--for", last, LONGEST))
    record = SilenceRecord(secrets.token_hex(6), tuple(matchers), by, reason, Instant(now), until)
    try:
        encoded = encode_silence(record, now)
    except BadRecord as error:
        raise InputError(f"alerts silence: {error.detail}") from None
    write_one(installation.connection, installation.topics.session_alerts.name, encoded.key or b"", encoded.value, encoded.headers)
    met = sum(one.state is AlertState.FIRING and decode_silence(encoded.value).meets(one) for one in standing(installation).values())
    hint(f"until {format_time(int(until))}; of the alerts that fire now it meets {met}")
    print(record.id)  # noqa: T201 - this is the output


@alerts.command()
@takes_installation
def silences(installation: Installation, output: Output = Format.TABLE) -> None:
    """List the silences that are not over."""
    now = time.time_ns() // 1_000_000
    there = [one.record for one in silences_of(installation).values() if one.record.until > now]
    show((msgspec.json.decode(encode(one), type=dict[str, Any]) for one in sorted(there, key=lambda one: one.until)), SILENCES, output)


@alerts.command()
@takes_installation
def lift(installation: Installation, silence_id: Annotated[str, typer.Argument(metavar="ID", help="As `silences` shows it.")]) -> None:
    """Lift a silence before its end. Exit code 3: there is none of this id."""
    if silence_id not in silences_of(installation):
        raise NotFound(f"no silence {silence_id!r}: `session-monitor alerts silences` shows those there are")
    lifted = encode_lifted(silence_id)
    write_one(installation.connection, installation.topics.session_alerts.name, lifted.key or b"", None)


def silences_of(installation: Installation) -> dict[str, Silence]:
    """Those on the topic, by id; what can't be read is named, and passed over."""
    found: dict[str, Silence] = {}
    records = tail(installation.connection, installation.topics.session_alerts.name, earliest=True, follow=False)
    with contextlib.closing(records):
        for record in records:
            id_ = None if record is None else silence_of(record.key)
            if record is None or id_ is None:
                continue
            found.pop(id_, None)
            if record.value is not None:
                with contextlib.suppress(BadRecord):
                    found[id_] = decode_silence(record.value)
    return found


def standing(installation: Installation) -> dict[str, AlertRecord]:
    """The last record of each fingerprint."""
    found: dict[str, AlertRecord] = {}
    records = tail(installation.connection, installation.topics.session_alerts.name, earliest=True, follow=False)
    with contextlib.closing(records):
        for one in read(records):
            if one is not None:
                found[one.fingerprint] = one
    return found


def read(records: Iterator[TailRecord | None]) -> Iterator[AlertRecord | None]:
    """The alerts among the records; None where there is a pause. What can't be read is named, and passed over."""
    for record in records:
        if record is None:
            yield None
        elif record.value is not None and is_alert(record.key):
            try:
                yield decode_alert(record.value)
            except BadRecord as error:
                hint(f"offset {record.offset} of session-alerts is no alert: {error}")


def names_of(words: list[str] | None) -> frozenset[str]:
    """Raises InputError for what is no kind of alert."""
    for word in words or ():
        if word not in set(Detector):
            raise InputError(f"--alert {word!r} is no kind of alert: one of {', '.join(Detector)}")
    return frozenset(words or ())


def chosen(one: AlertRecord, names: frozenset[str], subject: str | None) -> bool:
    """Whether it is asked for."""
    return (not names or one.alert in names) and (subject is None or one.subject == subject)


def _whole(one: AlertRecord) -> dict[str, Any]:
    return msgspec.json.decode(encode(one), type=dict[str, Any])


def _cells(one: AlertRecord) -> dict[str, Any]:
    return {
        "fingerprint": one.fingerprint[:12], "alert": one.alert, "state": one.state.value, "severity": one.severity,
        "since": format_time(int(one.since)), "about": one.subject or one.session_id or "", "summary": one.summary,
    }  # fmt: skip


def _line(one: AlertRecord) -> str:
    state = "resolved" if one.state is AlertState.RESOLVED else one.severity
    return printable(f"{format_time(int(one.updated))}  {state:<8}  {one.alert:<20}  {one.fingerprint[:12]}  {one.summary}")


def _flat(value: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, member in value.items():
        if isinstance(member, dict):
            yield from _flat(member, f"{before}{name}.")
        else:
            yield f"{before}{name}", member
