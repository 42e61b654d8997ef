"""What runs is looked at again when the view changes: told, then cut; and nobody slips through."""

import asyncio
import logging

import pytest

from monitor.core.controls import Target
from monitor.gateway import Facts, MemoryView, Now, Settings, WithoutSession
from monitor.gateway.enforcer import Enforcer
from monitor.gateway.running import Running
from monitor.gateway.session import Ending
from tests.gateway.asking import fresh
from tests.gateway.worlds import T

POLICY = "version: 1\ndefaults: {idle: 5m, absolute: 1h}\n"


class Run:
    def __init__(self, session_id: str | None = "s-1", **facts) -> None:
        self.facts, self.ended, self.verdict = Facts(session_id, **facts), Ending(), None

    def cut(self, verdict) -> bool:
        assert self.verdict is None, "cut twice"
        self.verdict = verdict
        return True


class Counts(list):
    """A witness of cuts."""

    def admitted(self, facts, seen, now) -> None:
        pass

    def refused(self, facts, verdict, seen, now) -> None:
        pass

    def cut(self, session_id, verdict, inflight) -> None:
        self.append((session_id, verdict.reason, inflight))


class World:
    def __init__(self, **settings) -> None:
        self.view, self.now, self.counts = fresh(), Now(T, 0), Counts()
        self.enforcer = Enforcer(self.view, lambda: self.now, settings=Settings(without_session=WithoutSession.ADMIT), witnesses=[self.counts])
        self.running = Running(self.enforcer, asyncio.get_running_loop(), **({"drain": 0, "sweep": 3_600_000} | settings))
        self.view.subscribe(self.running.changed)

    def begin(self, *runs: Run) -> None:
        for run in runs:
            self.running.begin(run)


@pytest.fixture
async def world():
    return World()


async def turns(count: int = 5) -> None:
    """So many turns of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_those_of_a_session_that_ends_are_cut_and_counted(world) -> None:
    one, two, other = Run(), Run(), Run("s-2")
    world.begin(one, two, other)
    world.view.revoke("s-1", T)
    await turns()
    assert [run.verdict and run.verdict.reason for run in (one, two, other)] == ["admin_revoked", "admin_revoked", None]
    assert (one.ended.reason, bool(other.ended)) == ("admin_revoked", False)
    assert world.counts == [("s-1", "admin_revoked", 2)]


async def test_who_may_go_on_after_a_re_authentication_does(world) -> None:
    older, newer = Run(auth_time=T - 10_000), Run(auth_time=T - 1000)
    world.begin(older, newer)
    world.view.expire("s-1", T - 5000)
    await turns()
    assert (older.verdict is None, newer.verdict is None) == (False, True)


async def test_a_lock_meets_what_runs_without_a_session_too(world) -> None:
    met, named, other = Run(None, subject="mallory"), Run("s-3", subject="mallory"), Run(None, subject="alice")
    world.begin(met, named, other)
    world.view.lock(Target(subject="mallory"), T)
    await turns()
    assert [run.verdict and run.verdict.reason for run in (met, named, other)] == ["locked", "locked", None]
    assert world.counts == [("s-3", "locked", 1)]


async def test_another_policy_is_looked_at_by_all(world) -> None:
    run = Run(auth_time=T - 4_000_000)
    world.begin(run)
    world.view.rule(POLICY)
    await turns()
    assert run.verdict.reason == "absolute_timeout"


async def test_an_absolute_limit_strikes_by_itself() -> None:
    world = World(sweep=10)
    world.view.rule(POLICY)
    run, undated = Run(auth_time=T), Run("s-2")
    world.begin(run, undated)
    world.now = Now(T + 3_599_999, 0)
    await asyncio.sleep(0.05)
    assert run.verdict is None
    world.now = Now(T + 3_600_000, 0)
    while run.verdict is None:
        await asyncio.sleep(0.01)
    assert (run.verdict.reason, undated.verdict) == ("absolute_timeout", None)


async def test_a_stale_view_cuts_nobody(world) -> None:
    run = Run()
    world.begin(run)
    world.now = Now(T, 60_001)
    world.view.lock(Target(subject="mallory"), T)
    await turns()
    assert run.verdict is None
    world.view.revoke("s-1", T)
    await turns()
    assert run.verdict.reason == "admin_revoked"


async def test_within_the_drain_time_it_is_told_and_may_finish() -> None:
    world = World(drain=50)
    told, finishes, stays = [], Run(), Run()
    world.begin(finishes, stays)
    finishes.ended.tell(lambda: told.append("told"))
    world.view.expire("s-1", T)
    await turns()
    assert (told, stays.verdict, bool(stays.ended)) == (["told"], None, True)
    world.running.end(finishes)
    while stays.verdict is None:
        await asyncio.sleep(0.01)
    assert finishes.verdict is None
    assert world.counts == [("s-1", "idle_timeout", 1)]


async def test_a_callback_that_fails_is_no_hindrance(world, caplog) -> None:
    one, two = Run(), Run()
    for run in (one, two):
        run.ended.tell(lambda: 1 / 0)
    world.begin(one, two)
    with caplog.at_level(logging.ERROR):
        world.view.revoke("s-1", T)
        await turns()
    assert one.verdict
    assert two.verdict
    assert {record.message for record in caplog.records} == {"session_end_callback_failed"}


async def test_many_are_looked_at_in_slices(world) -> None:
    runs = [Run(f"s-{number}", subject="mallory") for number in range(1200)]
    world.begin(*runs)
    cut = []

    async def watch() -> None:
        while len(cut) < 5:
            cut.append(sum(run.verdict is not None for run in runs))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    world.view.lock(Target(subject="mallory"), T)
    await watching
    # Others had their turn in between.
    assert cut[-1] == 1200
    assert {500, 1000} <= set(cut)


async def test_what_has_ended_is_forgotten(world) -> None:
    one, two = Run(), Run()
    world.begin(one, two)
    assert len(world.running) == 2
    for _ in range(2):
        world.running.end(one)
    assert len(world.running) == 1
    world.running.end(two)
    assert len(world.running) == 0
    world.view.revoke("s-1", T)
    await turns()
    assert one.verdict is None
    assert world.counts == []


async def test_changes_that_meet_nobody_do_not_wake_the_loop(world, monkeypatch) -> None:
    world.begin(Run())
    await turns()
    monkeypatch.setattr(world.running.loop, "call_soon_threadsafe", lambda *_: pytest.fail("woken"))
    world.view.revoke("s-2", T)
    world.view.forget("s-1")


def test_a_loop_that_is_gone_has_nobody_left() -> None:
    run = Run()

    async def begin() -> MemoryView:
        world = World()
        world.begin(run)
        return world.view

    asyncio.run(begin()).revoke("s-1", T)
    assert run.verdict is None
