"""The Faust app of the worker, and the service that runs it to a clean end.

One event loop holds everything but the consumer's thread: owner, agent, producer, ticks. `Engine.run` returns
when a stop was asked for, or raises the first failure; either way the owner had its last checkpoint (unless it
failed), the group was left, and every client is closed, in bounded time.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import faust
import faust.streams
import msgspec
from aiokafka.record import default_records
from faust.app import BootStrategy
from yarl import URL

from monitor.core.errors import AbsenceError
from monitor.worker.appender import KafkaAppender
from monitor.worker.custody import Custody
from monitor.worker.delivery import Batch, Delivery, ReceiveTimes
from monitor.worker.offsets import GroupOffsets
from monitor.worker.ports import Owner
from monitor.worker.reader import KafkaReader
from monitor.worker.settings import EngineSettings
from monitor.worker.tables import SessionTable, SessionTables
from monitor.worker.transport import Transport

log = logging.getLogger(__name__)


class Ports(msgspec.Struct, frozen=True):
    """What an owner is made of: the real side of `monitor.worker.ports`."""

    appender: KafkaAppender
    reader: KafkaReader
    offsets: GroupOffsets
    fail: Callable[[BaseException], None]
    """For errors outside of the calls of the engine: stops the worker, as an error within them does."""


OwnerFactory = Callable[[Ports], Awaitable[Owner]]


def require_compiled() -> None:
    """Raise AbsenceError unless the compiled parts of aiokafka and Faust are in use.

    Without them a worker is several times slower, and Faust's Python twin acknowledges stale messages.
    """
    absent = []
    if default_records.DefaultRecordBatch is default_records._DefaultRecordBatchPy:  # noqa: SLF001
        absent.append(
            "aiokafka's record parser (unset AIOKAFKA_NO_EXTENSIONS; install aiokafka from its wheel)"
        )
    if getattr(faust.streams, "_CStreamIterator", None) is None:
        absent.append("Faust's stream iterator (unset NO_CYTHON; install faust-streaming from its wheel)")
    if absent:
        raise AbsenceError(f"the worker needs compiled extensions that are not in use: {'; '.join(absent)}")


class WholeBatch(faust.Schema[Any, Any]):
    """Takes a message's value as it is: the records are decoded by the owner."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:
        """A batch has no key."""

    def loads_value(self, app: Any, message: Any, **_: Any) -> Batch:
        """The batch itself."""
        batch: Batch = message.value
        return batch


class Boot(BootStrategy):
    """No web server (its table views would show sessions) and no producer of Faust's: the appender is ours."""

    enable_web = False
    enable_kafka_producer = False


class MonitorApp(faust.App):
    """A Faust app that holds what its transport and its recovery need."""

    BootStrategy = Boot
    engine: EngineSettings
    custody: Custody
    times: ReceiveTimes

    def _create_directories(self) -> None:
        """No data directory: state lives in Kafka and in memory."""

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        """Faust would only start the agent again, one batch further on."""
        self.custody.fail(exc)

    def _on_rebalance_when_stopped(self) -> None:
        """A rebalance while we stop changes nothing; Faust would close the client from the wrong thread."""

    async def crash(self, reason: BaseException) -> None:
        """A crash of any Faust service is the worker's failure."""
        self.custody.fail(reason)
        await super().crash(reason)


def build(settings: EngineSettings, custody: Custody) -> MonitorApp:
    """The app: one topic, one agent, the session table. Call inside the event loop."""
    app = MonitorApp(
        settings.app_id,
        broker=[URL("kafka://monitor.invalid")],  # the transport takes its connection from the settings
        autodiscover=False,
        web_enabled=False,
        web_tables_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        cython_optimizations=True,
        worker_redirect_stdouts=False,
        stream_wait_empty=False,
        broker_commit_interval=3600.0,
        broker_commit_every=None,
        broker_request_timeout=settings.request_timeout_ms / 1000,
        broker_session_timeout=settings.session_timeout_ms / 1000,
        TableManager=SessionTables,
        Table=SessionTable,
    )
    app.engine = settings
    app.custody = custody
    app.times = ReceiveTimes(lambda: time.time_ns() // 1_000_000)
    app.finalize()
    app.Table(settings.table, key_type=bytes, value_type=bytes)
    topic = app.topic(settings.topic, schema=WholeBatch(), acks=False, allow_empty=True)

    @app.agent(topic, name="events", concurrency=1)
    async def events(batches: Any) -> None:
        async for batch in batches:
            await custody.hand_over(batch)

    return app


class Engine:
    """A worker's stream engine: `run` it, `stop` it from a signal or another task."""

    def __init__(self, settings: EngineSettings, owner_factory: OwnerFactory) -> None:
        """Nothing is connected yet. The factory is awaited once the appender and the reader can be used."""
        self.settings = settings
        self._factory = owner_factory
        self._stop = asyncio.Event()
        self.app: MonitorApp | None = None
        self.owner: Owner | None = None
        self.offsets: GroupOffsets | None = None

    def stop(self) -> None:
        """Ask for a clean end: last checkpoint, leave the group, close. Idempotent, returns at once."""
        self._stop.set()

    async def run(self, *, signals: bool = True) -> None:
        """Work until `stop`, SIGTERM or SIGINT. Raises the first failure: the process should exit non-zero then."""
        require_compiled()
        async with contextlib.AsyncExitStack() as stack:
            if signals:
                stack.enter_context(self._signals())
            appender = KafkaAppender(
                self.settings.connection, request_timeout_ms=self.settings.request_timeout_ms
            )
            reader = KafkaReader(self.settings.connection)
            await appender.start()
            stack.push_async_callback(appender.stop)
            stack.push_async_callback(reader.stop)
            custody = Custody(_Unborn(), Delivery())
            app = self.app = build(self.settings, custody)
            consumer: Any = app.consumer
            self.offsets = GroupOffsets(consumer)
            self.owner = custody.owner = await self._factory(
                Ports(appender, reader, self.offsets, custody.fail)
            )
            failed = getattr(self.owner, "failed", None)
            if isinstance(failed, asyncio.Future):
                failed.add_done_callback(partial(_pass_on, custody))
            await self._work(app, custody)
        if custody.failed:
            custody.failure.result()

    async def _work(self, app: MonitorApp, custody: Custody) -> None:
        starting: asyncio.Future[Any] = asyncio.create_task(app.start(), name="faust")
        stopping: asyncio.Future[Any] = asyncio.create_task(self._stop.wait(), name="stop")
        failure: asyncio.Future[Any] = custody.failure
        try:
            await asyncio.wait({starting, stopping, failure}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and not starting.cancelled() and (error := starting.exception()):
                custody.fail(error)
            await asyncio.wait({stopping, failure}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            log.info("engine_stopping", extra={"failed": custody.failed})
            # The order is the promise: the checkpoint needs the group, the group needs the consumer.
            await _bounded("last_checkpoint", custody.close(), self.settings.stop_timeout)
            if not starting.done():
                starting.cancel()
            await _bounded("faust", app.stop(), self.settings.stop_timeout)
            await asyncio.gather(starting, return_exceptions=True)
            log.info("engine_stopped")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


async def _bounded(what: str, call: Any, seconds: float) -> None:
    try:
        await asyncio.wait_for(call, seconds)
    except TimeoutError:
        log.error("stop_timed_out", extra={"part": what, "seconds": seconds})  # noqa: TRY400  (a fact, no trace)


def _pass_on(custody: Custody, failed: "asyncio.Future[Any]") -> None:
    if not failed.cancelled() and (error := failed.exception()) is not None:
        custody.fail(error)


class _Unborn:
    """Stands for the owner until the factory has made it; it is never called."""

    async def _never(self, *_: object) -> Any:
        raise AssertionError

    assigned = revoked = lost = records = stop = _never
