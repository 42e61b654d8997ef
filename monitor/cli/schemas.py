"""`session-monitor schemas`: the JSON Schemas of every record, written from the types and checked against them."""

import difflib
from pathlib import Path
from typing import Annotated

import typer

from monitor.wire.schemas import files

Directory = Annotated[Path, typer.Option("--dir", help="Where the schemas stand.")]
DEFAULT = Path("schemas")
SHOWN_LINES = 12

schemas = typer.Typer(name="schemas", help="JSON Schemas of every record.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the noun on the program."""
    program.add_typer(schemas)


@schemas.command()
def write(directory: Directory = DEFAULT) -> None:
    """Write a schema for every record, and remove those of records that are no more."""
    directory.mkdir(parents=True, exist_ok=True)
    wanted = files()
    for stale in _present(directory) - wanted.keys():
        (directory / stale).unlink()
    for name, content in wanted.items():
        (directory / name).write_bytes(content)
        typer.echo(directory / name)


@schemas.command()
def check(directory: Directory = DEFAULT) -> None:
    """Exit with 1 where the schemas on disk are not those of the types."""
    wanted = files()
    present = _present(directory)
    found = [f"{directory / name} belongs to no record" for name in sorted(present - wanted.keys())]
    for name, content in wanted.items():
        if name not in present:
            found.append(f"{directory / name} is missing")
        elif (actual := (directory / name).read_bytes()) != content:
            found.append(f"{directory / name} is stale:\n{_difference(actual, content)}")
    if found:
        typer.echo("\n".join(found), err=True)
        typer.echo(f"run: session-monitor schemas write --dir {directory}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{len(wanted)} schemas are up to date")


def _present(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.json")}


def _difference(actual: bytes, wanted: bytes) -> str:
    """The first lines that differ."""
    lines = difflib.unified_diff(
        actual.decode(errors="replace").splitlines(), wanted.decode().splitlines(), "on disk", "from the types", lineterm="", n=1
    )
    shown = list(lines)
    rest = len(shown) - SHOWN_LINES
    return "\n".join("  " + line for line in shown[:SHOWN_LINES]) + (f"\n  ... {rest} more lines" if rest > 0 else "")
