"""Whole fetches out of aiokafka, without an object of ours and without a turn of Python for each record.

aiokafka unpacks record by record, in Python, into objects of eleven members; that costs six times what parsing
costs. Here whole batches go from its compiled parser into a list: `offset`, `timestamp`, `timestamp_type`, `key`, `value`,
`headers` are all that anybody wants of a record. What else aiokafka does on the way is kept: CRC, control batches, positions.
"""

from collections.abc import Collection
from itertools import islice
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException


async def drain(fetcher: Any, partitions: Collection[TopicPartition], most: int | None) -> dict[TopicPartition, list[Any]]:
    """What has been fetched, by partition; `most` records in all.

    Raises what the fetcher has to say (KafkaError), CorruptRecordException where a checksum is wrong.
    """
    budget = [most if most is not None else 1 << 62]
    results = [result for result in fetcher._records.values() if type(result) is FetchResult]  # noqa: SLF001  (no public way)
    for result in results:
        result.getall = _Taker(result, budget)
        # It refers to what refers to it, and would keep the whole fetch until the next collection.
        result._partition_records._records_iterator = None  # noqa: SLF001
    try:
        drained: dict[TopicPartition, list[Any]] = await fetcher.fetched_records(partitions, timeout=0)
    finally:
        for result in results:
            del result.getall
    return drained


class _Taker:
    """Stands for `FetchResult.getall`."""

    __slots__ = ("_budget", "_result")

    def __init__(self, result: Any, budget: list[int]) -> None:
        self._result = result
        self._budget = budget

    def __call__(self, _: int | None = None) -> list[Any]:
        result, budget = self._result, self._budget
        if budget[0] <= 0 or not result.check_assignment(result._topic_partition) or not result.has_more():  # noqa: SLF001
            return []
        parts = result._partition_records  # noqa: SLF001
        taken = take_batches(parts, budget[0])
        budget[0] -= len(taken)
        result._update_position()  # noqa: SLF001
        if not has_more(parts):
            result._partition_records = None  # noqa: SLF001
        return taken


def take_batches(parts: Any, most: int) -> list[Any]:
    """Up to `most` records of one partition's fetch; moves its next offset."""
    taken: list[Any] = []
    while len(taken) < most and has_more(parts):
        begun, parts.unfinished = getattr(parts, "unfinished", None), None
        batch = begun or _next_batch(parts)
        if batch is None:
            continue
        before, wanted = len(taken), parts.next_fetch_offset
        # A batch says `iter` once only.
        taken.extend(islice(iter(batch.__next__, None) if begun else batch, most - before))
        if len(taken) == most:
            parts.unfinished = batch
            parts.next_fetch_offset = max(wanted, taken[-1].offset + 1)
        else:  # also where compaction has taken the last records of the batch
            parts.next_fetch_offset = max(wanted, batch.next_offset)
        if len(taken) > before and taken[before].offset < wanted:  # a fetch begins with a whole batch
            taken[before:] = [record for record in taken[before:] if record.offset >= wanted]
    return taken


def has_more(parts: Any) -> bool:
    """Whether anything of a partition's fetch has not been taken."""
    return getattr(parts, "unfinished", None) is not None or bool(parts._records.has_next())  # noqa: SLF001


def _next_batch(parts: Any) -> Any:
    batch = parts._records.next_batch()  # noqa: SLF001
    if parts._check_crcs and not batch.validate_crc():  # noqa: SLF001
        raise CorruptRecordException(f"Invalid CRC - {parts._tp}")  # noqa: SLF001
    if batch.is_control_batch:
        parts.next_fetch_offset = max(parts.next_fetch_offset, batch.next_offset)
        return None
    return batch
