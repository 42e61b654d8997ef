"""How long a new worker, with nothing on its disk, takes to have every session again and to be at work.

Twice on the same sessions: from a changelog that has just been compacted, and from what so many minutes of load leave on it.
"""

import time
import urllib.request
from pathlib import Path

import msgspec

from monitor.bench.compaction import compact, count_records, restore
from monitor.bench.observer import Observer
from monitor.bench.processes import Program
from monitor.bench.stage import Stage
from monitor.broker.connection import Connection
from monitor.core.errors import AbsenceError

POLICY = "version: 1\ndefaults: {idle: 12h, absolute: 24h}\n"
"""Nothing ends meanwhile: what is lost would be missing, not expired."""
HOW = (
    "From the start of the process until another process has seen, for every partition, a watermark of the new worker with log time"
    " within 1 s of now. A worker keeps nothing on disk: all comes from the changelog and the commands. The worker before was stopped"
    " in order. Sessions recovered: as the new worker counts them afterwards. Compacted: two events a session, then the broker compacts"
    " the changelog (its records are counted by reading it) while the first worker is at work. Loaded: the same changelog after the"
    " minutes of load, uniform over the sessions, on top."
)
CENSUS = 90.0
"""Seconds for a worker to count its sessions: it takes bounded turns."""


class Recovered(msgspec.Struct, frozen=True):
    """One recovery."""

    seconds: float
    sessions: int


class Recovery(msgspec.Struct, frozen=True):
    """Both of them; None: not asked for."""

    records_before: int
    records_compacted: int
    compacted: Recovered
    loaded: Recovered | None
    records_loaded: int | None
    load_per_second: float
    load_during_recovery: float
    """Events a second that went on coming."""


def measure(
    connection: Connection, sessions: int, minutes: float, rate: float, directory: Path, *, processes: int = 1,
    keep_loading: bool = False,
) -> Recovery:  # fmt: skip
    """`minutes` 0 leaves the second out. Workers that recover have so many `processes`. With `keep_loading` the load goes
    on while the last worker recovers.
    """  # fmt: skip
    with Stage(connection, directory, POLICY, "recovery") as stage, Observer(connection, stage.topics) as observer:
        first = stage.worker("first")
        stage.ready(observer, first)
        stage.preload(sessions, 2 * sessions)
        stage.drain(first, stage.ends())
        before = count_records(connection, stage.topics)
        compact(connection, stage.topics)
        first.stop()
        restore(connection, stage.topics)
        after = count_records(connection, stage.topics)
        second, compacted = _recover(stage, observer, sessions, "second", processes)
        if not minutes:
            return Recovery(before, after, compacted, None, None, 0.0, 0.0)
        load = stage.load(sessions=sessions, rate=rate)
        _last(minutes * 60, second, load)
        reached = None if keep_loading else stage.reached(load)
        second.stop()
        records = None if keep_loading else count_records(connection, stage.topics)
        _, loaded = _recover(stage, observer, sessions, "third", processes)
        going_on = reached is None
        reached = reached or stage.reached(load)
        during = reached.per_second if going_on else 0.0
        return Recovery(before, after, compacted, loaded, records, reached.per_second, during)


def _recover(
    stage: Stage, observer: Observer, sessions: int, name: str, processes: int
) -> tuple[Program, Recovered]:
    since, began = len(observer.marks), time.time() * 1000
    worker = stage.worker(name, "--processes", str(processes))
    at = stage.ready(observer, worker, since, 600.0)
    return worker, Recovered(round((at - began) / 1000, 2), _census(observer, since, sessions))


def _last(seconds: float, *programs: Program) -> None:
    """Let it run; a program that ends meanwhile ends the measurement."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        for program in programs:
            program.require()
        time.sleep(min(1.0, left))


def _census(observer: Observer, since: int, sessions: int) -> int:
    """How many sessions their owners hold, once they have counted them."""
    apis = {mark.watermark.api for mark in observer.marks[since:] if mark.watermark.api}
    if not apis:
        raise AbsenceError("no watermark says where the worker answers: its sessions can't be counted")
    deadline, found = time.monotonic() + CENSUS, 0
    while time.monotonic() < deadline and found < sessions:
        time.sleep(0.5)
        found = 0
        for api in apis:
            with urllib.request.urlopen(f"{api}/metrics", timeout=30) as answer:  # noqa: S310 - a worker of ours
                found += counted(answer.read().decode())
    return found


def counted(metrics: str) -> int:
    """Sessions of every partition and state, out of a page of metrics. Pure."""
    lines = (line for line in metrics.splitlines() if line.startswith("session_monitor_sessions{"))
    return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines))
