"""The bulk reader on aiokafka: partitions read whole, outside of any group, several at a time.

Each read has a consumer of its own (a connection costs milliseconds, and reads of several partitions do not
wait for each other); it holds one fetch in memory beside the one it has handed out. A trimmed start is taken
as it is. The end of a read is an offset, not a record: compaction may have left nothing just before it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError, OffsetOutOfRangeError, UnknownTopicOrPartitionError

from monitor.core.errors import AbsenceError, InvariantError
from monitor.core.instants import Millis
from monitor.worker.fetches import drain
from monitor.worker.ports import Record
from monitor.worker.settings import Connection

log = logging.getLogger(__name__)

EMPTY_FETCHES = 2
"""Answers without records, after which nothing is left before the end that a read was given."""


class KafkaReader:
    """`Reader` on Kafka. Belongs to the loop it is first used in."""

    def __init__(
        self,
        connection: Connection,
        *,
        fetch_bytes: int = 4 << 20,
        poll_records: int = 20_000,
        fetch_wait_ms: Millis = 100,
        request_timeout_ms: Millis = 40_000,
        client_id: str = "session-monitor-reader",
    ) -> None:
        """Memory of a read is about three times `fetch_bytes`, or one record where that is larger."""
        self._settings: dict[str, Any] = {
            **connection.aiokafka(),
            "client_id": client_id,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "max_partition_fetch_bytes": fetch_bytes,
            "max_poll_records": poll_records,
            "fetch_max_wait_ms": fetch_wait_ms,
            "request_timeout_ms": request_timeout_ms,
        }
        self._asking: AIOKafkaConsumer | None = None
        self._lock = asyncio.Lock()

    async def stop(self) -> None:
        """Close the connection that `bounds` holds. Idempotent; reads close their own."""
        async with self._lock:
            asking, self._asking = self._asking, None
            if asking is not None:
                await asking.stop()

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset and the end offset. Raises AbsenceError where there is no such partition."""
        async with self._lock:
            if self._asking is None:
                self._asking = await self._connect()
        return await _bounds(self._asking, TopicPartition(topic, partition))

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """Every record with start <= offset < end that the log still has, in whole fetches."""
        if start >= end:
            return
        tp = TopicPartition(topic, partition)
        async with self._at(tp, start) as consumer:
            empty = 0
            while await consumer.position(tp) < end:
                polled_at = consumer.last_poll_timestamp(tp)
                records = await self._fetch(consumer, tp, 1000)
                if records:
                    empty = 0
                    if records[-1].offset >= end:
                        records = [record for record in records if record.offset < end]
                    if records:
                        yield records
                elif (highwater := consumer.highwater(tp)) is not None and highwater < end:
                    raise InvariantError(
                        f"{topic}[{partition}] ends at {highwater}, before {end}: the log was cut off."
                    )
                elif consumer.last_poll_timestamp(tp) != polled_at:
                    empty += 1
                    if empty >= EMPTY_FETCHES:
                        return

    async def follow(self, topic: str, partition: int, start: int) -> AsyncIterator[Sequence[Record]]:
        """Every record from `start` on, as they come, until the iterator is closed."""
        tp = TopicPartition(topic, partition)
        async with self._at(tp, start) as consumer:
            while True:
                records = await self._fetch(consumer, tp, 60_000)
                if records:
                    yield records

    @contextlib.asynccontextmanager
    async def _at(self, tp: TopicPartition, start: int) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = await self._connect()
        try:
            begin, end = await _bounds(consumer, tp)
            if start > end:
                raise InvariantError(
                    f"{tp.topic}[{tp.partition}] ends at {end}, but is to be read from {start}: the topic was made anew."
                )
            consumer.assign([tp])
            consumer.seek(tp, max(start, begin))
            yield consumer
        finally:
            await consumer.stop()

    async def _fetch(self, consumer: AIOKafkaConsumer, tp: TopicPartition, timeout_ms: Millis) -> list[Any]:
        try:
            fetched = await self._drain(consumer, tp, timeout_ms)
        except OffsetOutOfRangeError:
            begin, end = await _bounds(consumer, tp)
            position = await consumer.position(tp)
            if position > end:
                raise InvariantError(
                    f"{tp.topic}[{tp.partition}] ends at {end}, but offset {position} is wanted: the log was cut off."
                ) from None
            if position < begin:  # retention went past us
                log.warning(
                    "read_start_trimmed", extra={"topic": tp.topic, "partition": tp.partition, "begin": begin}
                )
                consumer.seek(tp, begin)
            return []
        return fetched.get(tp, [])

    async def _drain(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, timeout_ms: Millis
    ) -> dict[TopicPartition, list[Any]]:
        fetcher: Any = consumer._fetcher  # noqa: SLF001  (see `fetches`)
        most: int = self._settings["max_poll_records"]
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001
            fetched = await drain(fetcher, (tp,), most)
            if not fetched and not fetcher._closed:  # noqa: SLF001
                waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
                done, _ = await asyncio.wait([waiter], timeout=timeout_ms / 1000)
                if not done:
                    waiter.cancel()
                elif not fetcher._closed:  # noqa: SLF001
                    fetched = await drain(fetcher, (tp,), most)
        return fetched

    async def _connect(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(**self._settings)
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        return consumer


async def _bounds(consumer: AIOKafkaConsumer, tp: TopicPartition) -> tuple[int, int]:
    try:
        begin = await consumer.beginning_offsets([tp])
        end = await consumer.end_offsets([tp])
    except (KafkaTimeoutError, UnknownTopicOrPartitionError) as error:
        raise AbsenceError(
            f"{tp.topic}[{tp.partition}] cannot be reached: no such topic or partition, or no leader for it. "
            "`session-monitor topics apply` creates what is missing."
        ) from error
    except KafkaError as error:
        raise AbsenceError(
            f"{tp.topic}[{tp.partition}]: the broker did not give its offsets: {error!r}"
        ) from error
    return begin[tp], end[tp]
