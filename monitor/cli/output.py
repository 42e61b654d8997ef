"""How verbs print: tables for people, JSON for programs; hints go to stderr, so that a pipe carries data only."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import orjson
import typer

_PLAIN_WIDTH: Final = 10_000
"""Where nobody looks on, nothing is cut or wrapped."""


class Format(StrEnum):
    """Of `-o`."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"


Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]


def show(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], fmt: Format = Format.TABLE) -> None:
    """Print the rows on stdout.

    `ndjson` prints each row when it comes; `json` and `table` need them all. JSON carries whole rows, a table the
    `columns`, with what a terminal would obey replaced.
    """
    if fmt is Format.NDJSON:
        for row in rows:
            emit(row)
    elif fmt is Format.JSON:
        _write(_json(list(rows), orjson.OPT_INDENT_2))
    else:
        _table(list(rows), columns)


def emit(row: Mapping[str, Any]) -> None:
    """Print one row as one line of JSON, at once."""
    _write(_json(row))


def hint(text: str) -> None:
    """Say something to the person, on stderr."""
    typer.echo(printable(text, keep="\n"), err=True)


def printable(text: str, keep: str = "") -> str:
    """The text without anything a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def _json(value: Any, option: int = 0) -> bytes:
    return orjson.dumps(value, default=str, option=option | orjson.OPT_NON_STR_KEYS)


def _write(line: bytes) -> None:
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    # rich takes a fifth of a second to import, and JSON needs none of it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    for column in columns:
        table.add_column(column.replace("_", " ").upper(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    console.print(table)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | tuple() | set() | frozenset():
            return ", ".join(_cell(one) for one in value)
        case _:
            return printable(str(value))
