"""`Delivery`: records to the log, each with an answer of its own. By kafka-python, as `monitor.publish` sets it up.

A `Publisher` takes events and tells later of those that were lost; here somebody waits for each. The client's calls are made in one thread of
its own, in the order in which they were asked for, so that the loop waits neither for metadata nor for a broker that is away.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Protocol

import msgspec
from kafka.errors import KafkaError

from monitor.broker.connection import Connection
from monitor.broker.reach import require_broker
from monitor.core.errors import AbsenceError, MonitorError
from monitor.core.instants import SECOND, Millis
from monitor.publish.producer import KafkaPythonProducer
from monitor.wire.codec import Record

log = logging.getLogger(__name__)

BUFFER: Final = 10_000
"""Events handed over and not yet answered."""
WAIT: Final[Millis] = 10 * SECOND
"""What the broker has to acknowledge an event."""
_CONNECT: Final = 5.0
_LINGER: Final[Millis] = 5
_GRACE: Final = 10.0
"""Seconds that the client may be late with its own word."""
_CLOSE: Final = 5.0
_PAUSE: Final = 1.0
"""Seconds from one attempt to connect that failed to the next: those who come meanwhile are told at once."""


class Post(msgspec.Struct, frozen=True):
    """A record to be written: to its key's partition, or to every one (`source.alive`)."""

    record: Record
    everywhere: bool = False


class Delivered(msgspec.Struct, frozen=True):
    """What has become of posts: all are acknowledged but for the `lost`, by their index, of which nobody knows."""

    lost: tuple[int, ...] = ()
    why: str = ""


class Delivers(Protocol):
    """`Delivery`."""

    async def deliver(self, posts: Sequence[Post]) -> Delivered:
        """Write them; returns when all are acknowledged or lost. Raises nothing."""


class Delivery:
    """Use it on one event loop, until `stop`. Connects with the first record, and anew where that has failed."""

    def __init__(self, connection: Connection, topic: str, *, buffer: int = BUFFER, wait: Millis = WAIT) -> None:
        """`topic` is that of access events. Nothing is connected yet."""
        self._connection, self._topic, self._buffer, self._wait = connection, topic, buffer, wait
        self._handing = ThreadPoolExecutor(1, thread_name_prefix="gateway-events")
        self._producer: KafkaPythonProducer | None = None
        self._doubted = False
        """Something was lost: whether the broker is there is asked before more is handed over."""
        self._open = 0
        self._not_before = 0.0
        self._fault = ""

    async def deliver(self, posts: Sequence[Post]) -> Delivered:
        """As in `Delivers`. A `source.alive` goes out once all that came before it is acknowledged; if that is not, it is lost too."""
        if self._open + len(posts) > self._buffer:
            return Delivered(tuple(range(len(posts))), f"{self._open} events wait for the broker already, {self._buffer} are allowed")
        self._open += len(posts)
        try:
            lost: dict[int, str] = {}
            for everywhere in (False, True):
                some = [(n, post.record) for n, post in enumerate(posts) if post.everywhere is everywhere]
                if everywhere and lost:
                    lost |= {n: "something before it was lost" for n, _ in some}
                elif some:
                    lost |= await self._send(some, everywhere=everywhere)
            self._doubted |= bool(lost)
            return Delivered(tuple(sorted(lost)), next(iter(lost.values()), ""))
        finally:
            self._open -= len(posts)

    async def stop(self) -> None:
        """End, within some seconds; what is not acknowledged by then is lost. Idempotent."""
        with contextlib.suppress(RuntimeError):
            await asyncio.get_running_loop().run_in_executor(self._handing, self._close)
        self._handing.shutdown(wait=False)

    async def _send(self, records: list[tuple[int, Record]], *, everywhere: bool) -> dict[int, str]:
        """The lost ones, and why."""
        loop = asyncio.get_running_loop()
        settled = asyncio.Event()

        def settle() -> None:
            # The loop may have ended by the time that the last word comes.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settled.set)

        account = _Account(settle)
        try:
            async with asyncio.timeout(self._wait / SECOND + _GRACE):
                await loop.run_in_executor(self._handing, self._hand_over, records, everywhere, account)
                await settled.wait()
        except (MonitorError, KafkaError, OSError, RuntimeError) as error:
            why = str(error) or type(error).__name__
            if isinstance(error, TimeoutError):
                why = "the broker has not acknowledged them in time"
            return account.lost({n for n, _ in records}, why)
        return account.lost({n for n, _ in records}, "")

    # -- in the thread ------------------------------------------------------------------------------------

    def _hand_over(self, records: list[tuple[int, Record]], everywhere: bool, account: "_Account") -> None:
        producer = self._connected()
        partitions: Sequence[int | None] = producer.partitions() if everywhere else [None]
        for number, record in records:
            for partition in partitions:
                settled = account.opened(number)
                try:
                    outcome = producer.send(record, partition)
                except (KafkaError, ValueError) as error:
                    settled(error)
                else:
                    outcome.add_callback(partial(_acknowledged, settled))
                    outcome.add_errback(settled)
        account.complete()

    def _connected(self) -> KafkaPythonProducer:
        """A producer whose broker is there. Raises AbsenceError."""
        if self._producer is not None and not self._doubted:
            return self._producer
        if time.monotonic() < self._not_before:
            raise AbsenceError(self._fault)
        try:
            # Asked at once: the client would only say so after its time is out.
            require_broker(self._connection)
            # An idempotent producer that has lost something may be beyond repair.
            self._close()
            self._producer = KafkaPythonProducer(self._connection.kafka_python(), self._topic, _CONNECT, self._wait, _LINGER)
        except MonitorError as error:
            self._not_before, self._fault = time.monotonic() + _PAUSE, str(error)
            raise
        self._doubted = False
        return self._producer

    def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(_CLOSE)
            except (KafkaError, OSError, AbsenceError):
                log.warning("gateway_events_not_closed", exc_info=True)


def _acknowledged(settled: Callable[[BaseException | None], None], _: object) -> None:
    settled(None)


class _Account:
    """Who of one hand-over is still open, and who is lost. Settled by the client's thread."""

    def __init__(self, settled: Callable[[], None]) -> None:
        self._settled = settled
        self._lock = threading.Lock()
        self._open: dict[int, int] = {-1: 1}
        """Records not settled yet, by number; -1: the hand-over itself."""
        self._lost: dict[int, str] = {}

    def opened(self, number: int) -> Callable[[BaseException | None], None]:
        """One more; to be called with its fault, or None."""
        with self._lock:
            self._open[number] = self._open.get(number, 0) + 1
        return partial(self._settle, number)

    def complete(self) -> None:
        """Nothing more will be opened."""
        self._settle(-1, None)

    def lost(self, numbers: set[int], otherwise: str) -> dict[int, str]:
        """Which of these are lost, and why; `otherwise` of those that are open, or were never handed over."""
        with self._lock:
            # Until all is handed over, one that is settled may be opened again for its next partition.
            acknowledged = set() if -1 in self._open else numbers - self._open.keys() - self._lost.keys()
            return dict.fromkeys(numbers - acknowledged, otherwise) | self._lost

    def _settle(self, number: int, error: BaseException | None) -> None:
        with self._lock:
            left = self._open.pop(number) - 1
            if left:
                self._open[number] = left
            if error is not None:
                self._lost[number] = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            done = not self._open
        if done:
            self._settled()
