"""The Faust transport driver: one Faust message per fetch of a partition, offsets committed by the owner alone.

Faust spends four tasks and more on every message it delivers; here a message is a whole fetch, and everything
else stays Faust's: the group, its assignor, agents, streams. Three things differ from Faust's own driver:

- **Delivery.** `_drain_messages` takes whole fetches and hands them to the ordinary callback, at most two in
  flight. Stale ones are dropped by their run (see `delivery`), not by Faust's read offsets.
- **Offsets.** The topic is declared with `acks=False`, so Faust keeps no acknowledgements (nothing grows) and
  its commit timer finds nothing to commit. `GroupOffsets.commit` is the only commit.
- **Positions.** There is no automatic reset: a partition is fetched from where the owner said, or not at all.

Threads: aiokafka's consumer, with its heartbeats, lives on Faust's consumer thread with an event loop of its
own; the owner, the agent and the producer live on the main loop. Names ending in `_in_thread` run there;
`in_thread` is the one way across (Faust's method queue has two workers, and a fetch that waits for a
rebalance holds one of them).
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar, TypeVar

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
)
from faust.transport.consumer import Fetcher as FaustFetcher
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service, ServiceT

from monitor.core.errors import AbsenceError
from monitor.worker.crossing import Crossing, across
from monitor.worker.custody import Custody
from monitor.worker.delivery import Batch, Delivery, ReceiveTimes
from monitor.worker.fetches import drain
from monitor.worker.membership import stay_member
from monitor.worker.settings import EngineSettings

log = logging.getLogger(__name__)
T = TypeVar("T")

IN_FLIGHT = 2
"""Batches handed to the agent and not yet taken by the owner: one in its hands, one ready behind it."""
NOWHERE = TopicPartition("", -1)
"""Keeps the set of partitions to fetch from being empty, which to aiokafka means every partition."""
NO_GENERATION = -1
"""The coordinator's generation once the group has thrown us out."""
Fetched = dict[int, Batch]


class RebalanceListener(driver.ConsumerRebalanceListener):
    """Runs in the consumer's thread; keeps a new assignment still until the owner says where it begins."""

    _thread: "ConsumerThread"

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> Any:
        """Note whether the partitions are still ours to commit for, before anything awaits."""
        self._thread.lost = self._thread.generation_in_thread() == NO_GENERATION
        return super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Pause first: aiokafka would begin to fetch from the committed offset at once."""
        self._thread.begin_assignment_in_thread(assigned)
        await super().on_partitions_assigned(assigned)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, with the calls that the owner's way of consuming needs."""

    lost: bool = False
    _runs: dict[TopicPartition, int]
    _flowing: set[TopicPartition]
    """The partitions to fetch. Changed while a fetch waits, which looks at it again at every wake-up."""

    @property
    def settings(self) -> EngineSettings:
        """What the operator chose."""
        app: Any = self.app
        settings: EngineSettings = app.engine
        return settings

    async def in_thread(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """`await call(*args)` on the consumer's loop; from the main loop. ConsumerStoppedError where it has ended."""
        try:
            return await across(self.thread_loop, call, *args)
        except RuntimeError as error:
            if self.thread_loop.is_closed():
                raise ConsumerStoppedError from error
            raise

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        self._runs = {}
        self._flowing = {NOWHERE}
        self._assignor = self.app.assignor
        s = self.settings
        return aiokafka.AIOKafkaConsumer(
            **s.connection.aiokafka(),
            client_id=s.client_id,
            group_id=s.app_id,
            group_instance_id=s.instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_poll_records=s.poll_records,
            max_poll_interval_ms=s.max_poll_interval_ms,
            max_partition_fetch_bytes=s.fetch_bytes,
            fetch_max_wait_ms=s.fetch_wait_ms,
            request_timeout_ms=s.request_timeout_ms,
            session_timeout_ms=s.session_timeout_ms,
            rebalance_timeout_ms=s.rebalance_timeout_ms,
            heartbeat_interval_ms=s.heartbeat_ms,
            check_crcs=True,
            isolation_level="read_uncommitted",
        )

    async def on_start(self) -> None:
        """Connect; nothing joins a group before it subscribes."""
        await super().on_start()
        stay_member(self._ensure_consumer()._coordinator)  # noqa: SLF001

    async def on_thread_stop(self) -> None:
        """Leave the group and close, in bounded time also where no broker answers: the main loop waits for us."""
        consumer, self._consumer = self._consumer, None
        await super().on_thread_stop()
        if consumer is None:
            return
        stopping = asyncio.ensure_future(consumer.stop())
        await asyncio.wait({stopping}, timeout=self.settings.stop_timeout / 2)
        stopping.cancel()
        # Also where aiokafka's own cancellations come out of its stop, the connections are closed.
        closing = consumer._client.close()  # noqa: SLF001
        ends: Any = await asyncio.gather(stopping, closing, return_exceptions=True)
        if isinstance(ends[0], BaseException):
            log.warning("group_not_left", extra={"error": repr(ends[0])})

    # --- in the consumer's thread -----------------------------------------------------------------------

    def generation_in_thread(self) -> int:
        """The generation by which we may commit; NO_GENERATION where the group does not know us."""
        coordinator = self._ensure_consumer()._coordinator  # noqa: SLF001  (aiokafka has no public way)
        return int(coordinator.generation)

    def begin_assignment_in_thread(self, assigned: Iterable[TopicPartition]) -> None:
        self._runs.clear()
        self._flowing.intersection_update({NOWHERE})
        self._ensure_consumer().pause(*(TopicPartition(*tp) for tp in assigned))

    async def fetch_in_thread(self, seconds: float) -> Fetched:
        """Whole fetches of the partitions that flow; {} after so many `seconds` without any."""
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher  # noqa: SLF001
        if consumer._closed or fetcher._closed:  # noqa: SLF001
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001
            fetched = await drain(fetcher, self._flowing, consumer._max_poll_records)  # noqa: SLF001
            if not fetched:
                waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
                done, _ = await asyncio.wait([waiter], timeout=seconds)
                if not done:
                    waiter.cancel()
                    return {}
                if fetcher._closed:  # noqa: SLF001
                    raise ConsumerStoppedError
                fetched = await drain(fetcher, self._flowing, consumer._max_poll_records)  # noqa: SLF001
        return {
            tp.partition: Batch(tp.partition, self._runs[tp], consumer.highwater(tp) or 0, records)
            for tp, records in fetched.items()
            if records and tp in self._runs and tp in consumer.assignment()
        }

    async def begin_in_thread(self, topic: str, starts: dict[int, tuple[int, int]]) -> None:
        """Seek and resume: (run, offset) by partition. A partition that is gone meanwhile is skipped."""
        consumer = self._ensure_consumer()
        for partition, (run, offset) in starts.items():
            tp = TopicPartition(topic, partition)
            with contextlib.suppress(IllegalStateError, AttributeError):  # a rebalance took it
                consumer.seek(tp, offset)
                consumer.resume(tp)
                self._runs[tp] = run
                self._flowing.add(tp)

    async def pause_in_thread(self, topic: str, partition: int) -> None:
        tp = TopicPartition(topic, partition)
        self._runs.pop(tp, None)
        self._flowing.discard(tp)
        with contextlib.suppress(IllegalStateError, AttributeError):
            self._ensure_consumer().pause(tp)

    async def commit_in_thread(self, offsets: dict[TopicPartition, int]) -> None:
        await self._ensure_consumer().commit(offsets)

    async def committed_in_thread(self, tp: TopicPartition) -> int | None:
        offset: int | None = await self._ensure_consumer().committed(tp)
        return offset

    async def bounds_in_thread(self, tp: TopicPartition) -> tuple[int, int]:
        consumer = self._ensure_consumer()
        begins = await consumer.beginning_offsets([tp])
        ends = await consumer.end_offsets([tp])
        return begins[tp], ends[tp]

    async def check_in_thread(self, busy: bool) -> None:
        """Raise what the coordinator has to say to its user (no right to the group, a dead task).

        `busy` with a recovery, we do not fetch, and aiokafka would leave the group after the poll interval.
        """
        consumer = self._ensure_consumer()
        consumer._coordinator.check_errors()  # noqa: SLF001
        if busy:
            with consumer._subscription.fetch_context():  # noqa: SLF001
                pass


class Consumer(driver.Consumer):
    """Faust's consumer with batches for messages and the owner for a conscience."""

    RebalanceListener: ClassVar[type[RebalanceListener]] = RebalanceListener
    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Made by Faust's app, when it starts."""
        super().__init__(*args, **kwargs)
        app: Any = self.app
        self.topic: str = app.engine.topic
        self.custody: Custody = app.custody
        self.delivery: Delivery = self.custody.delivery
        self.times: ReceiveTimes = app.times
        self.halted: dict[int, str] = {}
        """Partitions that are not delivered any more, and why."""
        self._flight: deque[Batch] = deque()

    def _new_consumer_thread(self) -> ConsumerThread:
        # Its loop is of the kind that this one is; it ends with the thread.
        thread = ConsumerThread(self, loop=self.loop, thread_loop=type(self.loop)(), beacon=self.beacon)
        thread._close_thread_loop_on_stop = True  # noqa: SLF001
        return thread

    # --- delivery ----------------------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        """Fetch and deliver until the fetcher stops. An error is the worker's failure, never a skipped record."""
        try:
            while not (self.should_stop or fetcher.should_stop or self.custody.failed):
                fetched = await self._fetch()
                for batch in fetched.values():
                    batch.records = self.times.stamp(batch.partition, batch.records)
                    await self._deliver(batch)
                if not fetched:
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise
        except ConsumerStoppedError as error:
            if not self.should_stop and not self.app.should_stop:
                self.custody.fail(error)
        except Exception as error:  # noqa: BLE001 - Faust would log it and stop delivering
            self.custody.fail(error)

    async def _fetch(self) -> Fetched:
        try:
            return await self._thread.in_thread(self._thread.fetch_in_thread, 1.0)
        except (
            OffsetOutOfRangeError,
            NoOffsetForPartitionError,
            RecordTooLargeError,
            CorruptRecordException,
        ) as error:
            await self._examine(error)
            return {}

    async def _deliver(self, batch: Batch) -> None:
        while self._flight and (len(self._flight) >= IN_FLIGHT or self._flight[0].done.is_set()):
            await self._flight[0].done.wait()
            if self._flight:  # a rebalance empties it
                self._flight.popleft()
        if not self.delivery.current(batch):
            return
        self._flight.append(batch)
        await self.callback(self._to_batch_message(batch))

    def _to_batch_message(self, batch: Batch) -> ConsumerMessage:
        last = batch.records[-1]
        whole: Any = batch  # Faust passes the value on as it is: see `WholeBatch`
        return ConsumerMessage(
            self.topic, batch.partition, last.offset, last.timestamp / 1000, 1, None, None, whole, None, 0, 0,
            TP(self.topic, batch.partition), generation_id=self.app.consumer_generation_id,
        )  # fmt: skip

    async def _examine(self, error: KafkaError) -> None:
        """Halt each partition whose next offset the broker does not hold; a passing error changes nothing."""
        log.warning("fetch_refused", extra={"error": repr(error)})
        for partition in list(self.delivery.flowing()):
            offset = self.delivery.next_offset(partition)
            begin, end = await self._thread.in_thread(
                self._thread.bounds_in_thread, TopicPartition(self.topic, partition)
            )
            if offset is not None and not begin <= offset <= end:
                self.halt(
                    partition,
                    f"{self.topic}[{partition}]: offset {offset} is wanted, the broker holds {begin} to {end}: "
                    "records were lost to retention or the topic was made anew. "
                    "Decide what to do with them, then reset the group's offset and the changelog.",
                )
        if isinstance(error, RecordTooLargeError | CorruptRecordException):
            raise AbsenceError(f"{self.topic}: a fetch could not be read: {error}") from error

    def halt(self, partition: int, reason: str) -> None:
        """Deliver nothing more of a partition until it is assigned anew, and say so loudly."""
        self.delivery.close(partition)
        self.halted[partition] = reason
        log.critical("partition_halted", extra={"partition": partition, "reason": reason})
        self.cross(self._thread.pause_in_thread, self.topic, partition)

    def cross(self, call: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Start a call in the consumer's thread without waiting; calls keep their order."""
        with contextlib.suppress(RuntimeError):  # the thread has ended: there is nothing left to steer
            Crossing(self._thread.thread_loop, call, *args)

    async def begin(self, starts: dict[int, int]) -> None:
        """Deliver each partition from its offset on."""
        runs = {
            partition: (self.delivery.open(partition, offset), offset) for partition, offset in starts.items()
        }
        await self._thread.in_thread(self._thread.begin_in_thread, self.topic, runs)

    # --- rebalance ---------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """The owner's last checkpoint comes first: the group waits for us, and the old generation still commits."""
        lost = self._thread.lost
        await self.custody.give_up(lost=lost)
        self._forget_flight()
        self.halted.clear()
        await super().on_partitions_revoked(revoked)

    def _forget_flight(self) -> None:
        for batch in self._flight:
            batch.done.set()
        self._flight.clear()

    async def wait_empty(self) -> None:
        """Nothing to wait for: `give_up` has waited for the batch in hand, and the rest is not wanted."""

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Faust never commits: the owner's checkpoint does."""
        return False

    def on_buffer_full(self, tp: TP) -> None:
        """Faust's queue is never full: `_deliver` bounds what is in it."""

    def on_buffer_drop(self, tp: TP) -> None:
        """See `on_buffer_full`."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's check counts acknowledged messages, of which there are none; the watchdog is the owner's."""

    @Service.task
    async def _watch_coordinator(self) -> None:
        """Listener errors and lost rights are otherwise noticed by nobody: the worker would stay and do nothing."""
        while not self.should_stop:
            await self.sleep(1.0)
            try:
                await self._thread.in_thread(self._thread.check_in_thread, bool(self.custody.taking))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - a coordinator that has ended would be silence
                if not self.app.should_stop:
                    self.custody.fail(error)
                return


class Fetcher(FaustFetcher):
    """Runs the consumer's drain loop; Faust's own would take a stop during a rebalance for a crash."""

    @Service.task
    async def _fetcher(self) -> None:
        app: Any = self.app
        await app.consumer._drain_messages(self)  # noqa: SLF001  (as Faust's own fetcher does)


class Transport(driver.Transport):
    """`app.transport` of the monitor: Faust's aiokafka driver with our consumer."""

    Fetcher: ClassVar[type[ServiceT]] = Fetcher
    Consumer: ClassVar[type[Consumer]] = Consumer
    driver_version = f"session-monitor on aiokafka={aiokafka.__version__}"
