"""`commands tail`: the orders to gateways, as they are given."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
import typer

from monitor.broker.tail import TailRecord
from monitor.broker.tail import tail as tail_topic
from monitor.cli.acknowledged import Acknowledgements, Answered, answered, told_line
from monitor.cli.output import Format, hint
from monitor.cli.settings import Installation, takes_installation
from monitor.cli.view import line
from monitor.core.commands import CommandType
from monitor.core.errors import InputError
from monitor.wire.bad_record import BadRecord
from monitor.wire.commands import CommandRecord, KeyKind, decode_command, read_key

TYPES: Final = {kind.value.removeprefix("session."): kind.value for kind in CommandType}

commands = typer.Typer(name="commands", help="Follow the orders to gateways.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the noun on the program."""
    program.add_typer(commands)


@commands.callback()
def _noun() -> None:
    """Follow the orders to gateways."""


@commands.command()
@takes_installation
def tail(
    installation: Installation,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Begin with the first that the topic still has.")] = False,
    session: Annotated[str | None, typer.Option(help="Only of this session.")] = None,
    type_: Annotated[list[str] | None, typer.Option("--type", help=f"Only of this type; repeat it for several. One of {', '.join(TYPES)}.")] = None,
    most: Annotated[int, typer.Option("--most", "-n", min=0, help="End after this many; 0: never.")] = 0,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on at the end of the topic, or end there.")] = True,
    receipts: Annotated[bool, typer.Option("--receipts", help="Tell which gateways have applied it, and how long that took: each command waits for them, up to 3 s.")] = False,
    output: Annotated[Format, typer.Option("-o", "--output", help="table: a line for people; ndjson or json: one object a line.")] = Format.TABLE,
) -> None:  # fmt: skip
    """Print each command as it comes, until Ctrl-C. Watermarks and tombstones are passed over."""
    types = frozenset(_type(word) for word in type_ or ())
    topic = installation.topics.session_commands.name
    records = tail_topic(installation.connection, topic, earliest=from_beginning or not follow, follow=follow)
    # Closed here, not when it is collected: the consumer is its own.
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        stack.enter_context(contextlib.closing(records))
        found: Iterator[Answered]
        if receipts:
            found = answered(chosen(records, session, types), stack.enter_context(Acknowledgements(installation)))
        else:
            found = (Answered(*one, None) for one in chosen(records, session, types) if one is not None)
        if follow:
            hint(f"following {topic}; Ctrl-C ends")
        for count, one in enumerate(found, start=1):
            try:
                print(render(one, output), flush=True)  # noqa: T201 - this is the output
            except BrokenPipeError:
                # Who read has had enough. The interpreter would complain once more at its end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return
            if count == most:
                return


def chosen(
    records: Iterator[TailRecord | None], session: str | None, types: frozenset[str]
) -> Iterator[tuple[TailRecord, CommandRecord] | None]:
    """The commands among the records, of this session and these types (all, where none are given); None where there is a pause."""
    for record in records:
        if record is None:
            yield None
            continue
        try:
            kind, name = read_key(record.key)
            if kind not in {KeyKind.SESSION, KeyKind.WARNING} or record.value is None:
                continue
            if session is not None and name != session:
                continue
            command = decode_command(record.value)
        except BadRecord as error:
            hint(f"partition {record.partition} offset {record.offset} is no command: {error}")
            continue
        if not types or command.type in types:
            yield record, command


def render(one: Answered, output: Format) -> str:
    """One command as a line: for people, or the record's own JSON with its place before it. With receipts: who has applied it."""
    told = one.told
    if output is Format.TABLE:
        return line(one.command) if told is None else f"{line(one.command)}  {told_line(told)}"
    members = {"partition": one.record.partition, "offset": one.record.offset, **msgspec.json.decode(one.record.value or b"{}")}
    if told is not None:
        members["applied_ms"] = {name: took for name, took in told.items() if took is not None}
        members["unapplied_by"] = [name for name, took in told.items() if took is None]
    return msgspec.json.encode(members).decode()


def _type(word: str) -> str:
    if word in TYPES:
        return TYPES[word]
    if word in TYPES.values():
        return word
    raise InputError(f"--type {word!r} is no command: one of {', '.join(TYPES)}")
