"""`bench`: the product's own figures, measured on a real broker with durability on and the shipped settings."""

import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from monitor.bench.bars import Bar, Outcome, Result, judge, missed, read_results
from monitor.bench.figures import Spread
from monitor.bench.processes import machine
from monitor.broker.connection import Connection
from monitor.cli.output import Format, Output, hint, show
from monitor.core.errors import AbsenceError
from monitor.wire.times import format_time

bench = typer.Typer(help="Measure, on Apache Kafka started for the purpose or on the broker you name.", no_args_is_help=True)

Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap-servers", help="Use this broker instead of starting Apache Kafka.")
]
PER_SECOND = 220_000
"""Events preloaded for each second to be measured: more than a worker takes."""


@bench.command()
def throughput(
    bootstrap_servers: Bootstrap = None,
    events: Annotated[int | None, typer.Option(min=10_000, help="Events to drain; by default 1,000,000, or what lasts for --seconds.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Measure for so long once warm; 0: to the end of the log.")] = 0,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions they are spread over.")] = 50_000,
    stock_events: Annotated[int, typer.Option(min=0, help="Events for the stock Faust agent; 0 leaves it out.")] = 60_000,
    memory: Annotated[bool, typer.Option(help="Also measure the resident memory of a session.")] = True,
    at_least: Annotated[int | None, typer.Option(help="Exit 1 below so many events per CPU-second, warm.")] = None,
    memory_within: Annotated[int | None, typer.Option(help="Exit 1 above so many bytes a session.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Events per CPU-second while draining a log, and memory per session."""
    from monitor.bench import memory as rss
    from monitor.bench import throughput as drained
    from monitor.bench.load import EVENT_BYTES

    wanted = sessions + int(seconds * PER_SECOND) if events is None and seconds else max(events or 1_000_000, 2 * sessions)
    with _place(bootstrap_servers) as (connection, directory, broker):
        worker, preloaded = drained.measure(connection, wanted, sessions, seconds, directory)
        stock = drained.measure_stock(connection, stock_events, sessions, directory) if stock_events else None
        grown = rss.measure(connection, sessions, directory) if memory else None
    _end(
        "throughput", broker, drained.HOW,
        {
            "sessions": sessions, "event_bytes": EVENT_BYTES, "events_preloaded": wanted,
            "preload_seconds": round(preloaded, 1), "seconds_measured": round(worker.warm_seconds, 1),
            "events_measured": worker.warm_events,
            "stock_events": 0 if stock is None else stock.warm_events,
        },
        {
            "events_per_cpu_second_warm": round(worker.warm),
            "events_per_cpu_second_cold": round(worker.cold),
            "events_per_cpu_second_opening": round(worker.opening),
            "cpu_seconds_warm": round(worker.warm_cpu_seconds, 2),
            "cpu_seconds_cold": round(worker.cpu_seconds, 2),
            "rss_mib": round(worker.rss_bytes / 2**20),
            "bytes_per_session": None if grown is None else round(grown),
            "stock_events_per_cpu_second": None if stock is None else round(stock.warm),
            "times_stock": None if stock is None or not stock.warm else round(worker.warm / stock.warm, 1),
        },
        [_least("events_per_cpu_second_warm", at_least), _most("bytes_per_session", memory_within)],
        output,
    )  # fmt: skip


@bench.command()
def latency(
    bootstrap_servers: Bootstrap = None,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 20_000,
    expiries: Annotated[float, typer.Option(min=1, help="Sessions that expire, a second.")] = 500,
    seconds: Annotated[float, typer.Option(min=1, help="Measure for so long.")] = 60,
    p50_within: Annotated[float | None, typer.Option(help="Exit 1 above so many ms, busy or silent.")] = None,
    p99_within: Annotated[float | None, typer.Option(help="Exit 1 above so many ms, busy or silent.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """From the instant at which an expiry is due until another process sees its command."""
    from monitor.bench import latency as timed

    with _place(bootstrap_servers) as (connection, directory, broker):
        found = timed.measure(connection, rate, expiries, seconds, directory)
    _end(
        "latency", broker, timed.HOW,
        {
            "events_per_second": found.events_per_second, "expiries_per_second": found.expiries_per_second,
            "seconds_measured": found.seconds, "commands_measured": found.busy.count,
            "silent_commands_measured": found.silent.count,
            "load_cpu_share": round(found.load.cpu_seconds / found.load.seconds, 2), "load_seconds_left_out": found.load.dropped,
            "worker_cpu_share": found.worker_cpu_share,
        },
        {
            "p50_ms": found.busy.p50, "p99_ms": found.busy.p99, "worst_ms": found.busy.worst,
            "silent_p50_ms": found.silent.p50, "silent_p99_ms": found.silent.p99, "silent_worst_ms": found.silent.worst,
            "published_p50_ms": found.published.p50, "published_p99_ms": found.published.p99,
        },
        [
            _most("p50_ms", p50_within), _most("silent_p50_ms", p50_within),
            _most("p99_ms", p99_within), _most("silent_p99_ms", p99_within),
        ],
        output,
    )  # fmt: skip


@bench.command()
def recovery(
    bootstrap_servers: Bootstrap = None,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions to recover.")] = 1_000_000,
    minutes: Annotated[float, typer.Option(min=0, help="Load before the second recovery; 0 leaves it out.")] = 10,
    rate: Annotated[float, typer.Option(min=1, help="Events a second of that load; by default half of the bar.")] = 50_000,
    processes: Annotated[int, typer.Option(min=1, help="Processes of the worker that recovers (`worker --processes`).")] = 1,
    keep_loading: Annotated[bool, typer.Option("--keep-loading", help="Let the load go on during the second recovery.")] = False,
    compacted_within: Annotated[float | None, typer.Option(help="Exit 1 above so many seconds from a compacted changelog.")] = None,
    loaded_within: Annotated[float | None, typer.Option(help="Exit 1 above so many seconds after the load.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """From the start of a worker with nothing on disk until it has every session and is at work."""
    from monitor.bench import recovery as timed

    with _place(bootstrap_servers) as (connection, directory, broker):
        found = timed.measure(
            connection, sessions, minutes, rate, directory, processes=processes, keep_loading=keep_loading
        )
    loaded = found.loaded
    _end(
        "recovery", broker, timed.HOW,
        {
            "sessions": sessions, "processes": processes, "sessions_recovered_compacted": found.compacted.sessions,
            "sessions_recovered_loaded": None if loaded is None else loaded.sessions,
            "changelog_records_before": found.records_before, "changelog_records_compacted": found.records_compacted,
            "changelog_records_per_session": round(found.records_compacted / sessions, 3),
            "changelog_records_loaded": found.records_loaded,
            "minutes": minutes, "events_per_second": round(found.load_per_second),
            "load_reached_share": round(found.load_per_second / rate, 3) if minutes else None,
            "events_per_second_during_recovery": round(found.load_during_recovery),
        },
        {"compacted_seconds": found.compacted.seconds, "loaded_seconds": None if loaded is None else loaded.seconds},
        [_most("compacted_seconds", compacted_within), _most("loaded_seconds", loaded_within)],
        output,
    )  # fmt: skip


@bench.command()
def revoke(
    bootstrap_servers: Bootstrap = None,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions to revoke.")] = 100_000,
    closed: Annotated[float, typer.Option(min=1, help="Events a second that show whether processing stalls.")] = 400,
    rounds: Annotated[int, typer.Option(min=1, help="Revocations, each of new sessions; the first is given apart.")] = 4,
    processes: Annotated[int, typer.Option(min=1, help="Processes of the worker (`worker --processes`).")] = 1,
    visible_within: Annotated[float | None, typer.Option(help="Exit 1 above so many ms until all are visible.")] = None,
    stall_within: Annotated[float | None, typer.Option(help="Exit 1 above so many ms of stall.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """One `revoke --all`: until the last command is visible, and the longest stall of events meanwhile."""
    from monitor.bench import revoke as timed

    with _place(bootstrap_servers) as (connection, directory, broker):
        each = timed.measure(connection, sessions, closed, directory, rounds=rounds, processes=processes)
    found = timed.warm(each)
    _end(
        "revoke", broker, timed.HOW,
        {
            "sessions": sessions, "sessions_revoked": found.sessions, "closed_per_second": closed,
            "rounds": rounds, "processes": processes, "answers_measured": found.answers,
        },
        {
            "first_all_visible_ms": each[0].all_visible, "first_longest_stall_ms": each[0].longest_stall,
            "quickest_all_visible_ms": min(one.all_visible for one in each), "all_visible_ms": found.all_visible, "longest_stall_ms": found.longest_stall,
            "usual_stall_ms": found.usual_stall, "worst_answer_ms": found.worst_answer,
        },
        [_most("all_visible_ms", visible_within), _most("longest_stall_ms", stall_within)],
        output,
    )  # fmt: skip


@bench.command()
def failover(
    bootstrap_servers: Bootstrap = None,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions of both workers.")] = 100_000,
    rate: Annotated[float, typer.Option(min=1, help="Events a second, all the while.")] = 2_000,
    session_timeout: Annotated[int, typer.Option(min=6, max=300, help="Seconds; 10 is what is shipped.")] = 10,
    within: Annotated[float | None, typer.Option(help="Exit 1 above so many seconds past the session timeout.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Two workers, one killed: until its partitions are at work again."""
    from monitor.bench import failover as timed

    with _place(bootstrap_servers) as (connection, directory, broker):
        found = timed.measure(connection, sessions, rate, session_timeout, directory)
    _end(
        "failover", broker, timed.HOW,
        {
            "sessions": sessions, "events_per_second": rate, "session_timeout_seconds": session_timeout,
            "partitions_moved": found.partitions,
        },
        {
            "seconds_until_at_work": found.seconds,
            "seconds_past_session_timeout": round(found.seconds - session_timeout, 2),
        },
        [_most("seconds_past_session_timeout", within)],
        output,
    )  # fmt: skip


@bench.command()
def detect(
    sessions: Annotated[int, typer.Option(min=1000, help="Healthy sessions, about so many.")] = 30_000,
    each: Annotated[int, typer.Option(min=0, max=1000, help="Abuses of each kind.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the history.")] = 1,
    output: Output = Format.TABLE,
) -> None:
    """Recall and precision of alerts on labelled traffic at default thresholds, and lifecycle records a CPU-second. Needs no broker."""
    from monitor.bench import detection
    from monitor.bench.labelled import Shape

    found = detection.measure(Shape(seed=seed, sessions=sessions, each=each, kinds=detection.WATCHED))
    figures: dict[str, float | int | None] = {
        "records_per_cpu_second": round(found.records / max(0.01, found.taking)), "cpu_seconds_of_passing_time": found.passing,
    }  # fmt: skip
    for one in found.scores:
        name = one.detector.value
        figures |= {
            f"{name}_recall": one.recall, f"{name}_precision": one.precision, f"{name}_false_per_10k": one.false_per_10k,
            f"{name}_median_ms_to_detect": one.median,
        }
    _end(
        "detect", "none", detection.HOW,
        {
            "healthy_sessions": found.healthy_sessions, "each": each, "seed": seed, "records": found.records, "alerts": found.alerts,
        },
        figures, [], output,
    )  # fmt: skip


@bench.command()
def check(
    sessions: Annotated[int, typer.Option(min=100, help="Sessions that requests belong to; a tenth of them has ended.")] = 100_000,
    locks: Annotated[int, typer.Option(min=0, help="Locks in force, each on another subject.")] = 100,
    decisions: Annotated[int, typer.Option(min=10_000, help="Decisions in each of seven runs.")] = 300_000,
    at_least: Annotated[int | None, typer.Option(help="Exit 1 below so many decisions per CPU-second.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Decisions of a gateway per second of one core: the pure decision, without HTTP. Needs no broker."""
    from monitor.bench import check as decided

    found = decided.measure(sessions, locks, decisions)
    _end(
        "check", "none", decided.HOW,
        {
            "sessions": sessions, "locks": locks, "decisions_measured": decided.RUNS * decisions,
            "ended_sessions_known": found.ended_known, "ended_share": round(found.refused_share, 3),
        },
        {
            "decisions_per_cpu_second": round(found.per_second), "best_run": round(found.best), "worst_run": round(found.worst),
        },
        [_least("decisions_per_cpu_second", at_least)],
        output,
    )  # fmt: skip


@bench.command()
def view(
    bootstrap_servers: Bootstrap = None,
    ended: Annotated[int, typer.Option(min=1, help="Ended sessions that a gateway has to know.")] = 1_000_000,
    loaded_within: Annotated[float | None, typer.Option(help="Exit 1 above so many seconds.")] = None,
    memory_within: Annotated[int | None, typer.Option(help="Exit 1 above so many bytes a session.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """From the start of a gateway until it knows every ended session, and the memory they take."""
    from monitor.bench import view as loaded

    with _place(bootstrap_servers) as (connection, directory, broker):
        found = loaded.measure(connection, ended, directory)
    _end(
        "view", broker, loaded.HOW, {"ended_sessions": ended, "ended_sessions_known": found.ended},
        {
            "loaded_seconds": found.seconds, "cpu_seconds": found.cpu_seconds, "bytes_per_ended_session": round(found.bytes_per_session),
        },
        [_most("loaded_seconds", loaded_within), _most("bytes_per_ended_session", memory_within)],
        output,
    )  # fmt: skip


@bench.command()
def edge(
    bootstrap_servers: Bootstrap = None,
    seconds: Annotated[float, typer.Option(min=1, help="Of each of the rounds.")] = 10,
    connections: Annotated[int, typer.Option(min=1, max=1000, help="That the asking process keeps.")] = 32,
    envoy: Annotated[str | None, typer.Option(help="The Envoy program; by default one that is installed. Without one its figures are left out.")] = None,
    envoy_config: Annotated[Path | None, typer.Option(help="Its configuration; by default compose/gateways/envoy/envoy.yaml of the checkout.")] = None,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second at Envoy.")] = 400,
    events: Annotated[float, typer.Option(min=1, help="Events a second at the worker, while sessions end.")] = 2_000,
    expiries: Annotated[float, typer.Option(min=1, help="Sessions a second that end.")] = 20,
    feeds: Annotated[int, typer.Option(min=0, help="Clients of the sidecar that follow a session.")] = 5_000,
    due_p99_within: Annotated[float | None, typer.Option(help="Exit 1 above so many ms from due to the first 401.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """The sidecar over HTTP beside the same server with a constant answer; Envoy with and without it; from due to the first 401."""
    from monitor.bench import edge as timed

    program = timed.envoy_program(envoy)
    with _place(bootstrap_servers) as (connection, directory, broker):
        asking = timed.Asking(seconds, connections, rate, events, expiries, feeds)
        found = timed.measure(connection, directory, asking, envoy=program, configuration=envoy_config or timed.CONFIGURATION)
    _end(
        "edge", broker, timed.HOW,
        {
            "seconds": seconds, "connections": connections, "rounds": timed.ROUNDS, "sessions": timed.SESSIONS,
            "refused_share": round(found.refused_share, 3), "asked_per_second_at_envoy": round(found.asked_per_second),
            "feeds": feeds, "asked_per_second": round(found.subscribed.per_second),
            "events_per_second": events, "expiries_per_second": expiries, "expiries_measured": 0 if found.due_to_refused is None else found.due_to_refused.count,
        },
        {
            "sidecar_per_cpu_second": round(found.sidecar.per_cpu_second), "sidecar_per_second": round(found.sidecar.per_second),
            "sidecar_p50_ms": found.sidecar.p50, "sidecar_p99_ms": found.sidecar.p99,
            "constant_per_cpu_second": round(found.constant.per_cpu_second), "constant_per_second": round(found.constant.per_second),
            "constant_p50_ms": found.constant.p50, "constant_p99_ms": found.constant.p99,
            **_times("idle", found.idle.milliseconds), "idle_cpu_us": found.idle_cpu,
            **_times("with_feeds", found.subscribed.milliseconds), "with_feeds_cpu_us": found.subscribed_cpu,
            **_times("envoy_with", found.envoy_with), **_times("envoy_without", found.envoy_without), **_times("due", found.due_to_refused),
        },
        [_most("due_p99_ms", due_p99_within)],
        output,
    )  # fmt: skip


@bench.command(name="judge")
def judge_results(
    file: Annotated[Path, typer.Argument(help="What -o json or -o ndjson printed; several results may stand in it.")],
    output: Output = Format.TABLE,
) -> None:
    """Compare saved results with the bars. Exit code 1: one is missed, or was not measured under its conditions."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise AbsenceError(f"{file} can't be read: {error.strerror}") from error
    verdicts = [verdict for result in read_results(text, str(file)) for verdict in judge(result)]
    rows = [msgspec.to_builtins(verdict) for verdict in verdicts]
    show(rows, ("bench", "figure", "bar", "measured", "outcome", "why"), output)
    if not verdicts or any(verdict.outcome is not Outcome.MET for verdict in verdicts):
        raise typer.Exit(1)


def _times(name: str, of: Spread | None) -> dict[str, float | int | None]:
    return {
        f"{name}_p50_ms": None if of is None else of.p50, f"{name}_p99_ms": None if of is None else of.p99,
        f"{name}_worst_ms": None if of is None else of.worst,
    }  # fmt: skip


def _least(figure: str, bound: float | None) -> Bar | None:
    return None if bound is None else Bar(bench="", figure=figure, bound=bound, at_least=True)


def _most(figure: str, bound: float | None) -> Bar | None:
    return None if bound is None else Bar(bench="", figure=figure, bound=bound)


def _end(
    name: str, broker: str, how: str, conditions: dict[str, Any], figures: dict[str, float | int | None],
    bounds: Sequence[Bar | None], output: Format,
) -> None:  # fmt: skip
    """Print the result; exit 1 where it misses a bound that was given."""
    now = format_time(time.time_ns() // 1_000_000)
    result = Result(
        bench=name, at=now, machine=machine(), broker=broker, conditions=conditions, figures=figures, how=how
    )
    said: dict[str, Any] = msgspec.to_builtins(result)
    if output is Format.TABLE:
        rows = [
            {"what": what, "name": key.replace("_", " "), "value": _number(value)}
            for what, part in (("figure", figures), ("condition", conditions), ("machine", said["machine"]))
            for key, value in part.items()
        ]
        show([*rows, {"what": "broker", "value": broker}, {"what": "how", "value": how}], ("what", "name", "value"), output)
    else:
        show([said], (), output)
    lines = missed(result, [bound for bound in bounds if bound is not None])
    for line in lines:
        hint(line)
    if lines:
        raise typer.Exit(1)


def _number(value: object) -> str:
    match value:
        case None:
            return "not measured"
        case bool() | str():
            return str(value)
        case int() | float():
            return f"{value:,}"
        case _:
            return str(value)


@contextlib.contextmanager
def _place(bootstrap_servers: str | None) -> Iterator[tuple[Connection, Path, str]]:
    """A broker, a directory for logs, and what to call the broker. SIGTERM takes everything down too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="session-monitor-bench-") as directory:
            if bootstrap_servers is not None:
                yield Connection(bootstrap_servers=bootstrap_servers), Path(directory), bootstrap_servers
                return
            from monitor.broker.apache import ApacheKafka
            from monitor.broker.libraries import VERSION

            # The cleaner looks every 15 s by default: recovery waits for it.
            with ApacheKafka(settings={"log.cleaner.backoff.ms": "500"}) as broker:
                connection = Connection(bootstrap_servers=broker.bootstrap_servers)
                yield connection, Path(directory), f"Apache Kafka {VERSION}, one node, on the same machine"
    finally:
        signal.signal(signal.SIGTERM, before)


def register(program: typer.Typer) -> None:
    """Add the verbs to the program."""
    program.add_typer(bench, name="bench")
