"""`bench`: the product's own figures, measured on a real broker beside the stock Faust agent."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import orjson
import typer

from monitor.bench.processes import machine
from monitor.broker.connection import Connection
from monitor.cli.output import Format

bench = typer.Typer(help="Measure, on Apache Kafka started for the purpose or on the broker you name.", no_args_is_help=True)

Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap-servers", help="Use this broker instead of starting Apache Kafka.")
]
Output = Annotated[Format, typer.Option("-o", "--output", help="table, json or ndjson.")]


@bench.command()
def throughput(
    bootstrap_servers: Bootstrap = None,
    events: Annotated[int, typer.Option(min=10_000, help="Events to drain.")] = 1_000_000,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions they are spread over.")] = 50_000,
    stock_events: Annotated[int, typer.Option(min=0, help="Events for the stock Faust agent; 0 leaves it out.")] = 60_000,
    at_least: Annotated[int, typer.Option(help="Exit 1 below this many events per CPU-second.")] = 0,
    output: Output = Format.TABLE,
) -> None:
    """Events per CPU-second while draining a log, durability on."""
    from monitor.bench.throughput import measure

    with _broker(bootstrap_servers) as connection, tempfile.TemporaryDirectory(prefix="session-monitor-bench-") as directory:
        result = measure(connection, events, sessions, stock_events, Path(directory))
    figures = {
        "machine": machine(),
        "events": result.monitor.events,
        "sessions": result.sessions,
        "event_bytes": result.event_bytes,
        "monitor": {
            "events_per_cpu_second": round(result.monitor.per_cpu_second),
            "events_per_cpu_second_cold": round(result.monitor.per_cpu_second_cold),
            **msgspec.to_builtins(result.monitor),
        },
    }
    if result.stock is not None:
        stock = {"events_per_cpu_second": round(result.stock.per_cpu_second), **msgspec.to_builtins(result.stock)}
        figures["stock_faust"] = stock
        figures["times_stock"] = round(result.monitor.per_cpu_second / max(1, result.stock.per_cpu_second), 1)
    if output is Format.TABLE:
        _print(figures)
    else:
        sys.stdout.write(orjson.dumps(figures).decode() + "\n")
    if result.monitor.per_cpu_second < at_least:
        raise typer.Exit(1)


def _print(figures: dict[str, object], indent: str = "") -> None:
    for name, value in figures.items():
        if isinstance(value, dict):
            typer.echo(f"{indent}{name}:")
            _print(value, indent + "  ")
        elif isinstance(value, float):
            typer.echo(f"{indent}{name}: {value:,.2f}")
        else:
            typer.echo(f"{indent}{name}: {value:,}" if isinstance(value, int) else f"{indent}{name}: {value}")


@contextlib.contextmanager
def _broker(bootstrap_servers: str | None) -> Iterator[Connection]:
    if bootstrap_servers is not None:
        yield Connection(bootstrap_servers=bootstrap_servers)
        return
    from monitor.broker.apache import ApacheKafka

    with ApacheKafka() as broker:
        yield Connection(bootstrap_servers=broker.bootstrap_servers)


def register(program: typer.Typer) -> None:
    """Add the verbs to the program."""
    program.add_typer(bench, name="bench")
