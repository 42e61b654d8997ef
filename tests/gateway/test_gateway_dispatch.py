"""Evidence on its way: nobody waits, nothing is lost in silence, and no promise is made of what is still here."""

import threading
from contextlib import contextmanager

import pytest

from monitor.core.errors import AbsenceError
from monitor.core.events import EventType
from monitor.gateway import Facts
from monitor.gateway.dispatch import MARGIN, Dispatch
from monitor.gateway.enforcer import NOTHING_SEEN, Seen
from monitor.gateway.evidence import Evidence
from monitor.publish.draft import SOURCE_ALIVE
from monitor.publish.errors import BufferFull, DeliveryFailure, PublisherClosed
from tests.gateway.worlds import T, until


def used(name: str = "s-1", time: int = T, seen: Seen = NOTHING_SEEN) -> Evidence:
    return Evidence(EventType.ACTIVITY, Facts(name), seen, time)


class Publisher:
    """A publisher that has room or has not."""

    published = coalesced = buffered = refused = 0

    def __init__(self, on_error) -> None:
        self.on_error = on_error
        self.taken, self.alives = [], []
        self.room, self.closed = threading.Event(), False
        self.room.set()

    def take(self, event):
        if self.closed:
            raise PublisherClosed("closed")
        if not self.room.is_set():
            self.refused += 1
            raise BufferFull("no room")
        self.taken.append((event.session_id, event.time - T))
        self.published += 1

    def alive(self, *, timeout, final=False, until=None) -> None:
        self.alives.append("final" if final else until)

    def close(self, timeout) -> None:
        self.closed = True


class World:
    """A dispatch, and what stands for Kafka."""

    def __init__(self, *, refusals: int = 0, error: Exception | None = None, **settings) -> None:
        self.publisher: Publisher | None = None
        self.attempts, self._refusals, self._error = 0, refusals, error or AbsenceError("nobody there")
        self.there = threading.Event()
        self.there.set()
        self.wall = T
        self.dispatch = Dispatch(self._connect, lambda: self.wall, **{"pauses": [0.01], **settings})

    def _connect(self, on_error) -> Publisher:
        self.attempts += 1
        if self.attempts <= self._refusals or not self.there.is_set():
            raise self._error
        self.publisher = Publisher(on_error)
        return self.publisher

    @contextmanager
    def started(self):
        self.dispatch.start()
        try:
            until(lambda: self.publisher is not None)
            yield self.publisher
        finally:
            self.dispatch.stop()


def test_what_is_put_down_arrives_in_the_order_of_its_time() -> None:
    world = World()
    with world.started() as publisher:
        for number in (3, 1, 2):
            world.dispatch.put(used(f"s-{number}", T + number))
        until(lambda: len(publisher.taken) == 3)
        assert publisher.taken == [("s-1", 1), ("s-2", 2), ("s-3", 3)]
        assert world.dispatch.figures.published == 3


@pytest.mark.parametrize("error", [AbsenceError("nobody there"), RuntimeError("whatever it is")])
def test_a_broker_that_is_away_at_the_start_is_waited_for_and_nothing_is_lost(error) -> None:
    world = World(refusals=3, error=error)
    world.dispatch.put(used())
    with world.started() as publisher:
        until(lambda: publisher.taken == [("s-1", 0)])
    assert world.attempts == 4
    assert world.dispatch.figures.lost == 0


def test_beyond_the_bound_it_is_lost_and_counted_and_nobody_waits() -> None:
    world = World(queued=3)
    for number in range(5):
        world.dispatch.put(used(f"s-{number}"))
    assert (world.dispatch.figures.buffered, world.dispatch.figures.lost) == (3, 2)
    with world.started() as publisher:
        until(lambda: len(publisher.taken) == 3)
        world.dispatch.put(used("s-9"))
        until(lambda: len(publisher.taken) == 4)
    assert world.dispatch.figures.lost == 2


@pytest.mark.parametrize("away", ["publisher", "broker"])
def test_what_waits_is_bounded_and_repetitions_need_no_room(away) -> None:
    world = World(held=10)
    if away == "broker":
        world.there.clear()
        world.dispatch.start()
        until(lambda: world.attempts)
    else:
        world.dispatch.start()
        until(lambda: world.publisher is not None)
        world.publisher.room.clear()
        world.dispatch.put(used("s-first"))
        until(lambda: world.publisher.refused)
    for number in range(12):
        world.dispatch.put(used(f"s-{number}"))
    until(lambda: world.dispatch.figures.lost == 2)
    for _ in range(100):
        world.dispatch.put(used("s-0", T + 1))
    until(lambda: world.dispatch.figures.coalesced == 99 or world.dispatch.figures.lost > 2)
    world.there.set()
    until(lambda: world.publisher is not None)
    world.publisher.room.set()
    until(lambda: world.dispatch.figures.buffered == 0)
    world.dispatch.stop()
    assert {name for name, _ in world.publisher.taken} - {"s-first"} == {f"s-{number}" for number in range(10)}


def test_alive_never_promises_what_is_still_here() -> None:
    world = World()
    with world.started() as publisher:
        until(lambda: publisher.alives)
        assert publisher.alives[0] == T - MARGIN
        publisher.room.clear()
        world.dispatch.put(used("s-0", T + 9000))
        until(lambda: publisher.refused)
        world.dispatch.put(used("s-1", T + 10_000))
        world.wall = T + 60_000
        count = len(publisher.alives) + 1
        until(lambda: len(publisher.alives) > count)
        assert publisher.alives[-1] == T + 9000 - MARGIN
        publisher.room.set()
        until(lambda: publisher.alives[-1] == T + 60_000 - MARGIN)
        assert publisher.taken == [("s-0", 9000), ("s-1", 10_000)]
    assert publisher.alives[-1] == "final"
    assert publisher.closed


def test_after_a_loss_one_alive_is_left_out() -> None:
    world = World()
    with world.started() as publisher:
        until(lambda: publisher.alives)
        publisher.on_error(DeliveryFailure(SOURCE_ALIVE, "", "x", "timed out"))
        assert world.dispatch.figures.lost == 0
        publisher.on_error(DeliveryFailure("session.activity", "s-1", "x", "timed out"))
        assert world.dispatch.figures.lost == 1
        world.wall = T + 1
        until(lambda: world.dispatch._lost_at_last_alive == 1)
        assert publisher.alives.count(T + 1 - MARGIN) == 0
        until(lambda: publisher.alives.count(T + 1 - MARGIN) == 1)


def test_what_no_event_can_hold_is_counted_and_the_rest_goes_on() -> None:
    world = World()
    with world.started() as publisher:
        world.dispatch.put(used("s" * 300))
        world.dispatch.put(used("s-1", T + 1))
        until(lambda: publisher.taken == [("s-1", 1)])
        assert world.dispatch.figures.lost == 1


def test_who_stops_delivers_first_and_threads_end() -> None:
    before = set(threading.enumerate())
    world = World()
    with world.started() as publisher:
        for number in range(1000):
            world.dispatch.put(used(f"s-{number}"))
    world.dispatch.stop()
    assert len(publisher.taken) == 1000
    assert publisher.alives[-1] == "final"
    assert set(threading.enumerate()) <= before


def test_what_can_not_be_delivered_by_the_end_is_counted() -> None:
    world = World()
    world.there.clear()
    world.dispatch.start()
    world.dispatch.put(used())
    until(lambda: world.attempts > 1)
    world.dispatch.stop()
    assert (world.dispatch.figures.lost, world.dispatch.figures.buffered) == (1, 0)
    world = World()
    with world.started() as publisher:
        publisher.room.clear()
        for name in ("s-1", "s-2"):
            world.dispatch.put(used(name))
        until(lambda: publisher.refused)
        world.dispatch.stop(0.5)
    assert (world.dispatch.figures.lost, world.dispatch.figures.buffered, publisher.taken) == (2, 0, [])
    assert "final" not in publisher.alives


def test_who_starts_twice_has_one_thread() -> None:
    world = World()
    with world.started():
        world.dispatch.start()
        assert world.attempts == 1
