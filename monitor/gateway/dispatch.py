"""`Dispatch`: evidence on its way to the log. Who decides puts it down here, and neither waits nor learns what became of it.

A thread of its own takes it up every few milliseconds, leaves out what says nothing new, and hands the rest to a `Publisher`, which
coalesces, buffers and delivers. The broker may be away, at the start too: then evidence is held, up to a bound; what comes beyond
that is lost, and counted.

`source.alive` is said once a second, and promises nothing about what is still here: not even about a decision that is being made.
"""

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from monitor.broker.connection import Connection
from monitor.core.errors import InputError, MonitorError
from monitor.core.instants import SECOND, EventMillis, Millis
from monitor.gateway.evidence import Evidence, to_draft
from monitor.gateway.figures import Figures
from monitor.publish.announcer import Announcer
from monitor.publish.draft import SOURCE_ALIVE, Draft
from monitor.publish.errors import DeliveryError, DeliveryFailure, PublisherClosed
from monitor.publish.publisher import Publisher
from monitor.wire.topics import Topics

log = logging.getLogger(__name__)

HELD: Final = 20_000
"""Pieces of evidence that wait here; as many again wait in the publisher."""
MARGIN: Final[Millis] = 500
"""A decision that began so long ago has put down its evidence; `source.alive` stays behind by as much. Below the monitor's `lateness`."""
STOP_SECONDS: Final = 5.0

_CONNECT_SECONDS: Final = 3.0
"""Less than the stop waits for."""
_GATHERING: Final = 0.02
"""Seconds from the first piece to the taking up: what repeats itself meanwhile costs next to nothing."""
_AT_ONCE: Final = 200
_PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_TOLD_EVERY: Final[Millis] = 10 * SECOND


class Publishes(Protocol):
    """`Publisher`."""

    @property
    def published(self) -> int:
        """Events that the broker has."""

    @property
    def coalesced(self) -> int:
        """Events that needed no record of their own."""

    @property
    def buffered(self) -> int:
        """Events taken, and not settled."""

    def take(self, event: Draft) -> Callable[[], None] | None:
        """Take it; else what waits for room."""

    def alive(self, *, final: bool = False, timeout: float | None, until: EventMillis | None = None) -> None:
        """Promise that all is on the log."""

    def close(self, timeout: float) -> None:
        """End."""


Connect = Callable[[Callable[[DeliveryFailure], object]], Publishes]
"""Makes the publisher, given who is to be told of events that it lost. Raises AbsenceError where there is no broker."""


class Dispatch:
    """Use it with `start` and `stop`. `put` may be called from any thread."""

    def __init__(self, connect: Connect, wall: Callable[[], EventMillis], *, held: int = HELD, pauses: Iterable[float] = _PAUSES) -> None:
        """Nothing is connected before `start`. `pauses`: seconds between attempts to connect, the last for all others."""
        self._connect, self._wall, self._held, self._pauses = connect, wall, held, tuple(pauses)
        self._queue: deque[Evidence] = deque()
        self._in_hand: EventMillis | None = None
        """The oldest of what has been taken up and not handed on."""
        self._arrived, self._stopping = threading.Event(), threading.Event()
        self._publisher: Publishes | None = None
        self._thread: threading.Thread | None = None
        self._losing = threading.Lock()
        self._lost, self._lost_at_last_alive, self._told_at = 0, 0, -_TOLD_EVERY
        self._folded = 0

    @property
    def figures(self) -> Figures:
        """What has become of the evidence so far."""
        publisher, waiting = self._publisher, len(self._queue)
        if publisher is None:
            return Figures(lost=self._lost, buffered=waiting)
        return Figures(publisher.published, publisher.coalesced + self._folded, self._lost, publisher.buffered + waiting)

    def start(self) -> None:
        """Connect, in the background, and deliver. Idempotent."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="gateway-dispatch", daemon=True)
            self._thread.start()

    def put(self, evidence: Evidence) -> None:
        """Put it down. Never raises or waits: where there is no room, it is lost."""
        if len(self._queue) >= self._held:
            self._lose(1, "too many events wait for the broker")
            return
        self._queue.append(evidence)
        if not self._arrived.is_set():
            self._arrived.set()

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Deliver what is here, withdraw the source, and end, within about twice `timeout` seconds. Idempotent."""
        self._stopping.set()
        self._arrived.set()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        thread.join(timeout)
        publisher = self._publisher
        if publisher is not None:
            try:
                if not thread.is_alive() and not self._queue:
                    publisher.alive(final=True, timeout=timeout)
                publisher.close(timeout)
            except MonitorError as error:
                log.warning("activity_not_delivered", extra={"error": str(error)})
        # One that waited for room knows by now that there is none.
        thread.join(timeout)
        self._lose(len(self._queue), "the gateway stopped before they could be delivered")
        self._queue.clear()

    def _run(self) -> None:
        publisher = self._connected()
        if publisher is None:
            return
        announcer = Announcer(self._alive)
        try:
            while not self._stopping.is_set() or self._queue:
                self._arrived.wait()
                self._stopping.wait(_GATHERING)
                self._arrived.clear()
                self._hand_on(publisher)
        except PublisherClosed:
            pass
        finally:
            announcer.stop()

    def _connected(self) -> Publishes | None:
        for failures in itertools.count():
            if self._stopping.is_set():
                return None
            try:
                self._publisher = self._connect(self._failed)
            except MonitorError as error:
                why = str(error)
            except Exception as error:
                # Whatever it is: the gateway goes on deciding, and we try again.
                log.exception("activity_failed")
                why = f"{type(error).__name__}: {error}"
            else:
                log.info("activity_connected", extra={"held": len(self._queue)})
                return self._publisher
            pause = self._pauses[min(failures, len(self._pauses) - 1)]
            log.warning("activity_waits", extra={"error": why, "again_in_s": pause, "held": len(self._queue)})
            self._stopping.wait(pause)
        return None

    def _hand_on(self, publisher: Publishes) -> None:
        while self._queue:
            # First this, then the taking: see `_alive`.
            self._in_hand = self._queue[0].time
            batch = [self._queue.popleft() for _ in range(min(_AT_ONCE, len(self._queue)))]
            self._in_hand = min(one.time for one in batch)
            kept = fold(batch)
            self._folded += len(batch) - len(kept)
            for number, evidence in enumerate(kept):
                self._publish(publisher, evidence, len(kept) - number)
            self._in_hand = None
            # Those who decide go first.
            time.sleep(0)

    def _publish(self, publisher: Publishes, evidence: Evidence, left: int) -> None:
        try:
            if (wait := publisher.take(to_draft(evidence))) is not None:
                wait()
        except InputError as error:
            self._lose(1, str(error))
        except PublisherClosed:
            self._lose(left, "the gateway stopped before they could be delivered")
            raise

    def _alive(self, *, timeout: float | None) -> None:
        publisher = self._publisher
        assert publisher is not None  # noqa: S101 - it is there before the announcer
        lost, self._lost_at_last_alive = self._lost - self._lost_at_last_alive, self._lost
        if lost:
            raise DeliveryError(f"source.alive not sent: {lost} event(s) before it were lost")
        # In this order: what leaves the queue is in hand before it does.
        until = self._wall()
        with contextlib.suppress(IndexError):
            until = min(until, self._queue[0].time)
        in_hand = self._in_hand
        until = (until if in_hand is None else min(until, in_hand)) - MARGIN
        publisher.alive(timeout=timeout, until=until)

    def _failed(self, failure: DeliveryFailure) -> None:
        if failure.type != SOURCE_ALIVE:
            self._lose(1, failure.error)

    def _lose(self, count: int, why: str) -> None:
        now = time.monotonic_ns() // 1_000_000
        with self._losing:
            self._lost += count
            tells = count and now - self._told_at >= _TOLD_EVERY
            if tells:
                self._told_at = now
        if tells:
            log.warning("activity_lost", extra={"error": why, "lost": self._lost})


def fold(batch: Iterable[Evidence]) -> list[Evidence]:
    """The first and the last of each that say the same, in the order of their times."""
    kept: dict[tuple[object, ...], list[Evidence]] = {}
    for one in batch:
        known = kept.setdefault((one.type, one.facts, one.seen), [])
        if len(known) < 2:
            known.append(one)
        else:
            known[1] = one
    return sorted((one for some in kept.values() for one in some), key=lambda one: one.time)


def to_kafka(connection: Connection, topics: Topics, source: str, granularity: Millis = SECOND) -> Connect:
    """Connects a publisher to `access-events`. `source`: the name of this running instance."""

    def connect(on_error: Callable[[DeliveryFailure], object]) -> Publisher:
        return Publisher(
            connection, source=source, topic_prefix=topics.prefix, granularity=granularity, buffer_limit=HELD, block_timeout=None,
            on_error=on_error, connect_timeout=_CONNECT_SECONDS,
        )  # fmt: skip

    return connect
