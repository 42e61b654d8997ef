"""Which span of a drain is measured, and what of what was seen belongs to it."""

import pytest

from monitor.bench.latency import SILENT, split
from monitor.bench.observer import Mark, Sighting, caught_up
from monitor.bench.processes import Usage
from monitor.bench.stage import events_of, reaches
from monitor.bench.throughput import Sample, span
from monitor.core.errors import AbsenceError
from monitor.wire.commands import CommandRecord, Watermark
from monitor.wire.times import Instant


def samples(*taken: int) -> list[Sample]:
    return [Sample(float(number), count, Usage(float(number), 0)) for number, count in enumerate(taken)]


def test_the_span_ends_while_a_usual_step_is_left() -> None:
    begin, end = span(samples(100, 200, 300, 400, 450), 450)
    assert (begin.taken, end.taken) == (100, 300)


def test_a_span_within_the_log_is_taken_whole() -> None:
    begin, end = span(samples(100, 200, 300), 10_000)
    assert (begin.taken, end.taken) == (100, 300)


@pytest.mark.parametrize("taken", [(), (100,), (100, 450)])
def test_a_log_too_short_to_measure_is_said(taken) -> None:
    with pytest.raises(AbsenceError, match="no warm span"):
        span(samples(*taken), 450)


def test_ticks_above_the_load_are_no_events() -> None:
    assert events_of({0: 90, 1: 120}, {0: 100, 1: 100, 2: 100}) == 190
    assert reaches({0: 90, 1: 120}, {0: 90, 1: 100})
    assert not reaches({0: 90}, {0: 90, 1: 1})


def sighting(partition: int, at: float, due: int, id_: str, reason: str) -> Sighting:
    command = CommandRecord("session.expire", "s", id=id_, reason=reason, due=Instant(due))
    return Sighting(partition, at, due + 5, command)


def test_latency_counts_each_command_once_by_where_and_why() -> None:
    seen = [
        sighting(0, 1020, 1000, "a", "idle_timeout"),
        sighting(0, 1900, 1000, "a", "idle_timeout"),  # written again
        sighting(SILENT, 1130, 1100, "b", "absolute_timeout"),
        sighting(0, 1130, 1100, "c", "absolute_timeout"),  # not on the silent partition
        sighting(0, 1010, 999, "d", "idle_timeout"),  # due before the span
        sighting(0, 2010, 2000, "e", "idle_timeout"),  # due after it
    ]
    assert split(seen, 1000, 2000) == ([20.0], [30.0], [5.0])


def mark(at: float, partition: int, log_time: int, owner: str = "new") -> Mark:
    return Mark(at, Watermark(partition, Instant(0), Instant(log_time), -1, Instant(0), owner))


def test_partitions_have_caught_up_when_the_last_is_within_a_second_of_now() -> None:
    marks = [mark(5000, 0, 3999), mark(5500, 0, 4500), mark(5600, 1, 5600), mark(9000, 0, 9000)]
    assert caught_up(marks, {0, 1}) == 5600
    assert caught_up(marks, {0}) == 5500
    assert caught_up(marks, {0, 1, 2}) is None


def test_a_watermark_of_the_dead_does_not_count() -> None:
    marks = [mark(5000, 0, 5000, "dead"), mark(7000, 0, 6500)]
    assert caught_up(marks, {0}, owner_not="dead") == 7000
    assert caught_up(marks[:1], {0}, owner_not="dead") is None
