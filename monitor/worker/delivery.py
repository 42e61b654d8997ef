"""Which fetched batches may still reach the owner: the bookkeeping between consumer thread and agent.

Every start of delivery of a partition (taking it over, resuming it) has a number, its *run*. The consumer's
thread stamps each batch with the run of the seek it followed, so a batch that was fetched before the latest
seek, pause or rebalance is recognised and dropped wherever it still lies: in the fetcher, in Faust's queue,
or in the agent's hands. No I/O, no Faust.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from monitor.core.instants import LogMillis
from monitor.worker.ports import Headers, Record

LOG_APPEND_TIME = 1
"""`timestamp_type` of a record whose time the broker set."""


class StampedRecord(Record, Protocol):
    """A record that also says who set its timestamp: aiokafka's `ConsumerRecord`."""

    timestamp_type: int


class Batch:
    """One fetch of one partition, as it travels through Faust."""

    __slots__ = ("done", "end_offset", "partition", "records", "run")

    def __init__(self, partition: int, run: int, end_offset: int, records: Sequence[StampedRecord]) -> None:
        """`records` is not empty and in offset order; `end_offset` is the high watermark that came with it."""
        self.partition = partition
        self.run = run
        self.end_offset = end_offset
        self.records = records
        self.done = asyncio.Event()
        """Set when the owner has taken the batch, or nobody wants it any more."""


class Delivery:
    """The runs that are open, and the next offset of each. Used by the event loop only, never by the thread."""

    def __init__(self) -> None:
        """Nothing is open."""
        self._runs: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._paused: set[int] = set()
        self._counter = 0

    def open(self, partition: int, offset: int) -> int:
        """Begin delivering `partition` at `offset`; the answer is its run."""
        self._counter += 1
        self._runs[partition] = self._counter
        self._next[partition] = offset
        self._paused.discard(partition)
        return self._counter

    def pause(self, partition: int) -> bool:
        """Deliver nothing more of an open partition; False if it was not open."""
        if self._runs.pop(partition, None) is None:
            return False
        self._paused.add(partition)
        return True

    def resume(self, partition: int) -> tuple[int, int] | None:
        """Open a paused partition where it stopped: its new run and offset. None if it was not paused."""
        if partition not in self._paused:
            return None
        offset = self._next[partition]
        return self.open(partition, offset), offset

    def close(self, partition: int) -> None:
        """Forget a partition: nothing of it is delivered until it is opened again."""
        self._runs.pop(partition, None)
        self._next.pop(partition, None)
        self._paused.discard(partition)

    def close_all(self) -> None:
        """Forget all partitions."""
        for partition in [*self._runs, *self._paused]:
            self.close(partition)

    def flowing(self) -> dict[int, int]:
        """Run by partition, of the partitions that are delivered now."""
        return self._runs

    def next_offset(self, partition: int) -> int | None:
        """The offset after the last record handed to the owner; None for a partition that is not here."""
        return self._next.get(partition)

    def current(self, batch: Batch) -> bool:
        """Whether the batch belongs to the run that is open."""
        return self._runs.get(batch.partition) == batch.run

    def admit(self, batch: Batch) -> Sequence[StampedRecord]:
        """What of the batch the owner has not had; the next offset moves behind it. Empty for a stale batch."""
        records = batch.records
        if not records or not self.current(batch):
            return ()
        expected = self._next[batch.partition]
        if records[0].offset < expected:
            records = [record for record in records if record.offset >= expected]
            if not records:
                return ()
        self._next[batch.partition] = records[-1].offset + 1
        return records


class ReceiveTimes:
    """Stands in for append times on a topic without LogAppendTime: the time of receipt, monotone per partition.

    A broker with LogAppendTime gives a whole record batch one time and says so in every record, so looking at
    the first and the last record of a fetch is enough, but for a topic whose setting changed in between and
    back within one fetch.
    """

    def __init__(self, now: Callable[[], LogMillis]) -> None:
        """`now` is the wall clock in milliseconds."""
        self._now = now
        self._last: dict[int, LogMillis] = {}
        self.exact = True
        """False once a record came without LogAppendTime: replays are then not exact."""

    def stamp(self, partition: int, records: Sequence[StampedRecord]) -> Sequence[StampedRecord]:
        """The records as they are, or with the time of receipt where a producer set their time."""
        if records[0].timestamp_type == LOG_APPEND_TIME and records[-1].timestamp_type == LOG_APPEND_TIME:
            return records
        self.exact = False
        received = max(self._now(), self._last.get(partition, 0))
        self._last[partition] = received
        return [
            record if record.timestamp_type == LOG_APPEND_TIME
            else Received(record.offset, received, record.timestamp_type, record.key, record.value, record.headers)
            for record in records
        ]  # fmt: skip


class Received(msgspec.Struct, gc=False):
    """A record with the time of its receipt."""

    offset: int
    timestamp: LogMillis
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers
