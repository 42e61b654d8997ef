"""Requests that run keep their session in use, up to the cap."""

import threading

from monitor.gateway import Facts, MemoryView, Now
from monitor.gateway.inflight import InFlight
from tests.gateway.worlds import T, until

POLICY = "version: 1\ndefaults: {idle: 30m, absolute: 12h}\ntiming: {inflight_cap: 60s}\n"


class World:
    def __init__(self, **settings) -> None:
        self.told, self.now = [], Now(T, 1000)
        self.view = MemoryView(policy=POLICY)
        self.running = InFlight(self.view, self, lambda: self.now, **settings)

    def put(self, evidence) -> None:
        self.told.append((evidence.facts.session_id, evidence.seen.kind, evidence.time - T))

    def after(self, seconds: float) -> None:
        self.now = Now(T + int(seconds * 1000), 1000 + int(seconds * 1000))

    def begin(self, name: str | None = "s-1"):
        return self.running.begin(Facts(name))


def test_a_session_is_told_once_each_period_whatever_runs() -> None:
    world = World()
    world.begin(), world.begin(), world.begin("s-2")
    for seconds, count in ((0, 0), (4.999, 0), (5, 2), (10, 4)):
        world.after(seconds)
        world.running.tell()
        assert len(world.told) == count
    assert world.told[:2] == [("s-1", "inflight", 5000), ("s-2", "inflight", 5000)]


def test_the_end_of_a_long_request_is_told_and_that_of_a_short_one_is_not() -> None:
    world = World()
    short, long = world.begin(), world.begin("s-2")
    world.after(4.999)
    short.end()
    world.after(7)
    long.end()
    long.end()
    assert world.told == [("s-2", "inflight", 7000)]
    world.running.tell()
    assert (len(world.told), len(world.running)) == (1, 0)


def test_a_request_that_hangs_holds_its_session_up_to_the_cap() -> None:
    world = World()
    hanging = world.begin()
    world.after(60)
    world.running.tell()
    assert len(world.told) == 1
    world.after(60.001)
    world.running.tell()
    hanging.end()
    assert len(world.told) == 1
    # Each request has its own.
    world.begin()
    world.after(66)
    world.running.tell()
    assert world.told[1:] == [("s-1", "inflight", 66_000)]


def test_of_a_session_that_has_ended_nothing_is_told() -> None:
    world = World()
    requests = [world.begin(name) for name in ("s-1", "s-2", "s-3")]
    world.view.revoke("s-1", T)
    world.view.expire("s-2", T)
    world.view.reinstate("s-2", T, epoch=1)
    world.after(6)
    world.running.tell()
    for request in requests:
        request.end()
    assert [name for name, *_ in world.told] == ["s-2", "s-3", "s-2", "s-3"]


def test_a_request_without_a_session_holds_nothing() -> None:
    world = World()
    assert world.begin(None) is None
    assert len(world.running) == 0


def test_one_thread_tells_by_itself_and_ends() -> None:
    world = World(period=10)
    before = set(threading.enumerate())
    world.running.start()
    world.running.start()
    assert len(set(threading.enumerate()) - before) == 1
    world.begin()
    world.after(1)
    until(lambda: world.told)
    world.running.stop()
    world.running.stop()
    assert set(threading.enumerate()) == before
