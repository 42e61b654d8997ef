"""`Publisher`: access events out of a service, from any of its threads."""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Literal, Self, Unpack
from uuid import uuid4

from monitor.broker.connection import Connection
from monitor.core.errors import InputError
from monitor.core.events import EventType
from monitor.core.instants import EventMillis, Millis
from monitor.publish.announcer import Announcer
from monitor.publish.coalescer import Coalescer
from monitor.publish.draft import SOURCE_ALIVE, Draft, Fields, checked_session_id, draft
from monitor.publish.encode import check_size, check_value, encode
from monitor.publish.errors import DeliveryError, DeliveryFailure, PublisherClosed
from monitor.publish.outbox import Outbox
from monitor.publish.producer import KafkaPythonProducer, KafkaSettings, Producer
from monitor.wire.codec import Record
from monitor.wire.topics import Topics

log = logging.getLogger("monitor.publish")


EXIT_SECONDS: Final = 5.0
"""What the end of the interpreter waits for, where nobody closed the publisher."""


class Publisher:
    """Publishes access events: in order per session, each once, none lost in silence.

    Thread-safe. A call returns when the event is taken into the buffer; the broker's answer comes later. An
    event that is finally not delivered is counted in `failed`, given to `on_error` (in a thread of the publisher;
    without one it is logged), and raised by the next `flush` or by `close`. Ends by `close()`, by `with`, or with
    the interpreter. Don't take it over a fork: make one per process.
    """

    def __init__(
        self,
        connection: KafkaSettings | None = None,
        *,
        bootstrap_servers: str | Sequence[str] | None = None,
        source: str | None = None,
        topic_prefix: str = "",
        granularity: Millis = 1000,
        buffer_limit: int = 10_000,
        on_full: Literal["block", "raise"] = "block",
        block_timeout: float | None = 30.0,
        on_error: Callable[[DeliveryFailure], object] | None = None,
        announce: bool = False,
        cloudevents: bool = False,
        connect_timeout: float = 10.0,
        delivery_timeout: Millis = 120_000,
        linger: Millis = 5,
    ) -> None:
        """Connect. Raises AbsenceError where broker or topic isn't there, InputError for settings that can't be.

        `connection` or `bootstrap_servers`: where. `source`: the name of this running instance, no other's.
        `granularity`: activities of a session within so many milliseconds are coalesced (the first goes at once, the
        last at the window's end); keep it far below the shortest idle limit; 0: off. `buffer_limit`: events taken
        and not yet acknowledged; beyond it `on_full` makes calls wait up to `block_timeout` seconds (None: for ever)
        or raise, BufferFull in both cases. `announce`: tell every partition each second that this source is
        alive, so that events it holds up are waited for (DESIGN section 6). `cloudevents`: add CloudEvents headers.
        """
        _check(source, granularity, buffer_limit, on_full, announce, cloudevents, delivery_timeout, linger)
        settings = _settings(connection, bootstrap_servers)
        producer = KafkaPythonProducer(
            settings, Topics(topic_prefix).access_events.name, connect_timeout, delivery_timeout, linger
        )
        self._source = source
        self._cloudevents = cloudevents
        self._waits = on_full == "block"
        self._block_millis = None if block_timeout is None else int(block_timeout * 1000)
        self._on_error = on_error
        self._process = os.getpid()
        self._closing = threading.Lock()
        self._closed = False
        self._outbox = self._make_outbox(producer, granularity, buffer_limit)
        self._worker = threading.Thread(target=self._work, name="session-monitor-publish", daemon=True)
        self._worker.start()
        self._announcer = Announcer(self.alive) if announce else None
        atexit.register(self._at_exit)

    @property
    def published(self) -> int:
        """Events acknowledged by the broker."""
        return self._outbox.published

    @property
    def coalesced(self) -> int:
        """Activities that needed no record of their own."""
        return self._outbox.coalesced

    @property
    def failed(self) -> int:
        """Records that were taken and are lost."""
        return self._outbox.failed

    @property
    def buffered(self) -> int:
        """Events taken and not yet acknowledged or failed."""
        return self._outbox.buffered

    def opened(self, session_id: str, **fields: Unpack[Fields]) -> None:
        """A session began. Say all that is known: unknown attributes are met with the strictest rules."""
        self._publish(draft(EventType.OPENED, session_id, fields))

    def activity(self, session_id: str, **fields: Unpack[Fields]) -> None:
        """The session was used. Cheap to call for every request: repetitions are coalesced."""
        self._publish(draft(EventType.ACTIVITY, session_id, fields))

    def reauthenticated(self, session_id: str, **fields: Unpack[Fields]) -> None:
        """The principal proved again who it is, at `auth_time` (left out: now)."""
        self._publish(draft(EventType.REAUTHENTICATED, session_id, fields))

    def closed(self, session_id: str, **fields: Unpack[Fields]) -> None:
        """The session ended by itself (logout)."""
        self._publish(draft(EventType.CLOSED, session_id, fields))

    def record(self, session_id: str, value: bytes, *, tag: int | None = None) -> None:
        """Publish a record that is encoded already, byte for byte, keyed by its session. Only its size is checked."""
        checked = checked_session_id("record", session_id)
        check_value("record", value)
        self._publish(Draft(type="record", session_id=checked, id="", encoded=value, tag=tag))

    def alive(self, *, final: bool = False, timeout: float | None = 30.0, until: EventMillis | None = None) -> None:
        """Tell every partition that all events of this source up to now are on the log; `final` withdraws.

        What is held or buffered goes first. Where some of it is lost, or late by `timeout` seconds, nothing is sent
        and DeliveryError raised, for the promise would be false. Raises InputError without a `source`. Who still has
        events that it has not published promises no more than `until`.
        """
        if self._source is None:
            raise InputError(
                "alive: the publisher has no source, so nobody could be said to be alive; give Publisher(source=...)"
            )
        self._check_process()

        def make(settled: EventMillis) -> Draft:
            return Draft(type=SOURCE_ALIVE, session_id="", id=uuid4().hex, time=settled if until is None else min(settled, until), final=final)

        self._outbox.alive(make, _deadline(timeout))

    def flush(self, timeout: float | None = 30.0) -> None:
        """Return when every event taken so far is acknowledged; held activities are sent at once.

        Raises DeliveryError for events that were lost since the last flush, and where `timeout` seconds are not
        enough (then nothing is lost yet).
        """
        self._check_process()
        self._outbox.flush(_deadline(timeout))

    def close(self, timeout: float = 30.0) -> None:
        """Flush, say a final alive where it announced, and end. Idempotent; calls after it raise PublisherClosed.

        Ends in any case, within about `timeout` seconds. Raises DeliveryError where events were lost by then.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self._at_exit)
        if os.getpid() != self._process:
            return  # the threads and the connection belong to the parent
        deadline = _now() + int(timeout * 1000)
        errors: list[DeliveryError] = []
        if self._announcer is not None:
            self._announcer.stop()
            self._attempt(lambda: self.alive(final=True, timeout=_left(deadline)), errors)
        self._attempt(lambda: self._outbox.flush(deadline), errors)
        self._outbox.close(max(0.1, _left(deadline)))
        if threading.current_thread() is not self._worker:
            self._worker.join()
        # What was only late has failed by now; this flush has nothing to wait for and names it.
        self._attempt(lambda: self._outbox.flush(_now()), errors)
        if lost := [error for error in errors if error.failures]:
            raise lost[-1]

    def __enter__(self) -> Self:
        """The publisher."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close. An error of the body goes first: losses are then only counted and reported."""
        try:
            self.close()
        except DeliveryError:
            if error is None:
                raise

    def take(self, event: Draft) -> Callable[[], None] | None:
        """Take the event if there is room at once; else what waits for it, to be called in a thread that may block.

        For the shells of other worlds (asyncio). Who doesn't wait after all says so with `forget`.
        """
        self._check_process()
        if event.encoded is None:
            check_size(event, self._source)
        if self._outbox.offer(event):
            return None
        if not self._waits:
            raise self._outbox.full(event)
        deadline = None if self._block_millis is None else _now() + self._block_millis
        return partial(self._outbox.wait, event, deadline)

    def forget(self, event: Draft) -> None:
        """The event is no longer to be published; nothing happens where it has been taken."""
        self._outbox.forget(event)

    def _publish(self, event: Draft) -> None:
        if (wait := self.take(event)) is not None:
            wait()

    def _make_outbox(self, producer: Producer, granularity: Millis, limit: int) -> Outbox:
        def to_record(event: Draft, at: EventMillis) -> Record:
            return encode(event, at, self._source, self._cloudevents)

        return Outbox(producer, to_record, Coalescer(granularity), limit, _wall, _now)

    def _work(self) -> None:
        while self._outbox.work(self._report):
            pass

    def _report(self, failures: list[DeliveryFailure]) -> None:
        if self._on_error is None:
            log.error("delivery_failed", extra={"events": len(failures), "error": failures[0].error})
            return
        for failure in failures:
            try:
                self._on_error(failure)
            except Exception:  # the callback is the caller's code; it must not end our thread
                log.exception("on_error_failed")

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise PublisherClosed(
                "the publisher was made before a fork, and its threads stayed there; make one in each process"
            )

    def _at_exit(self) -> None:
        try:
            self.close(EXIT_SECONDS)
        except DeliveryError as error:
            log.error("delivery_failed", extra={"events": len(error.failures), "error": str(error)})  # noqa: TRY400

    @staticmethod
    def _attempt(act: Callable[[], None], errors: list[DeliveryError]) -> None:
        try:
            act()
        except DeliveryError as error:
            errors.append(error)


def _wall() -> EventMillis:
    return time.time_ns() // 1_000_000


def _now() -> Millis:
    return time.monotonic_ns() // 1_000_000


def _left(deadline: Millis) -> float:
    return max(0, deadline - _now()) / 1000


def _deadline(timeout: float | None) -> Millis | None:
    return None if timeout is None else _now() + int(timeout * 1000)


def _settings(connection: KafkaSettings | None, servers: str | Sequence[str] | None) -> dict[str, object]:
    if (connection is None) == (servers is None):
        raise InputError("publisher: give either a connection or bootstrap_servers='host:port'")
    if connection is None:
        connection = Connection(
            bootstrap_servers=servers if isinstance(servers, str) else ",".join(servers or ())
        )
    return dict(connection.kafka_python())


def _check(
    source: str | None,
    granularity: Millis,
    limit: int,
    on_full: str,
    announce: bool,
    cloudevents: bool,
    delivery: Millis,
    linger: Millis,
) -> None:
    if source is not None and not source:
        raise InputError("publisher: source is empty; name this instance, or leave it out")
    if announce and source is None:
        raise InputError(
            "publisher: announce needs a source; give Publisher(source=...), another name for each running instance"
        )
    if cloudevents and source is None:
        raise InputError("publisher: a CloudEvent needs a source; give Publisher(source=...)")
    if not 0 <= granularity <= 60_000:
        raise InputError(
            f"publisher: granularity is {granularity}; allowed are 0 (off) to 60000 milliseconds"
        )
    if limit < 1:
        raise InputError(f"publisher: buffer_limit is {limit}; at least 1 event must fit")
    if on_full not in ("block", "raise"):
        raise InputError(f"publisher: on_full is {on_full!r}; allowed are block, raise")
    if linger < 0 or delivery < linger + 1000:
        raise InputError(
            f"publisher: delivery_timeout is {delivery} ms; it must be at least linger ({linger} ms) + 1000 ms"
        )
