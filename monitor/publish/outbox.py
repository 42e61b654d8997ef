"""The bounded buffer between the callers and Kafka, with an account of every event until it is settled.

One lock guards all of it, and hand-over to the client happens under it: so a session's events enter the client
in the order of the calls, and `alive` knows that nothing older can still come. The client's own thread calls
back with the outcomes; it holds no lock of its own while it does. (kafka-python 3 has no bound of its own.)
"""

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

from kafka.errors import KafkaError

from monitor.core.errors import InputError
from monitor.core.events import EventType
from monitor.core.instants import EventMillis, Millis
from monitor.publish.coalescer import Coalescer, Fate
from monitor.publish.draft import SOURCE_ALIVE, Draft
from monitor.publish.errors import BufferFull, DeliveryError, DeliveryFailure, PublisherClosed
from monitor.publish.producer import Producer
from monitor.wire.codec import Record


class Outbox:
    """Takes events while there is room, coalesces, hands over in order, and tells of every failure."""

    def __init__(
        self,
        producer: Producer,
        encode: Callable[[Draft, EventMillis], Record],
        coalescer: Coalescer,
        limit: int,
        wall: Callable[[], EventMillis],
        monotonic: Callable[[], Millis],
    ) -> None:
        """`limit`: events taken and not yet acknowledged, the held ones included. Clocks in milliseconds."""
        self._producer = producer
        self._encode = encode
        self._coalescer = coalescer
        self._limit = limit
        self._wall = wall
        self._monotonic = monotonic
        # Reentrant: the client calls back at once where the outcome is already known.
        lock = threading.RLock()
        self._room = threading.Condition(lock)
        self._settled = threading.Condition(lock)
        self._work = threading.Condition(lock)
        self._waiting: dict[int, EventMillis] = {}
        self._unacknowledged: dict[int, tuple[int, Draft]] = {}
        self._generation = 0
        """A flush waits for the events of its own generation and older ones, so that later ones don't prolong it."""
        self._open: Counter[int] = Counter()
        self._taken = 0
        self._closed = False
        self._ended = False
        self._failures: list[DeliveryFailure] = []
        """Not yet reported to `on_error`."""
        self._unraised: list[DeliveryFailure] = []
        """Not yet raised by a flush. Bounded: the first few tell the cause, the counter how many."""
        self._unraised_count = 0
        self.published = 0
        self.coalesced = 0
        self.failed = 0

    @property
    def buffered(self) -> int:
        """Events taken and not yet settled."""
        return len(self._unacknowledged) + self._coalescer.held

    def offer(self, draft: Draft) -> bool:
        """Take the event if there is room; else stamp it, note that it waits, and answer False."""
        with self._room:
            self._refuse_if_closed()
            if draft.time is None:
                draft.time = self._wall()
            if draft.type == EventType.ACTIVITY and draft.encoded is None:
                fate = self._coalescer.fate(draft, draft.time, self._monotonic())
                needs_room = fate in (Fate.SEND, Fate.HOLD)
            else:
                needs_room = True
            if needs_room and self.buffered >= self._limit:
                self._waiting[id(draft)] = draft.time
                return False
            self._waiting.pop(id(draft), None)
            self._take(draft)
            return True

    def wait(self, draft: Draft, deadline: Millis | None) -> None:
        """Take an event that was refused, as soon as there is room. Raises BufferFull at the deadline."""
        with self._room:
            try:
                while id(draft) in self._waiting and not self.offer(draft):
                    left = None if deadline is None else (deadline - self._monotonic()) / 1000
                    if left is not None and left <= 0:
                        raise BufferFull(
                            f"{draft.type}: no room within the time given, {self._limit} events wait for the broker;"
                            " check the broker, or enlarge buffer_limit"
                        )
                    self._room.wait(left)
            finally:
                self.forget(draft)

    def forget(self, draft: Draft) -> None:
        """The event waits no more."""
        with self._room:
            if self._waiting.pop(id(draft), None) is not None:
                # The notification of free room may have come to the one that leaves: pass it on. All, for the
                # waiter of this very event (whose asynchronous caller was cancelled) has to leave as well.
                self._room.notify_all()

    def full(self, draft: Draft) -> BufferFull:
        """The error for a caller who does not wait."""
        self.forget(draft)
        return BufferFull(
            f"{draft.type}: the buffer is full, {self._limit} events wait for the broker; try again later, or use"
            ' on_full="block"'
        )

    def flush(self, deadline: Millis | None) -> None:
        """Send what is held and return when everything taken so far is settled. Raises DeliveryError."""
        with self._settled:
            self._await_settled(deadline)
            if self._unraised_count:
                count, first = self._unraised_count, tuple(self._unraised)
                self._unraised, self._unraised_count = [], 0
                raise DeliveryError(
                    f"{count} event(s) were not delivered and are lost; first: {first[0].type} of"
                    f" {first[0].session_id!r}: {first[0].error}",
                    first,
                )

    def alive(self, make: Callable[[EventMillis], Draft], deadline: Millis | None) -> None:
        """Send `make(t)` to every partition, t being the instant up to which everything is on the log.

        Raises DeliveryError, and sends nothing, where an event is late or was lost: the promise would be false.
        """
        with self._settled:
            self._refuse_if_closed()
            # A caller who waits for room has an event that is older than now: the promise stops before it.
            until = min([self._wall(), *(time - 1 for time in self._waiting.values())])
            failed_before = self.failed
            self._await_settled(deadline)
            if self.failed != failed_before:
                raise DeliveryError(
                    f"source.alive not sent: {self.failed - failed_before} event(s) before it were lost"
                )
            for partition in self._producer.partitions():
                self._hand_over(make(until), partition)

    def work(self, report: Callable[[list[DeliveryFailure]], None]) -> bool:
        """One turn of the background thread: waits for a window to close or a failure. False: the end."""
        with self._work:
            if not self._failures and not self._ended:
                at = self._coalescer.next_at()
                self._work.wait(None if at is None else max(0.0, (at - self._monotonic()) / 1000))
            self._hand_over_all(self._coalescer.due(self._monotonic()))
            failures, self._failures = self._failures, []
            going_on = not self._ended
        if failures:
            report(failures)  # outside of the lock: it is the caller's code, and may publish again
        return going_on

    def close(self, timeout: float) -> None:
        """Take no more, end the client; whatever it leaves unsettled is a failure. Idempotent."""
        with self._room:
            self._closed = True
            self._room.notify_all()
        # Not under the lock: the client's thread needs it to settle what it gives up.
        self._producer.close(timeout)
        with self._settled:
            for number, (_, draft) in list(self._unacknowledged.items()):
                self._lost(number, draft, "the publisher was closed before the broker acknowledged it")
            for draft in self._coalescer.everything():
                self._count_failure(draft, "the publisher was closed before it could be sent")
            self._ended = True
            self._work.notify_all()

    def _take(self, draft: Draft) -> None:
        held_before, next_before = self._coalescer.held, self._coalescer.next_at()
        to_send = self._coalescer.take(draft, self._monotonic())
        # Held before + this one = sent now + held now + those that took no record of their own.
        self.coalesced += held_before + 1 - len(to_send) - self._coalescer.held
        self._hand_over_all(to_send)
        if self._coalescer.next_at() != next_before:
            self._work.notify()

    def _hand_over_all(self, drafts: list[Draft]) -> None:
        for draft in drafts:
            self._hand_over(draft, None)

    def _hand_over(self, draft: Draft, partition: int | None) -> None:
        assert draft.time is not None  # noqa: S101 - stamped by offer
        number = self._taken
        self._taken += 1
        self._unacknowledged[number] = (self._generation, draft)
        self._open[self._generation] += 1
        try:
            outcome = self._producer.send(self._encode(draft, draft.time), partition)
        except (KafkaError, ValueError, InputError) as error:
            self._lost(number, draft, f"{type(error).__name__}: {error}")
            return
        outcome.add_callback(partial(self._acknowledged, number))
        outcome.add_errback(partial(self._refused, number, draft))

    def _acknowledged(self, number: int, _: object) -> None:
        with self._settled:
            draft = self._settle(number)
            if draft is not None and draft.type != SOURCE_ALIVE:
                self.published += 1

    def _refused(self, number: int, draft: Draft, error: BaseException) -> None:
        with self._settled:
            self._lost(number, draft, f"{type(error).__name__}: {error}")

    def _lost(self, number: int, draft: Draft, error: str) -> None:
        if self._settle(number) is not None:
            self._count_failure(draft, error)

    def _count_failure(self, draft: Draft, error: str) -> None:
        failure = DeliveryFailure(draft.type, draft.session_id, draft.id, error, draft.tag)
        self.failed += 1
        self._failures.append(failure)
        self._unraised_count += 1
        if len(self._unraised) < 100:
            self._unraised.append(failure)
        self._work.notify()

    def _settle(self, number: int) -> Draft | None:
        entry = self._unacknowledged.pop(number, None)
        if entry is None:
            return None
        generation, draft = entry
        self._open[generation] -= 1
        if not self._open[generation]:
            del self._open[generation]
            self._settled.notify_all()
        self._room.notify()
        return draft

    def _await_settled(self, deadline: Millis | None) -> None:
        self._hand_over_all(self._coalescer.everything())
        mark = self._generation
        self._generation += 1
        while any(generation <= mark for generation in self._open):
            left = None if deadline is None else (deadline - self._monotonic()) / 1000
            if left is not None and left <= 0:
                raise DeliveryError(
                    f"{len(self._unacknowledged)} event(s) are not acknowledged by the broker in the time given; they stay"
                    " buffered: check the broker, and flush again"
                )
            self._settled.wait(left)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise PublisherClosed("the publisher is closed, the event was not taken; publish before close()")
