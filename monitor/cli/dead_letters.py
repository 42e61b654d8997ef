"""`dead-letters list|show|replay`: what could not be understood, and the way back for what has been repaired."""

import sys
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import msgspec
import typer
from kafka.errors import KafkaError

from monitor.broker.clients import absent, administrator, producer
from monitor.broker.tail import TailRecord, tail
from monitor.cli.failure import ExitCode, NotFound
from monitor.cli.output import Format, Output, hint, show
from monitor.cli.settings import Installation, takes_installation
from monitor.core.errors import InputError
from monitor.wire.bad_record import BadRecord, DeadLetterReason
from monitor.wire.dead_letters import PREFIX, DeadLetter, decode_dead_letter
from monitor.wire.events import read_access_event, to_event, with_time
from monitor.wire.partitioner import partition_for
from monitor.wire.times import format_time

COLUMNS: Final = ("id", "at", "reason", "detail", "from", "bytes")
DELIVERY_SECONDS: Final = 60.0

Reason = Annotated[str | None, typer.Option(help="Only with this reason.")]

dead_letters = typer.Typer(
    name="dead-letters",
    help="See what could not be understood, and put it back: list, show, replay.",
    no_args_is_help=True,
)


class Exported(msgspec.Struct, omit_defaults=True):
    """A dead letter as a line of JSON, which `replay --repaired` takes back with its value repaired."""

    id: str
    at: str
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    key: str | None = None
    value: str | None = None
    """Text; `value_base64` where it is not UTF-8."""
    value_base64: str | None = None
    headers: list[tuple[str, str]] = []
    """Values in Base64."""
    timestamp: int = 0
    sha256: str | None = None
    """Of a record that could not be kept: there is nothing to put back."""


class Repaired(msgspec.Struct):
    """What `replay` needs of a line: an event, or a dead letter whose value has been repaired."""

    value: Any = None
    """The event: as text, or as the JSON object itself."""
    value_base64: str | None = None
    headers: list[tuple[str, str]] = []
    timestamp: int = 0
    id: str = ""


class Outgoing(msgspec.Struct):
    """One record on its way back."""

    session_id: str
    value: bytes | None
    headers: list[tuple[str, bytes]]


def register(program: typer.Typer) -> None:
    """Put the noun on the program."""
    program.add_typer(dead_letters)


@dead_letters.command("list")
@takes_installation
def list_(
    installation: Installation,
    reason: Reason = None,
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="Only the newest, this many.")] = 1000,
    output: Output = Format.TABLE,
) -> None:  # fmt: skip
    """List dead letters, oldest first. -o ndjson gives whole records, ready to be repaired and replayed."""
    kept: deque[tuple[TailRecord, DeadLetter]] = deque(maxlen=most)
    kept.extend(read_all(installation, reason=reason))
    # Not refused: a newer monitor may have other words.
    if reason is not None and not kept and reason not in set(DeadLetterReason):
        hint(f"no dead letter has the reason {reason!r}; reasons are {', '.join(DeadLetterReason)}")
    if output is Format.TABLE:
        show([_cells(record, letter) for record, letter in kept], COLUMNS, output)
    else:
        show([msgspec.to_builtins(export(record, letter)) for record, letter in kept], (), output)


@dead_letters.command("show")
@takes_installation
def show_(
    installation: Installation,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it: partition:offset.")],
    output: Output = Format.TABLE,
) -> None:  # fmt: skip
    """Show one dead letter, whole. Exit code 3: there is none of this id."""
    for record, letter in read_all(installation, ids={letter_id}):
        exported = msgspec.to_builtins(export(record, letter))
        if output is Format.TABLE:
            show(
                [{"what": what, "value": value} for what, value in exported.items()],
                ("what", "value"),
                output,
            )
        else:
            show([exported], (), output)
        return
    raise NotFound(f"no dead letter {letter_id!r}: `session-monitor dead-letters list` shows those there are")


@dead_letters.command()
@takes_installation
def replay(
    installation: Installation,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="With --as-is: only these; else all.")] = None,
    repaired: Annotated[Path | None, typer.Option(allow_dash=True, help="Lines of JSON as `list -o ndjson` gives them, repaired; '-': stdin.")] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="Put them back as they came: for a monitor that understands them now.")] = False,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Put nothing back; say what would be.")] = False,
) -> None:  # fmt: skip
    """Put records back on access-events, under their session's id. What still can't be understood is named and left out.

    Exit code 2 where something was left out, 1 where something was not delivered. Events without a time get the one at
    which they were put aside: a replay rescues nobody by coming late.
    """
    if (repaired is None) == (not as_is):
        raise InputError("dead-letters replay: give either --repaired FILE ('-' for stdin) or --as-is")
    if repaired is not None and (ids or reason):
        raise InputError(
            "dead-letters replay: ids and --reason choose among the dead letters: they go with --as-is only"
        )
    bad: list[str] = []
    if repaired is not None:
        ready = list(from_lines(_lines(repaired), bad))
    else:
        ready = list(from_letters(read_all(installation, reason=reason, ids=set(ids or ())), bad))
    for text in bad:
        hint(text)
    sent = len(ready) if dry_run else send(ready, installation)
    typer.echo(
        f"{'would put' if dry_run else 'put'} back {sent}, left out {len(bad)}, not delivered {len(ready) - sent}"
    )
    if sent < len(ready) or bad:
        raise typer.Exit(ExitCode.FAILURE if sent < len(ready) else ExitCode.USAGE)


def read_all(
    installation: Installation, *, reason: str | None = None, ids: set[str] | None = None
) -> Iterator[tuple[TailRecord, DeadLetter]]:
    """The dead letters there are now, of this reason and these ids. What is none is told of on stderr."""
    topic = installation.topics.dead_letters.name
    for record in tail(installation.connection, topic, earliest=True, follow=False):
        if record is None or (ids and place_of(record) not in ids):
            continue
        try:
            letter = decode_dead_letter(record.key, record.value, record.headers)
        except InputError as error:
            hint(f"{place_of(record)}: {error}")
            continue
        if reason is None or letter.reason == reason:
            yield record, letter


def place_of(record: TailRecord) -> str:
    """A dead letter's id: where it stands."""
    return f"{record.partition}:{record.offset}"


def export(record: TailRecord, letter: DeadLetter) -> Exported:
    """A dead letter as a line to be repaired."""
    text = None if letter.value is None else _text(letter.value)
    return Exported(
        place_of(record), format_time(max(0, record.timestamp)), letter.reason, letter.detail, letter.topic,
        letter.partition, letter.offset, None if letter.key is None else letter.key.decode(errors="replace"), text,
        None if letter.value is None or text is not None else b64encode(letter.value).decode(),
        [(name, b64encode(value).decode()) for name, value in letter.headers], max(0, record.timestamp),
        None if letter.digest is None else letter.digest.sha256,
    )  # fmt: skip


def from_letters(letters: Iterable[tuple[TailRecord, DeadLetter]], bad: list[str]) -> Iterator[Outgoing]:
    """Dead letters as they came; `bad` takes a line for each that can't be put back."""
    for record, letter in letters:
        place = place_of(record)
        if letter.digest is not None:
            bad.append(
                f"{place}: only its SHA-256 was kept; read {letter.topic}/{letter.partition} at {letter.offset}"
            )
            continue
        try:
            yield outgoing(letter.value, list(letter.headers), record.timestamp)
        except BadRecord as error:
            bad.append(f"{place}: {error}")


def from_lines(lines: Iterable[bytes], bad: list[str]) -> Iterator[Outgoing]:
    """Repaired records, a line of JSON each: an exported dead letter, or a bare event."""
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            yield _repaired(text)
        except (InputError, msgspec.MsgspecError, ValueError) as error:
            bad.append(f"line {number}: {error}")


def outgoing(value: bytes | None, headers: list[tuple[str, bytes]], put_aside: int) -> Outgoing:
    """The record to write. Raises BadRecord where the monitor would not understand it."""
    own = [(name, said) for name, said in headers if not name.startswith(PREFIX)]
    said = read_access_event(value, own)
    event = to_event(said, appended=max(0, put_aside))
    if said.time is None and value and put_aside > 0:
        value = with_time(value, put_aside)
    return Outgoing(event.session_id, value, own)


def send(records: Sequence[Outgoing], installation: Installation) -> int:
    """Write the records, each to its session's partition; how many the broker has. Raises AbsenceError without broker or topic."""
    if not records:
        return 0
    connection, topic = installation.connection, installation.topics.access_events.name
    with administrator(connection) as admin:
        # The producer would have a missing topic made, on brokers that do so.
        if topic not in admin.list_topics():
            raise absent(connection, topic)
    sent = 0
    with producer(connection) as client:
        partitions = len(client.partitions_for(topic))
        futures = []
        for record in records:
            key = record.session_id.encode()
            place = partition_for(key, partitions)
            futures.append(
                client.send(topic, value=record.value, key=key, headers=record.headers, partition=place)
            )
        for future in futures:
            try:
                future.get(timeout=DELIVERY_SECONDS)
                sent += 1
            except KafkaError as error:
                hint(f"not delivered: {error}")
    return sent


def _repaired(text: bytes) -> Outgoing:
    members = msgspec.json.decode(text)
    if not isinstance(members, dict):
        raise InputError("a line must be a JSON object")
    if "session_id" in members or "specversion" in members:
        return outgoing(text.strip(), [], 0)
    line = msgspec.convert(members, Repaired)
    if line.value_base64 is not None:
        value = b64decode(line.value_base64, validate=True)
    elif isinstance(line.value, str):
        value = line.value.encode()
    elif line.value is not None:
        value = msgspec.json.encode(line.value)
    elif line.headers:
        value = b""  # a CloudEvent without data says everything in its headers
    else:
        raise InputError("there is neither a value nor a value_base64: nothing to put back")
    headers = [(name, b64decode(said, validate=True)) for name, said in line.headers]
    return outgoing(value, headers, line.timestamp)


def _lines(file: Path) -> Iterator[bytes]:
    if str(file) == "-":
        yield from sys.stdin.buffer
        return
    try:
        stream: BinaryIO = file.open("rb")
    except OSError as error:
        raise InputError(f"dead-letters replay: {file} can't be read: {error.strerror}") from error
    with stream:
        yield from stream


def _cells(record: TailRecord, letter: DeadLetter) -> dict[str, object]:
    size = letter.digest.size if letter.digest is not None else len(letter.value or b"")
    return {
        "id": place_of(record), "at": format_time(max(0, record.timestamp)), "reason": letter.reason,
        "detail": letter.detail, "from": f"{letter.topic}/{letter.partition}@{letter.offset}", "bytes": size,
    }  # fmt: skip


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
