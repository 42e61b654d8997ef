"""The appender on aiokafka: idempotent, all replicas, one future per batch, every future looked at.

Faust logs a failed delivery and commits past it; here the first failure ends the appender, and `settled`
raises. aiokafka with `enable_idempotence` numbers the records of each partition when a batch first leaves and
repeats the batch under the same numbers until it is answered, so a broken connection or a restarted broker
neither loses nor doubles nor reorders. It repeats for ever: while the broker is away, `pending` grows and the
owner reads no further.

A batch that the broker refuses (too large) has used up sequence numbers that the broker never saw, and every
later batch of that producer on that partition would be out of order. So after a refusal the lanes go on with a
new producer; the old one finishes what it has in flight. Records too large for aiokafka's batch size travel
alone.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from monitor.core.errors import InvariantError
from monitor.core.instants import Millis
from monitor.worker.lanes import Item, Lane, Substitute
from monitor.worker.ports import Appended, Headers
from monitor.worker.settings import Connection

log = logging.getLogger(__name__)


class RecordTooLargeError(InvariantError):
    """The broker refuses a record as too large, and there is no smaller one to write in its place."""

    def __init__(self, topic: str, partition: int, size: int) -> None:
        """`size` is that of key and value."""
        super().__init__(
            f"{topic}[{partition}] refuses a record of {size} bytes as too large: "
            "raise max.message.bytes of the topic (`topics verify` shows what is expected)."
        )
        self.topic, self.partition, self.size = topic, partition, size


class KafkaAppender:
    """`Appender` on Kafka. Belongs to the loop it is started in; not thread-safe."""

    def __init__(
        self,
        connection: Connection,
        *,
        batch_bytes: int = 256 << 10,
        linger: float = 0.0,
        compression: str | None = None,
        request_timeout_ms: Millis = 40_000,
        client_id: str = "session-monitor-appender",
    ) -> None:
        """`linger` in seconds: 0 lets a record leave at the end of the turn of the loop that took it."""
        self._producer_settings = {
            **connection.aiokafka(),
            "client_id": client_id,
            "enable_idempotence": True,
            "acks": "all",
            "linger_ms": 0,
            "max_batch_size": batch_bytes,
            "max_request_size": 1 << 30,
            "compression_type": compression,
            "request_timeout_ms": request_timeout_ms,
        }
        self._linger = linger
        self._producer: AIOKafkaProducer | None = None
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._pumps: dict[Lane, asyncio.Task[None]] = {}
        self._retired: set[asyncio.Task[None]] = set()
        self._dirty: dict[Lane, None] = {}
        """In the order in which they were written to."""
        self._timer: asyncio.Handle | None = None
        self._taken = 0
        self._pending = 0
        self._observers: list[Callable[[Appended], None]] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        """Who waits for everything before a mark ..."""
        self._wanting_room: list[tuple[int, asyncio.Future[None]]] = []
        """... and who waits until no more than so many are pending."""
        self.failure: InvariantError | None = None
        """The first failure: nothing is sent after it."""

    async def start(self) -> None:
        """Connect; raises KafkaError where no broker answers."""
        self._producer = await self._connect()

    async def stop(self, seconds: float = 5.0) -> None:
        """Send what is pending, for so many `seconds` at most, and close. Idempotent."""
        if self._producer is None:
            return
        if self.failure is None and self._pending:
            with contextlib.suppress(TimeoutError, InvariantError):
                await asyncio.wait_for(self.settled(self.mark()), seconds)
        if self._timer is not None:
            self._timer.cancel()
        pumps = [*self._pumps.values(), *self._retired]
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        producer, self._producer = self._producer, None
        await _close(producer, seconds)
        if self.failure is None and self._pending:
            self._fail(
                InvariantError(
                    f"{self._pending} records were not acknowledged when the appender was stopped."
                )
            )

    @property
    def failed(self) -> bool:
        """Whether a record was lost: `settled` raises from then on."""
        return self.failure is not None

    @property
    def pending(self) -> int:
        """Records taken and not yet acknowledged."""
        return self._pending

    def on_acknowledged(self, observer: Callable[[Appended], None]) -> None:
        """Tell `observer` of every acknowledgement, before `settled` returns for it."""
        self._observers.append(observer)

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        *,
        instead: Substitute | None = None,
    ) -> None:
        """Take one record; it leaves at the end of this turn of the loop, or after the linger.

        `instead` is written in its place where the broker refuses it as too large; without it that is a failure.
        """
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = Lane(topic, partition)
        lane.waiting.append(Item(self._taken, key, value, headers, instead))
        self._taken += 1
        self._pending += 1
        self._dirty[lane] = None
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = (
                loop.call_later(self._linger, self.flush) if self._linger else loop.call_soon(self.flush)
            )

    def flush(self) -> None:
        """Hand what was taken to the network; a lane with a batch in flight follows up by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dirty, self._dirty = self._dirty, {}
        if self.failure is not None or self._producer is None:
            return
        for lane in dirty:
            if lane not in self._pumps:
                self._pumps[lane] = asyncio.create_task(
                    self._pump(lane), name=f"append-{lane.topic}-{lane.partition}"
                )

    def discard(self, topic: str, partition: int) -> int:
        """Forget what waits for a partition; a batch in flight is not called back."""
        lane = self._lanes.get((topic, partition))
        if lane is None:
            return 0
        count = len(lane.waiting)
        lane.waiting.clear()
        self._pending -= count
        self._wake()
        return count

    def mark(self) -> int:
        """The position after everything taken so far."""
        return self._taken

    async def settled(self, mark: int) -> None:
        """Return when everything before `mark` is acknowledged. Raises InvariantError where it can't be any more."""
        self.flush()
        if self.failure is not None:
            raise self.failure
        if self._settled_to() >= mark:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((mark, waiter))
        await waiter

    async def below(self, most: int) -> None:
        """Return when no more than `most` records are pending. Raises InvariantError where it can't be any more."""
        self.flush()
        while self._pending > most:
            if self.failure is not None:
                raise self.failure
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._wanting_room.append((most, waiter))
            await waiter

    # --- one lane ----------------------------------------------------------------------------------------

    async def _pump(self, lane: Lane) -> None:
        """Send batch after batch until the lane is empty."""
        try:
            while lane.waiting and self.failure is None:
                await self._send(lane)
        except asyncio.CancelledError:
            raise
        except InvariantError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, records are lost unless we say so
            self._fail(InvariantError(f"{lane.topic}[{lane.partition}]: appending failed: {error!r}"), error)
        finally:
            # Nothing awaits between the test of the loop and here, so no record is left behind.
            del self._pumps[lane]

    async def _send(self, lane: Lane) -> None:
        producer = self._producer
        if producer is None:
            raise InvariantError("the appender was stopped")
        batch = producer.create_batch()
        lane.fill(batch)
        batch.close()
        sent_at = _monotonic()
        try:
            answer = await (await producer.send_batch(batch, lane.topic, partition=lane.partition))
        except (MessageSizeTooLargeError, RecordListTooLargeError):
            await self._renew(producer)
            hopeless = lane.refused()
            if hopeless is not None:
                size = len(hopeless.key or b"") + len(hopeless.value or b"")
                raise RecordTooLargeError(lane.topic, lane.partition, size) from None
            return
        except KafkaError as error:
            raise InvariantError(
                f"{lane.topic}[{lane.partition}]: {len(lane.flight)} records were not written: {error!r}. "
                "The worker stops without committing and repeats."
            ) from error
        if answer is None or answer.offset < 0:
            raise InvariantError(
                f"{lane.topic}[{lane.partition}]: the broker acknowledged a batch without its offset."
            )
        count = lane.acknowledged()
        self._pending -= count
        timestamp = answer.timestamp if answer.timestamp_type == 1 else -1
        appended = Appended(
            lane.topic, lane.partition, answer.offset, count, timestamp, sent_at, _monotonic()
        )
        for observer in self._observers:
            observer(appended)
        self._wake()

    async def _renew(self, used: AIOKafkaProducer) -> None:
        """Go on with a producer whose sequence numbers the broker has all seen."""
        if self._producer is not used:  # another lane was faster
            return
        fresh = await self._connect()
        if self._producer is not used:
            await _close(fresh, 1.0)
            return
        self._producer = fresh
        # The old one first sends what it has in flight.
        task = asyncio.create_task(_close(used, 60.0), name="append-retire")
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def _connect(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**self._producer_settings)
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    # --- settling ----------------------------------------------------------------------------------------

    def _settled_to(self) -> int:
        oldest = [number for lane in self._lanes.values() if (number := lane.oldest) is not None]
        return min(oldest, default=self._taken)

    def _wake(self) -> None:
        wanting, self._wanting_room = self._wanting_room, []
        for most, waiter in wanting:
            if self._pending > most:
                self._wanting_room.append((most, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        if not self._waiters:
            return
        settled_to = self._settled_to()
        still = []
        for mark, waiter in self._waiters:
            if mark > settled_to:
                still.append((mark, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        self._waiters = still

    def _fail(self, failure: InvariantError, cause: BaseException | None = None) -> None:
        if self.failure is not None:
            return
        failure.__cause__ = failure.__cause__ or cause
        self.failure = failure
        log.critical("append_failed", exc_info=failure)
        waiters, self._waiters, self._wanting_room = [*self._waiters, *self._wanting_room], [], []
        for _, waiter in waiters:
            if not waiter.done():
                waiter.set_exception(failure)


def _monotonic() -> Millis:
    return time.monotonic_ns() // 1_000_000


async def _close(producer: Any, seconds: float) -> None:
    """Stop a producer; one that cannot send what it holds is cut off after so many `seconds`."""
    stopping = asyncio.ensure_future(producer.stop())
    done, _ = await asyncio.wait({stopping}, timeout=seconds)
    if not done:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        with contextlib.suppress(Exception):
            await producer._sender.close()  # noqa: SLF001  (its stop() waits for ever without a broker)
        await producer.client.close()
    elif (error := stopping.exception()) is not None:
        log.warning("producer_close_failed", extra={"error": repr(error)})
