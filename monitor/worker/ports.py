"""What the owner of partitions needs of the log, and what the stream engine needs of the owner.

The real side of these ports is Faust and aiokafka (`transport`, `appender`, `reader`); the simulated side
is a log in memory on virtual time. The owner, checkpoint, recovery and ticker know only these.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Protocol

import msgspec

from monitor.core.instants import LogMillis, Millis

Headers = Sequence[tuple[str, bytes]]


class Record(Protocol):
    """One record as fetched: aiokafka's `ConsumerRecord` is one."""

    offset: int
    timestamp: LogMillis
    """The broker's append time (LogAppendTime); on a broker without it, the worker's receive time."""
    key: bytes | None
    value: bytes | None
    headers: Headers


class Appended(msgspec.Struct, frozen=True):
    """The broker's word that consecutive records stand on a partition."""

    topic: str
    partition: int
    base_offset: int
    count: int
    timestamp: LogMillis
    """Append time; -1 where the broker does not say."""
    sent_at: Millis
    """Local monotonic milliseconds when the request was handed over ..."""
    acked_at: Millis
    """... and when its answer was seen."""


class Appender(Protocol):
    """Writes, in order per (topic, partition), idempotent, acknowledged by all in-sync replicas.

    `append` never blocks and never loses: what it took is either acknowledged before `settled` returns, or
    `settled` raises InvariantError and the worker stops without committing.
    """

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = (), *,
        instead: tuple[bytes | None, bytes | None, Headers] | None = None,
    ) -> None:  # fmt: skip
        """Take one record. It leaves with the next flush (at the latest after the linger).

        `instead` (key, value, headers) is written in its place where the broker refuses it as too large.
        """

    def flush(self) -> None:
        """Hand what was taken so far to the network, in as few batches as possible."""

    def discard(self, topic: str, partition: int) -> int:
        """Forget what was taken for a partition and has not left yet; how many records that were."""

    def mark(self) -> int:
        """The position after everything taken so far."""

    async def settled(self, mark: int) -> None:
        """Return when everything before `mark` is acknowledged; flushes first. Raises InvariantError."""

    async def below(self, most: int) -> None:
        """Return when no more than `most` records are pending; flushes first. Raises InvariantError."""

    @property
    def pending(self) -> int:
        """Records taken and not yet acknowledged: above a bound, the owner reads no further."""

    def on_acknowledged(self, observer: Callable[[Appended], None]) -> None:
        """Tell `observer` of every acknowledgement."""


class Reader(Protocol):
    """Reads partitions whole, outside of any group."""

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset and the end offset (next to be written)."""

    def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """Every record with start <= offset < end that compaction has left, in whole fetches."""

    def follow(self, topic: str, partition: int, start: int) -> AsyncIterator[Sequence[Record]]:
        """Every record from `start` on, as they come, without end."""


class Offsets(Protocol):
    """The group's committed offsets of access-events."""

    async def committed(self, partition: int) -> int | None:
        """The committed offset, or None where there is none."""

    async def commit(self, offsets: dict[int, int]) -> None:
        """Commit; raises InvariantError where the group has moved on without us."""

    def pause(self, partition: int) -> None:
        """Deliver nothing more of this partition until `resume`."""

    def resume(self, partition: int) -> None:
        """Deliver again."""


class Clock(Protocol):
    """This machine's time: it schedules, and judges what to believe; it decides nothing."""

    def now(self) -> Millis:
        """Wall clock, since the epoch."""

    def monotonic(self) -> Millis:
        """Never steps."""

    async def sleep(self, duration: Millis) -> None:
        """Return after at least this long."""


class Owner(Protocol):
    """What the stream engine calls. One event loop, never two calls at a time for one partition."""

    async def assigned(self, partitions: Collection[int]) -> dict[int, int]:
        """Recover each partition; the answer says from which offset to deliver. May take seconds."""

    async def revoked(self, partitions: Collection[int]) -> None:
        """Final checkpoint, then forget. The engine waits for it before it gives the partitions away."""

    async def lost(self, partitions: Collection[int]) -> None:
        """They are already somebody else's: forget, write nothing."""

    async def records(self, partition: int, records: Sequence[Record], end_offset: int) -> None:
        """One whole fetch of one partition, in offset order; `end_offset` is the partition's high watermark."""

    async def stop(self) -> None:
        """Final checkpoint of everything; idempotent."""
