"""The bounded buffer and its account: order, room, flush, alive, and no failure in silence."""

import threading
from collections.abc import Callable
from contextlib import contextmanager

import pytest
from kafka.errors import KafkaTimeoutError
from kafka.future import Future

from monitor.core.errors import InputError
from monitor.publish import BufferFull, DeliveryError, DeliveryFailure, PublisherClosed
from monitor.publish.coalescer import Coalescer
from monitor.publish.draft import SOURCE_ALIVE, Draft, draft
from monitor.publish.encode import encode
from monitor.publish.outbox import Outbox
from monitor.wire.codec import Record
from monitor.wire.events import decode_access_event

WALL = 1_795_500_000_000


class Broker:
    """A producer whose acknowledgements the test gives."""

    def __init__(self) -> None:
        self.sent: list[tuple[Record, int | None, Future]] = []
        self.refuses: Exception | None = None
        self.gone = False

    def send(self, record: Record, partition: int | None) -> Future:
        if self.refuses is not None:
            raise self.refuses
        self.sent.append((record, partition, Future()))
        return self.sent[-1][2]

    def partitions(self) -> list[int]:
        return [0, 1, 2]

    def close(self, timeout: float) -> None:
        self.gone = True

    def acknowledge(self, *numbers: int) -> None:
        for number in numbers or range(len(self.sent)):
            if not self.sent[number][2].is_done:
                self.sent[number][2].success(None)

    def said(self) -> list[tuple[str, str, int | None]]:
        events = [(decode_access_event(record.value), partition) for record, partition, _ in self.sent]
        return [(event.type.split(".")[1], event.session_id, partition) for event, partition in events]


class World:
    def __init__(self, limit: int = 10, granularity: int = 1000) -> None:
        self.broker, self.now = Broker(), 0
        self.outbox = Outbox(
            self.broker,
            lambda event, time: encode(event, time, "gw", cloudevents=False),
            Coalescer(granularity),
            limit,
            lambda: WALL + self.now,
            lambda: self.now,
        )
        self.reported: list[DeliveryFailure] = []

    def offer(self, session: str = "s", type_: str = "session.opened", **fields: object) -> bool:
        return self.outbox.offer(draft(type_, session, fields))

    def turn(self) -> bool:
        """One turn of the background thread, that must have something to do."""
        return self.outbox.work(self.reported.extend)

    def alive(self) -> None:
        self.outbox.alive(lambda time: Draft(SOURCE_ALIVE, "", "i", time=time), self.now)


@contextmanager
def running(act: Callable[[], object]):
    """A thread that does it; joined at the end, its error raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield thread
    thread.join(10)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def until(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds."""
    pause = threading.Event()
    for _ in range(5000):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("it never came to hold")


def test_events_leave_in_order_and_are_counted_when_acknowledged():
    world = World()
    assert world.offer("a")
    assert world.offer("b", "session.closed")
    assert world.broker.said() == [("opened", "a", None), ("closed", "b", None)]
    assert (world.outbox.buffered, world.outbox.published) == (2, 0)
    world.broker.acknowledge()
    assert (world.outbox.buffered, world.outbox.published) == (0, 2)


def test_time_is_stamped_at_the_call_even_where_the_event_is_held():
    world = World()
    world.now = 5
    world.offer(type_="session.activity")
    world.now = 300
    world.offer(type_="session.activity")
    world.now = 1005
    world.turn()
    assert [decode_access_event(r.value).time[-8:] for r, _, _ in world.broker.sent] == [
        ":00.005Z",
        ":00.300Z",
    ]


def test_a_change_sends_the_held_activity_first():
    world = World()
    for type_ in ("session.activity", "session.activity", "session.closed"):
        world.offer(type_=type_)
    assert [what for what, _, _ in world.broker.said()] == ["activity", "activity", "closed"]


def test_coalesced_counts_the_events_that_took_no_record():
    world = World()
    for _ in range(5):
        world.offer(type_="session.activity")
    assert (world.outbox.coalesced, world.outbox.buffered) == (3, 2)


def test_held_events_take_room_but_their_replacements_do_not():
    world = World(limit=2)
    assert world.offer(type_="session.activity")
    assert world.offer(type_="session.activity")
    assert world.offer(type_="session.activity")
    assert not world.offer("t")


def test_a_full_buffer_says_so_and_keeps_nothing_of_the_event():
    world = World(limit=1)
    world.offer("a")
    event = draft("session.opened", "b", {})
    assert not world.outbox.offer(event)
    with pytest.raises(BufferFull, match="the buffer is full, 1 events wait"):
        raise world.outbox.full(event)
    world.broker.acknowledge()
    assert world.broker.said() == [("opened", "a", None)]
    assert not world.outbox._waiting


def test_a_caller_that_waits_is_served_when_there_is_room():
    world = World(limit=1)
    world.offer("a")
    event = draft("session.opened", "b", {})
    assert not world.outbox.offer(event)
    with running(lambda: world.outbox.wait(event, None)) as thread:
        thread.join(0.05)
        assert thread.is_alive()
        world.broker.acknowledge()
    assert world.broker.said()[1] == ("opened", "b", None)


def test_a_caller_that_waits_too_long_is_told():
    world = World(limit=1)
    world.offer("a")
    event = draft("session.opened", "b", {})
    world.outbox.offer(event)
    with pytest.raises(BufferFull, match="no room within the time given"):
        world.outbox.wait(event, world.now)
    assert not world.outbox._waiting


def test_a_cancelled_wait_publishes_nothing_and_passes_the_room_on():
    world = World(limit=1)
    world.offer("a")
    first, second = draft("session.opened", "b", {}), draft("session.opened", "c", {})
    assert not world.outbox.offer(first)
    assert not world.outbox.offer(second)
    with running(lambda: world.outbox.wait(first, None)), running(lambda: world.outbox.wait(second, None)):
        world.outbox.forget(first)
        world.broker.acknowledge()
    assert [session for _, session, _ in world.broker.said()] == ["a", "c"]


def test_flush_sends_what_is_held_and_waits_for_its_own_events_only():
    world = World()
    world.offer(type_="session.activity")
    world.offer(type_="session.activity")
    with running(lambda: world.outbox.flush(None)) as thread:
        until(lambda: len(world.broker.sent) == 2)
        world.offer("later")
        world.broker.acknowledge(0)
        thread.join(0.05)
        assert thread.is_alive()
        world.broker.acknowledge(1)
    assert world.outbox.buffered == 1


def test_a_late_flush_says_so_and_loses_nothing():
    world = World()
    world.offer()
    with pytest.raises(DeliveryError, match=r"1 event.s. are not acknowledged") as caught:
        world.outbox.flush(world.now)
    assert caught.value.failures == ()
    world.broker.acknowledge()
    world.outbox.flush(world.now)


def test_a_lost_event_is_counted_reported_and_raised_once():
    world = World()
    world.offer("a", id="e-1")
    world.broker.sent[0][2].failure(KafkaTimeoutError("expired"))
    assert (world.outbox.failed, world.outbox.buffered, world.outbox.published) == (1, 0, 0)
    world.turn()
    failure = DeliveryFailure("session.opened", "a", "e-1", world.reported[0].error)
    assert world.reported == [failure]
    assert "KafkaTimeoutError" in failure.error
    with pytest.raises(
        DeliveryError, match=r"1 event.s. were not delivered.*session.opened of 'a'"
    ) as caught:
        world.outbox.flush(world.now)
    assert caught.value.failures == (failure,)
    world.outbox.flush(world.now)


def test_an_event_the_client_refuses_is_lost_as_loudly():
    world = World()
    world.broker.refuses = KafkaTimeoutError("no metadata")
    world.offer("a")
    assert (world.outbox.failed, world.outbox.buffered) == (1, 0)
    with pytest.raises(DeliveryError):
        world.outbox.flush(world.now)


def test_a_report_may_publish():
    world = World()
    world.offer("a")
    world.broker.sent[0][2].failure(KafkaTimeoutError())
    world.outbox.work(lambda failures: [world.offer(failure.session_id) for failure in failures])
    assert len(world.broker.sent) == 2


def test_alive_goes_to_every_partition_after_what_is_held():
    world = World()
    world.offer(type_="session.activity")
    world.offer(type_="session.activity")
    with running(lambda: world.outbox.alive(lambda t: Draft(SOURCE_ALIVE, "", "i", time=t), None)):
        until(lambda: len(world.broker.sent) == 2)
        world.broker.acknowledge()
    assert world.broker.said()[2:] == [("alive", "", 0), ("alive", "", 1), ("alive", "", 2)]
    world.broker.acknowledge()
    assert world.outbox.published == 2  # announcements are no events


def test_alive_is_not_sent_while_an_event_before_it_is_late_or_lost():
    world = World()
    world.offer("a")
    with pytest.raises(DeliveryError, match="not acknowledged"):
        world.alive()

    def lose() -> None:
        until(lambda: world.outbox._generation == 2)
        world.broker.sent[0][2].failure(KafkaTimeoutError())

    with running(lose), pytest.raises(DeliveryError, match=r"source.alive not sent: 1 event"):
        world.outbox.alive(lambda t: Draft(SOURCE_ALIVE, "", "i", time=t), None)
    assert len(world.broker.sent) == 1


def test_alive_does_not_speak_for_a_caller_that_still_waits():
    world = World(limit=1)
    world.offer("a")
    world.now = 100
    world.outbox.offer(draft("session.opened", "b", {}))
    world.now = 500
    world.broker.acknowledge()
    world.alive()
    assert decode_access_event(world.broker.sent[1][0].value).time.endswith("00.099Z")


def test_close_fails_what_is_not_settled_and_refuses_what_comes_after():
    world = World()
    world.offer("a")
    world.offer("b", "session.activity")
    world.offer("b", "session.activity")
    world.outbox.close(1)
    assert world.broker.gone
    assert (world.outbox.failed, world.outbox.buffered) == (3, 0)
    assert world.turn() is False
    assert [failure.session_id for failure in world.reported] == ["a", "b", "b"]
    with pytest.raises(PublisherClosed):
        world.offer()


def test_close_wakes_those_who_wait():
    world = World(limit=1)
    world.offer("a")
    event = draft("session.opened", "b", {})
    world.outbox.offer(event)
    with pytest.raises(PublisherClosed), running(lambda: world.outbox.wait(event, None)):
        world.outbox.close(1)


def test_a_record_too_large_only_with_its_time_is_still_not_silent():
    world = World()
    world.outbox._encode = lambda event, time: (_ for _ in ()).throw(InputError("too large"))
    world.offer()
    assert world.outbox.failed == 1
