"""What has been used is given back: at once, and not with the next collection."""

import asyncio
import ctypes
import gc
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from monitor.core.events import Attributes, Principal
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.wire.lifecycle import encode_lifecycle
from monitor.worker import memory
from monitor.worker.fetches import drain

TP = TopicPartition("t", 0)


@pytest.fixture
def _no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def fetched(count: int) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1, batch_size=1 << 20
    )
    for number in range(count):
        builder.append(number, 1_795_000_000_000, b"s", b"x" * 200, [])
    return bytes(builder.build())


class Position:
    """The state of one partition, as aiokafka keeps it."""

    active = True
    paused = False
    position = 0

    def state_value(self, _: TopicPartition) -> "Position":
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


class Fetcher:
    """What `drain` asks of aiokafka's fetcher."""

    def __init__(self, result: FetchResult) -> None:
        self._records = {TP: result}

    async def fetched_records(self, partitions: Any, timeout: int) -> dict[TopicPartition, list[Any]]:  # noqa: ASYNC109 - theirs
        result = self._records[TP]
        records = result.getall(None)
        if not result.has_more():
            del self._records[TP]
        return {TP: records}


@pytest.mark.usefixtures("_no_collections")
@pytest.mark.parametrize("most", [None, 7])
async def test_a_fetch_is_gone_when_its_last_record_has_been_taken(most: int | None) -> None:
    parts = PartitionRecords(TP, MemoryRecords(fetched(20)), [], 0, None, None, True, 0)
    fetcher = Fetcher(FetchResult(TP, assignment=Position(), partition_records=parts, backoff=0))
    held = weakref.ref(parts)
    result = weakref.ref(fetcher._records[TP])
    del parts
    offsets: list[int] = []
    while fetcher._records:
        offsets += [record.offset for record in (await drain(fetcher, (TP,), most))[TP]]
    assert offsets == list(range(20))
    assert held() is None
    assert result() is None


def test_a_lifecycle_record_takes_no_more_than_it_says() -> None:
    attributes = Attributes("alice", Principal.USER, ("analyst",), "internal", "batch")
    opened = Lifecycle(LifecycleType.OPENED, "s1", 0, 1000, 1000, 0, 1, attributes, 1000, 1000, 1000, (1, 0, 0, 0))
    encode_lifecycle(opened)
    tracemalloc.start()
    values = [encode_lifecycle(opened).value or b"" for _ in range(100)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 2 * sum(map(len, values))


def test_the_library_is_told_and_one_that_does_not_listen_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    class Library:
        @staticmethod
        def mallopt(what: int, value: int) -> None:
            told.append((what, value))

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    memory.keep_large_apart()
    assert told == [(memory.M_MMAP_THRESHOLD, memory.LARGE), (memory.M_TRIM_THRESHOLD, memory.SPARE)]
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    memory.keep_large_apart()


async def test_garbage_is_collected_by_the_clock_and_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "USUAL", 0.001)
    monkeypatch.setattr(memory, "WHOLE", 3)
    collected: list[int] = []
    monkeypatch.setattr(memory.gc, "collect", collected.append)
    usual = gc.get_threshold()
    tidying = asyncio.create_task(memory.tidy_forever())
    while len(collected) < 6:
        await asyncio.sleep(0.001)
    assert gc.get_threshold()[0] == 1_000_000
    tidying.cancel()
    await asyncio.gather(tidying, return_exceptions=True)
    assert collected[:6] == [1, 1, 2, 1, 1, 2]
    assert gc.get_threshold() == usual
