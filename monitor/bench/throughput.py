"""How many events one CPU-second takes: the worker beside the stock Faust agent, each draining a log written before.

The first events of each partition open its sessions, one each; what comes after says nothing new. So it is known by the committed
offsets when every session has been seen: the warm span begins there, and ends after so many seconds or with the log.
"""

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import msgspec

from monitor.bench.preload import Filled
from monitor.bench.processes import Program, Usage
from monitor.bench.stage import PARTITIONS, Stage, events_of, reaches
from monitor.broker.connection import Connection
from monitor.core.errors import AbsenceError

POLICY = "version: 1\ndefaults: {idle: 30m, absolute: 12h}\n"
HOW = (
    "CPU is user and system time of the worker and its children while it drains a log written before. Warm: from the first commit"
    " past every partition's openings (each session's first event; they stand first in the log) to a commit in the midst"
    " of the work, after the seconds asked for or one commit before the end of the log. Cold: from the start of the process to that same commit. The stock agent: from its first commit to its last,"
    " on a log of its own, in the same run. Memory: a worker of its own that has taken 500,000 events of 50,000 other sessions, and the same"
    " worker with the sessions, each with two events: the difference of its resident memory, all buffers included, by session."
)


class Sample(msgspec.Struct, frozen=True):
    """The moment of a commit."""

    at: float
    taken: int
    """Events committed."""
    used: Usage


class Drain(msgspec.Struct, frozen=True):
    """One program that took events out of the log."""

    events: int
    """Up to the end of the measured span ..."""
    cpu_seconds: float
    """... with the start of the program."""
    warm_events: int
    warm_cpu_seconds: float
    warm_seconds: float
    rss_bytes: int

    @property
    def warm(self) -> float:
        """Events per CPU-second."""
        return self.warm_events / self.warm_cpu_seconds if self.warm_cpu_seconds else 0.0

    @property
    def cold(self) -> float:
        """The same with the start, and the opening of every session."""
        return self.events / self.cpu_seconds if self.cpu_seconds else 0.0

    @property
    def opening(self) -> float:
        """The same of what lies before the warm span alone."""
        before = self.cpu_seconds - self.warm_cpu_seconds
        return (self.events - self.warm_events) / before if before else 0.0


def measure(connection: Connection, events: int, sessions: int, seconds: float, directory: Path) -> tuple[Drain, float]:
    """Write the load and let a worker drain it; the seconds that writing took. `seconds` 0: to the end of the log."""
    with Stage(connection, directory, POLICY, "bench") as stage:
        began = time.monotonic()
        filled = stage.preload(sessions, events)
        preloaded = time.monotonic() - began
        return _drain(stage, stage.worker(), filled, filled.openings, seconds), preloaded


def measure_stock(connection: Connection, events: int, sessions: int, directory: Path) -> Drain:
    """The yardstick: the stock Faust agent with a table, on a load of the same kind."""
    with Stage(connection, directory, POLICY, "stock") as stage:
        filled = stage.preload(min(sessions, events), events)
        group = stage.topics.app_id
        agent = stage.run(
            "stock",
            [
                "-m", "monitor.worker.stock_agent", connection.bootstrap_servers, group, stage.topics.access_events.name,
                str(PARTITIONS),
            ],
        )  # fmt: skip
        return _drain(stage, agent, filled, {}, 0.0)


def _drain(stage: Stage, program: Program, filled: Filled, warm_from: dict[int, int], seconds: float) -> Drain:
    samples: list[Sample] = []

    def progress(committed: dict[int, int]) -> bool:
        taken = events_of(committed, filled.written)
        if taken and (samples or reaches(committed, warm_from)):
            samples.append(Sample(time.monotonic(), taken, program.usage()))
            return bool(seconds) and samples[-1].at - samples[0].at >= seconds
        return False

    stage.drain(program, filled.written, progress)
    begin, end = span(samples, sum(filled.written.values()))
    return Drain(
        end.taken, end.used.cpu_seconds, end.taken - begin.taken, end.used.cpu_seconds - begin.used.cpu_seconds,
        end.at - begin.at, end.used.rss_bytes,
    )  # fmt: skip


def span(samples: Sequence[Sample], total: int) -> tuple[Sample, Sample]:
    """Where the measured span begins and ends, out of `total` events: both times in the middle of the work.

    With each commit the events of about one more step are already paid for. Where the log is at its end nothing is, and the
    span would get that step for nothing: it ends while a usual step is left. Raises AbsenceError where no such span is left.
    """
    steps = [later.taken - earlier.taken for earlier, later in pairwise(samples)]
    step = median(steps) if steps else 0
    within = [sample for sample in samples[1:] if total - sample.taken >= step and sample.taken > samples[0].taken]
    if not within:
        seen = ", ".join(f"{sample.taken:,}" for sample in samples)
        raise AbsenceError(
            f"of {total:,} events no warm span could be measured: give more --events, or fewer --sessions (commits: {seen})"
        )
    return samples[0], within[-1]
