"""Fetched records for their keys and values alone: what makes a view of a million sessions load within seconds.

kafka-python makes three objects a record and decodes every header, which takes 12 us or more; a gateway wants neither
headers nor sizes. This takes its batches as they are and reads the records by itself (KIP-98, record format 2).
It stands in for a class that kafka-python does not document: where that is no longer what it was, `lighten` leaves the
client as it is, and it works as before, only slower.
"""

from typing import Any, Final

import msgspec
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError

from monitor.core.instants import LogMillis

_VARINT: Final = 0x7F
_MORE: Final = 0x80
_OURS: Final = 2
"""The record format since Kafka 0.11."""


class Stored(msgspec.Struct, gc=False):
    """A record as it stands on its topic."""

    offset: int
    timestamp: LogMillis
    key: bytes | None
    value: bytes | None


def read_records(data: bytes, position: int, count: int, base: int, first: LogMillis, *, appended: bool) -> list[Stored]:
    """The records of an uncompressed batch that begin at `position`. Raises CorruptRecordError.

    `base` is the batch's offset; `first` its first time, or, where the broker `appended` the times, that of all. Numbers of one and two bytes, which
    nearly all are, are read in place: a call costs more than the reading.
    """
    records = []
    step, size_of_all = 0 if appended else 1, len(data)
    try:
        for _ in range(count):
            low = data[position]
            high = data[position + 1]
            if low >= _MORE > high:
                length, position = (low & _VARINT | high << 7) >> 1, position + 2
            else:
                length, position = _varint(data, position)
            end = position + length
            delta, position = _varint(data, position + 1)  # past the attributes, which are unused
            time = first + delta * step
            low = data[position]
            high = data[position + 1]
            if low >= _MORE > high:
                delta, position = (low & _VARINT | high << 7) >> 1, position + 2
            else:
                delta, position = _varint(data, position)
            low = data[position]
            if low & 1:
                size, position = _varint(data, position)
            elif low < _MORE:
                size, position = low >> 1, position + 1
            elif (high := data[position + 1]) < _MORE:  # as of a hash in hex
                size, position = (low & _VARINT | high << 7) >> 1, position + 2
            else:
                size, position = _varint(data, position)
            key = None
            if size >= 0:
                key = data[position : position + size]
                position += size
            low = data[position]
            high = data[position + 1]
            if low >= _MORE > high and not low & 1:
                size, position = (low & _VARINT | high << 7) >> 1, position + 2
            else:
                size, position = _varint(data, position)
            value = None
            if size >= 0:
                value = data[position : position + size]
                position += size
            if not position <= end <= size_of_all:
                raise CorruptRecordError(f"a record of {length} bytes does not fit its batch, or what it says it holds")
            position = end
            records.append(Stored(base + delta, time, key, value))
    except IndexError:
        raise CorruptRecordError("a batch ends within a record") from None
    return records


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A signed number, and where the next begins."""
    byte = data[position]
    if byte < _MORE:
        return byte >> 1 ^ -(byte & 1), position + 1
    number, shift = byte & _VARINT, 7
    while True:
        position += 1
        byte = data[position]
        number |= (byte & _VARINT) << shift
        if byte < _MORE:
            return number >> 1 ^ -(number & 1), position + 1
        shift += 7


class _Light(Fetcher.PartitionRecords):  # type: ignore[misc]
    """One partition's part of a fetch, in whole batches."""

    def __init__(self, fetch_offset: int, tp: Any, records: Any, **settings: Any) -> None:
        super().__init__(fetch_offset, tp, records, **settings)
        self._batches = records

    def take(self, n: int | None = None) -> list[Stored]:
        """About `n` records: the batch that reaches it is given whole. What is corrupt is raised after what came before."""
        self._maybe_raise_next_inline_exception()
        found: list[Stored] = []
        try:
            while self.record_iterator is not None and (n is None or len(found) < n):
                batch = self._batches.next_batch()
                if batch is None:
                    self.drain()
                    break
                records = _records(batch)
                # A batch is fetched whole, also where only its end was asked for.
                found += records if batch.base_offset >= self.fetch_offset else [
                    record for record in records if record.offset >= self.fetch_offset
                ]  # fmt: skip
                self.leader_epoch = batch.leader_epoch if batch.magic == _OURS else -1
                # Of the batch, not of its last record: compaction may have taken that.
                self.next_fetch_offset = batch.next_offset
        except Exception as error:
            if not found:
                raise
            self._next_inline_exception = error
        return found


def _records(batch: Any) -> list[Stored]:
    if batch.magic != _OURS:
        return [Stored(record.offset, record.timestamp, record.key, record.value) for record in batch]
    if batch.is_control_batch:
        return []
    batch._maybe_uncompress()  # noqa: SLF001
    appended = batch.timestamp_type == batch.LOG_APPEND_TIME
    first = batch.max_timestamp if appended else batch.first_timestamp
    data, position = bytes(batch._buffer), batch._pos  # noqa: SLF001
    return read_records(data, position, batch.records_count, batch.base_offset, first, appended=appended)


def lighten(client: KafkaConsumer) -> bool:
    """Have the consumer give `Stored` records; False where this kafka-python is not one we know, and it stays as it is."""
    fetcher = getattr(client, "_fetcher", None)
    if fetcher is None or not all(hasattr(fetcher, name) for name in ("PartitionRecords", "_parse_fetched_data")):
        return False
    fetcher.PartitionRecords = _Light
    return True
