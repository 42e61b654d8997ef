"""From due to visible: how long after the instant at which a session's end was due the command is there for a gateway.

Two kinds of sessions: those that fall idle on busy partitions, and those whose absolute limit strikes on a partition that is
otherwise silent. The load comes from a process of its own; this process only looks on.
"""

import time
from pathlib import Path

import msgspec

from monitor.bench.figures import Spread, spread
from monitor.bench.generator import Reached
from monitor.bench.load import ids_at, special, write
from monitor.bench.observer import Observer, Sighting
from monitor.bench.stage import Stage
from monitor.broker.connection import Connection
from monitor.core.instants import HOUR

IDLE = 3
"""Seconds after which a brief session has fallen idle."""
POLICY = f"""version: 1
defaults: {{idle: 30m, absolute: 12h}}
rules:
  - name: brief
    when: {{workload: [brief]}}
    idle: {IDLE}s
  - name: silent
    when: {{workload: [silent]}}
    absolute: 1h
"""
STEADY = 10_000
"""Sessions that the steady load keeps alive."""
SILENT = 7
"""The partition that gets nothing but ticks."""
LEAD = 5.0
"""Seconds of load before the measured span, past the first strikes."""
EVERY = 0.25
"""Seconds from one strike on the silent partition to the next."""
HOW = (
    "From `due` of the command record (log time, the broker's clock) to the moment at which another process on this machine has"
    " fetched it. Busy: sessions that fall idle on partitions with the load. Silent: sessions whose absolute limit strikes on a"
    " partition that gets nothing but ticks. Commands due in the first seconds, before the strikes are steady, are left out."
    " The load is a process of its own; every other thing runs on the same machine."
)


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from due to visible."""

    busy: Spread
    silent: Spread
    published: Spread
    """Of the busy ones, until the broker had the command: what is the worker's part."""
    seconds: float
    events_per_second: float
    expiries_per_second: float
    load: Reached
    worker_cpu_share: float
    """Of one core, during the measured span."""


def measure(connection: Connection, rate: float, expiries: float, seconds: float, directory: Path) -> Latency:
    """Run the load for so many seconds past its lead."""
    with Stage(connection, directory, POLICY, "latency") as stage, Observer(connection, stage.topics) as observer:
        worker = stage.worker()
        stage.ready(observer, worker)
        filled = stage.preload(STEADY, STEADY)
        stage.drain(worker, filled.written)
        begin_after = IDLE + 2 + LEAD
        _silent_sessions(stage, begin_after, seconds)
        load = stage.load(sessions=STEADY, rate=max(0.0, rate - expiries), brief=expiries, silent=(SILENT,))
        time.sleep(begin_after)
        worker.require()
        begin, cpu = time.time() * 1000, worker.usage().cpu_seconds
        time.sleep(seconds)
        end, used = time.time() * 1000, worker.usage().cpu_seconds
        reached = stage.reached(load)
        time.sleep(2.0)  # what was due just before the end
        worker.require()
        busy, silent, published = split(observer.commands(), begin, end)
    span = (end - begin) / 1000
    return Latency(
        spread(busy), spread(silent), spread(published), round(span, 1), round(reached.per_second), round(len(busy) / span, 1), reached,
        round((used - cpu) / span, 2),
    )  # fmt: skip


def split(seen: list[Sighting], begin: float, end: float) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds from due to visible of what was due within begin..end, busy and silent apart, and of
    the busy ones from due to append. The first sight of a
    command counts: a repetition is no delay.
    """  # fmt: skip
    busy, silent, published, known = [], [], [], set()
    for partition, at, appended, command in seen:
        if not begin <= command.due < end or command.id in known:
            continue
        known.add(command.id)
        if command.reason == "idle_timeout":
            busy.append(at - command.due)
            published.append(float(appended - command.due))
        elif command.reason == "absolute_timeout" and partition == SILENT:
            silent.append(at - command.due)
    return busy, silent, published


def _silent_sessions(stage: Stage, begin_after: float, seconds: float) -> None:
    """All of them at once, and nothing after: each began an hour ago but for a moment, and each another one."""
    now = time.time_ns() // 1_000_000
    count = max(4, int(seconds / EVERY))
    events = []
    for number, session_id in enumerate(ids_at(SILENT, stage.topics.partitions, count, "silent")):
        began = now - HOUR + round(1000 * (begin_after + (number + 0.5) * seconds / count))
        value = special(session_id, "session.opened", now, "silent", auth_time=began)
        events.append((SILENT, session_id.encode(), value))
    write(stage.connection, stage.topics, events)
