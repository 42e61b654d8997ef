"""Gateways: their receipts, with what healthy ones do now and then, and two ways to fail."""

from collections.abc import Iterator
from random import Random
from typing import Final

import msgspec

from monitor.bench.labelled.course import Places
from monitor.bench.labelled.records import Entry
from monitor.core.instants import SECOND, LogMillis, Millis
from monitor.wire.receipts import Applied, Stopped
from monitor.wire.times import Instant

HEARTBEAT: Final[Millis] = 5 * SECOND
SLOW = 0.0005
"""Of heartbeats: one that waits for a new leader of its partition, up to four seconds."""

Span = tuple[LogMillis, LogMillis]


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """One instance, and what befalls it."""

    name: str
    runs: Span
    restarts: LogMillis | None = None
    """It stops then, says so, and is back within a minute: a deploy."""
    silent: Span | None = None
    """It says nothing meanwhile, and not that it has stopped."""
    hung: Span | None = None
    """It goes on to say where it is, and gets no further."""


def receipts(gateway: Gateway, source: Random, places: Places, partitions: int) -> Iterator[Entry]:
    """What it writes, in order. It applies commands in tens of milliseconds; its clock is some tenths of a second off."""
    at, ends = gateway.runs
    skew = source.randrange(-300, 300)
    restarts = gateway.restarts
    at += source.randrange(HEARTBEAT)
    while at < ends:
        if restarts is not None and at >= restarts:
            restarts = None
            yield Entry(at, Stopped(gateway.name, Instant(at + skew)))
            at += source.randrange(5 * SECOND, 60 * SECOND)
            continue
        if not within(gateway.silent, at):
            applied = gateway.hung[0] if gateway.hung is not None and within(gateway.hung, at) else at - source.randrange(10, 90)
            position = places.offset(applied)
            yield Entry(at, Applied(gateway.name, dict.fromkeys(range(partitions), position), -1, Instant(at + skew), source.randrange(1000)))
        at += HEARTBEAT + (source.randrange(4 * SECOND) if source.random() < SLOW else source.randrange(20))
    yield Entry(ends, Stopped(gateway.name, Instant(ends + skew)))


def within(span: Span | None, at: Millis) -> bool:
    """Whether this instant lies in it."""
    return span is not None and span[0] <= at < span[1]
