"""`Dispatch`: evidence on its way to the log. Who decides puts it down here, and neither waits nor learns what became of it.

A thread of its own takes it up every few milliseconds and hands it to a `Publisher`, which coalesces, buffers and delivers. The
broker may be away, at the start too: then evidence waits in a `Backlog`, which is bounded; what finds no room is lost, and counted.

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
from monitor.core.instants import MINUTE, SECOND, EventMillis, Millis
from monitor.gateway.backlog import Backlog
from monitor.gateway.evidence import Evidence, to_draft
from monitor.gateway.figures import Figures
from monitor.publish.announcer import Announcer
from monitor.publish.draft import SOURCE_ALIVE, Draft
from monitor.publish.errors import BufferFull, DeliveryError, DeliveryFailure, PublisherClosed
from monitor.publish.publisher import Publisher
from monitor.wire.topics import Topics

log = logging.getLogger(__name__)

HELD: Final = 50_000
"""Pieces of evidence that wait here at the most: some 30 MB."""
QUEUED: Final = 20_000
"""Those that may be put down before they are taken up, which takes some milliseconds."""
IN_DELIVERY: Final = 10_000
"""Events that are with the publisher: as many as it needs to be busy. What waits here is thinned, what waits there is not."""
DELIVERY: Final[Millis] = 15 * MINUTE
"""After that the publisher gives an event up."""
MARGIN: Final[Millis] = 500
"""A decision that began so long ago has put down its evidence; `source.alive` stays behind by as much. Below the monitor's `lateness`."""
LINGER: Final[Millis] = 100
"""What comes within it goes to the log together: a request to the broker costs more than all else. Far below the monitor's `lateness`."""
STOP_SECONDS: Final = 5.0

_CONNECT_SECONDS: Final = 3.0
"""Less than the stop waits for."""
_GATHERING: Final = 0.05
"""Seconds from the first piece to the taking up: what repeats itself meanwhile costs next to nothing."""
_ROOM: Final = 0.05
"""Seconds until a publisher that was full is asked again."""
_AT_ONCE: Final = 100
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

    def take(self, event: Draft) -> object:
        """Take it. Raises BufferFull."""

    def alive(self, *, final: bool = False, timeout: float | None, until: EventMillis | None = None) -> None:
        """Promise that all is on the log."""

    def close(self, timeout: float) -> None:
        """End."""


Connect = Callable[[Callable[[DeliveryFailure], object]], Publishes]
"""Makes the publisher, given who is to be told of events that it lost. Raises AbsenceError where there is no broker."""


class Dispatch:
    """Use it with `start` and `stop`. `put` may be called from any thread."""

    def __init__(
        self, connect: Connect, wall: Callable[[], EventMillis], *, held: int = HELD, queued: int = QUEUED, pauses: Iterable[float] = _PAUSES
    ) -> None:
        """Nothing is connected before `start`. `pauses`: seconds between attempts to connect, the last for all others."""
        self._connect, self._wall, self._queued, self._pauses = connect, wall, queued, tuple(pauses)
        self._queue: deque[Evidence] = deque()
        self._backlog = Backlog(held)
        self._line: deque[Evidence] = deque()
        """What is next, in order."""
        self._in_hand: EventMillis | None = None
        """No evidence that has been taken up and not handed on is older."""
        self._arrived, self._stopping = threading.Event(), threading.Event()
        self._publisher: Publishes | None = None
        self._thread: threading.Thread | None = None
        self._losing = threading.Lock()
        self._lost, self._lost_at_last_alive, self._told_at = 0, 0, -_TOLD_EVERY

    @property
    def figures(self) -> Figures:
        """What has become of the evidence so far."""
        publisher, folded = self._publisher, self._backlog.folded
        if publisher is None:
            return Figures(coalesced=folded, lost=self._lost, buffered=self._waiting)
        return Figures(publisher.published, publisher.coalesced + folded, self._lost, publisher.buffered + self._waiting)

    @property
    def _waiting(self) -> int:
        return len(self._queue) + len(self._backlog) + len(self._line)

    def start(self) -> None:
        """Connect, in the background, and deliver. Idempotent."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="gateway-dispatch", daemon=True)
            self._thread.start()

    def put(self, evidence: Evidence) -> None:
        """Put it down. Never raises or waits: where there is no room, it is lost."""
        if len(self._queue) >= self._queued:
            self._lose(1, "more events come than can be taken up")
            return
        self._queue.append(evidence)
        if not self._arrived.is_set():
            self._arrived.set()

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Deliver what is here, withdraw the source, and end, within some three times `timeout` seconds. Idempotent."""
        self._stopping.set()
        self._arrived.set()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        thread.join(timeout)
        publisher = self._publisher
        if publisher is not None:
            try:
                if not thread.is_alive() and not self._waiting:
                    publisher.alive(final=True, timeout=timeout)
                publisher.close(timeout)
            except MonitorError as error:
                log.warning("activity_not_delivered", extra={"error": str(error)})
        # One that waited for room knows by now that there is none.
        thread.join(timeout)
        self._lose(self._waiting, "the gateway stopped before they could be delivered")
        self._queue.clear()
        self._line.clear()
        self._backlog.take()

    def _run(self) -> None:
        publisher = self._connected()
        if publisher is None:
            return
        announcer = Announcer(self._alive)
        try:
            while not self._stopping.is_set() or self._waiting:
                if not self._waiting:
                    self._arrived.wait()
                self._stopping.wait(_GATHERING)
                self._take_up()
                while not self._hand_on(publisher):
                    time.sleep(_ROOM)
                    self._take_up()
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
                log.info("activity_connected", extra={"held": self.figures.buffered})
                return self._publisher
            pause = self._pauses[min(failures, len(self._pauses) - 1)]
            log.warning("activity_waits", extra={"error": why, "again_in_s": pause, "held": self.figures.buffered})
            self._pause(pause)
        return None

    def _pause(self, seconds: float) -> None:
        """Take up what comes meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping.wait(min(left, _ROOM)):
            self._take_up()

    def _take_up(self) -> None:
        """Everything that was put down, into the backlog."""
        self._arrived.clear()
        while self._queue:
            # First this, then the taking: see `_alive`.
            first = self._queue[0].time
            self._in_hand = first if self._in_hand is None else min(self._in_hand, first)
            if not self._backlog.add(self._queue.popleft()):
                self._lose(1, "too many events wait for the broker")

    def _hand_on(self, publisher: Publishes) -> bool:
        """All that waits; False: the publisher has no room for it."""
        while self._line or self._backlog:
            if not self._line:
                self._line.extend(self._backlog.take())
            for _ in range(min(_AT_ONCE, len(self._line))):
                try:
                    publisher.take(to_draft(self._line[0]))
                except BufferFull:
                    self._in_hand = self._line[0].time
                    return False
                except InputError as error:
                    self._lose(1, str(error))
                self._line.popleft()
            # Those who decide go first.
            time.sleep(0)
            self._take_up()
        self._in_hand = None
        return True

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


def to_kafka(connection: Connection, topics: Topics, source: str, granularity: Millis = SECOND) -> Connect:
    """Connects a publisher to `access-events`. `source`: the name of this running instance."""

    def connect(on_error: Callable[[DeliveryFailure], object]) -> Publisher:
        return Publisher(
            connection, source=source, topic_prefix=topics.prefix, granularity=granularity, buffer_limit=IN_DELIVERY, on_full="raise",
            on_error=on_error, connect_timeout=_CONNECT_SECONDS, delivery_timeout=DELIVERY, linger=LINGER,
        )  # fmt: skip

    return connect
