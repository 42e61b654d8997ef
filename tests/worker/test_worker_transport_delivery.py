from types import SimpleNamespace
from typing import Any

from monitor.worker.delivery import Batch, Delivery, ReceiveTimes


def records(*offsets: int, kind: int = 1, timestamp: int = 5) -> list[Any]:
    return [
        SimpleNamespace(offset=offset, timestamp=timestamp, timestamp_type=kind, key=None, value=b"", headers=())
        for offset in offsets
    ]


def offsets(found: Any) -> list[int]:
    return [record.offset for record in found]


def test_a_batch_of_the_open_run_is_admitted_once() -> None:
    delivery = Delivery()
    run = delivery.open(3, 10)
    assert delivery.next_offset(3) == 10
    batch = Batch(3, run, 99, records(10, 11, 14))
    assert offsets(delivery.admit(batch)) == [10, 11, 14]
    assert delivery.next_offset(3) == 15
    assert offsets(delivery.admit(batch)) == []


def test_what_was_handed_over_already_is_cut_off() -> None:
    delivery = Delivery()
    run = delivery.open(0, 12)
    assert offsets(delivery.admit(Batch(0, run, 99, records(10, 11, 12, 13)))) == [12, 13]


def test_batches_of_another_run_or_partition_are_stale() -> None:
    delivery = Delivery()
    old = delivery.open(0, 0)
    new = delivery.open(0, 0)
    assert not delivery.admit(Batch(0, old, 9, records(0)))
    assert not delivery.admit(Batch(1, new, 9, records(0)))
    assert delivery.admit(Batch(0, new, 9, records(0)))


def test_a_paused_partition_takes_nothing_and_resumes_behind_the_last_record() -> None:
    delivery = Delivery()
    run = delivery.open(0, 0)
    delivery.admit(Batch(0, run, 9, records(0, 1)))
    assert delivery.pause(0)
    assert not delivery.pause(0)
    late = Batch(0, run, 9, records(2, 3))
    assert not delivery.admit(late)
    again = delivery.resume(0)
    assert again is not None
    assert again[1] == 2
    assert not delivery.admit(late)
    assert offsets(delivery.admit(Batch(0, again[0], 9, records(2, 3)))) == [2, 3]
    assert delivery.resume(0) is None


def test_closing_forgets_paused_partitions_too() -> None:
    delivery = Delivery()
    run = delivery.open(0, 0)
    delivery.open(1, 0)
    delivery.pause(1)
    delivery.close_all()
    assert not delivery.admit(Batch(0, run, 9, records(0)))
    assert delivery.resume(1) is None
    assert delivery.next_offset(1) is None
    assert delivery.flowing() == {}


def test_append_times_are_kept_and_producers_times_are_replaced() -> None:
    now = 1000
    times = ReceiveTimes(lambda: now)
    mine = records(0, 1)
    assert times.stamp(0, mine) is mine
    assert {record.timestamp for record in mine} == {5}
    assert times.exact
    theirs = records(2, 3, kind=0)
    theirs = times.stamp(0, theirs)
    assert {record.timestamp for record in theirs} == {1000}
    assert not times.exact
    now = 900  # the wall clock steps back: the partition's time does not
    later = records(4, kind=0)
    later = times.stamp(0, later)
    assert later[0].timestamp == 1000
    other = records(4, kind=0)
    other = times.stamp(1, other)
    assert other[0].timestamp == 900
