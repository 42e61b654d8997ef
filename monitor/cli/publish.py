"""`publish`: access events from lines of JSON, or one from options."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import typer

from monitor.broker.clients import absent, administrator
from monitor.cli.settings import Installation, takes_installation
from monitor.core.errors import InputError
from monitor.core.events import EventType
from monitor.publish import DeliveryError, DeliveryFailure, Publisher
from monitor.publish.draft import draft
from monitor.publish.encode import encode
from monitor.wire.events import ALIVE, decode_access_event, to_event

READ_LIMIT = 1024 * 1024
"""Bytes of a line that are looked at; longer ones are refused without being held in memory."""


class Tally(msgspec.Struct):
    """What became of the lines."""

    sent: int = 0
    bad: int = 0
    failed: int = 0


def publish_lines(lines: Iterable[bytes], publisher: Publisher, tally: Tally, *, strict: bool) -> None:
    """Publish each line that the monitor would understand; name the others on stderr, or stop at the first (`strict`).

    A line is sent as it stands. Without a `time` it gets the broker's.
    """
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        try:
            publisher.record(_session_id(text), text, tag=number)
        except InputError as error:
            tally.bad += 1
            _complain(f"line {number}: {error}")
            if strict:
                return
        else:
            tally.sent += 1


def _session_id(text: bytes) -> str:
    """The session of an event that the monitor understands. Raises InputError, as the monitor's reader does."""
    said = decode_access_event(text)
    if said.type == ALIVE:
        raise InputError(
            f"{ALIVE} has to reach every partition, after the events it speaks of; use Publisher.alive of the SDK"
        )
    return to_event(said, appended=time.time_ns() // 1_000_000).session_id


def read_lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a stream, each as soon as it is there; of a longer one than READ_LIMIT only the beginning."""
    while line := stream.readline(READ_LIMIT):
        yield line
        while not line.endswith(b"\n") and len(line) == READ_LIMIT:
            line = stream.readline(READ_LIMIT)


@takes_installation
def publish(
    installation: Installation,
    file: Annotated[
        Path | None,
        typer.Argument(help="Lines of JSON, one event each; '-' or nothing: stdin.", allow_dash=True),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad line.")] = False,
    type_: Annotated[
        str, typer.Option("--type", help="Of one event: opened, activity, reauthenticated or closed.")
    ] = "activity",
    session_id: Annotated[
        str | None, typer.Option(help="Publish one event of this session; the options below are its fields.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Who acts.")] = None,
    principal: Annotated[str | None, typer.Option(help="user or service.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role; repeat it for several.")] = None,
    classification: Annotated[str | None, typer.Option(help="Sensitivity of the data touched.")] = None,
    workload: Annotated[
        str | None, typer.Option(help="What the session does: console, inference, ...")
    ] = None,
    route: Annotated[str | None, typer.Option(help="The path or model used.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose data.")] = None,
    client_ip: Annotated[str | None, typer.Option(help="Where from.")] = None,
    user_agent: Annotated[str | None, typer.Option(help="With what.")] = None,
    auth_time: Annotated[
        str | None, typer.Option(help="When the principal authenticated: RFC 3339, or seconds since 1970.")
    ] = None,
    acr: Annotated[str | None, typer.Option(help="How strongly: the authentication context.")] = None,
    expires: Annotated[str | None, typer.Option(help="When the credential ends: as --auth-time.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Of the activity: human, agent, inflight or keepalive.")
    ] = None,
    time_: Annotated[
        str | None, typer.Option("--time", help="When it happened, RFC 3339; now, if left out.")
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", help="The event's own id.")] = None,
    source: Annotated[str | None, typer.Option(help="The name of whoever publishes.")] = None,
) -> None:
    """Publish access events: lines of JSON from a file or stdin, or one event given by --session-id and its fields.

    Bad lines are named on stderr and the others published (but for --strict). Exit code 2 if a line was bad,
    1 if an event was not delivered.
    """
    fields: dict[str, Any] = {
        "subject": subject, "principal": principal, "roles": role or None, "classification": classification,
        "workload": workload, "route": route, "tenant": tenant, "client_ip": client_ip, "user_agent": user_agent,
        "auth_time": _instant(auth_time), "acr": acr, "expires": _instant(expires), "kind": kind, "time": time_, "id": id_,
    }  # fmt: skip
    given = [name for name, value in {**fields, "source": source}.items() if value is not None]
    if session_id is None and given:
        raise InputError(
            f"publish: --{given[0].replace('_', '-')} describes one event, but there is no --session-id; give it"
        )
    if session_id is not None and file is not None:
        raise InputError("publish: either a file of lines or one event by --session-id, not both")
    # Checked before anything is connected: a typing error needs no broker to be seen.
    one = None if session_id is None else _one(type_, session_id, fields, source)
    tally = Tally()

    def undelivered(failure: DeliveryFailure) -> None:
        tally.failed += 1
        _complain(f"line {failure.tag}: not delivered: {failure.error}")

    require_topic(installation)
    publisher = Publisher(
        installation.connection, topic_prefix=installation.topics.prefix, granularity=0, block_timeout=300.0, on_error=undelivered,
    )  # fmt: skip
    try:
        with publisher:
            if one is not None:
                publish_lines([one], publisher, tally, strict=True)
            else:
                with _opened(file) as stream:
                    publish_lines(read_lines(stream), publisher, tally, strict=strict)
    except DeliveryError as error:
        if not error.failures:
            raise
    _complain(f"published {publisher.published}, bad {tally.bad}, not delivered {tally.failed}")
    if tally.failed or tally.bad:
        raise typer.Exit(1 if tally.failed else 2)


def require_topic(installation: Installation) -> None:
    """Raise AbsenceError unless a broker is there with the topic: a publisher would ask again and again."""
    connection, topic = installation.connection, installation.topics.access_events.name
    with administrator(connection) as admin:
        if topic not in admin.list_topics():
            raise absent(connection, topic)


def _one(type_: str, session_id: str, fields: Mapping[str, Any], source: str | None) -> bytes:
    word = type_ if type_.startswith("session.") else f"session.{type_}"
    if word not in list(EventType):
        raise InputError(
            f"publish: --type is {type_!r}; allowed are {', '.join(one.split('.')[1] for one in EventType)}"
        )
    event = draft(word, session_id, fields)
    now = time.time_ns() // 1_000_000
    value = encode(event, now if event.time is None else event.time, source, cloudevents=False).value
    return value or b""


def _instant(text: str | None) -> str | float | None:
    """A number where it is one: seconds, as in a JWT."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return text


@contextmanager
def _opened(file: Path | None) -> Iterator[BinaryIO]:
    if file is None or str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        raise InputError(
            f"publish: {file} can't be read ({error.strerror}); name a file of JSON lines, or '-' for stdin"
        ) from error
    with stream:
        yield stream


def _complain(text: str) -> None:
    typer.echo(text, err=True)


def register(program: typer.Typer) -> None:
    """Add the verb."""
    program.command("publish")(publish)
