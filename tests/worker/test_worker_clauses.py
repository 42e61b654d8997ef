"""Clauses of DESIGN section 6 that no suite comes by on its way: wrong partitions, forged ticks, clocks, stops, ticks."""

import asyncio
import json
import logging
from collections import Counter
from typing import Any

import pytest

from monitor.bench.load import ids_at
from monitor.core.controls import Control, ControlType, Target
from monitor.core.errors import InvariantError
from monitor.core.events import SourceAlive, Tick
from monitor.core.instants import NEVER
from monitor.core.partition import MOST_SOURCES, Partition, Position
from monitor.observe.metrics import WorkerMetrics
from monitor.testing.driver import Stored
from monitor.wire.events import encode_tick
from monitor.wire.partitioner import partition_for
from monitor.wire.times import format_time
from monitor.wire.topics import Topics
from monitor.worker import owned, owner
from monitor.worker.intake import REROUTED_HEADER, Blocked, Intake
from monitor.worker.outlet import LogOutlet
from monitor.worker.state import POSITION_PREFIX
from monitor.worker.ticker import CADENCE, Ticks
from tests.worker import test_worker_promises as promises
from tests.worker.test_worker_promises import CALM, NOW, TOPICS, World, controls, host, owning, said, turns

EIGHT = Topics("", 8, "app")
HOME = partition_for(b"s", 8)
ELSEWHERE = (HOME + 1) % 8


# --- wrongly keyed events ------------------------------------------------------------------------------------


class Written:
    """What an outlet appends, as (topic, partition, key, value, headers)."""

    def __init__(self) -> None:
        self.records: list[tuple[str, int, Any, Any, Any]] = []

    def append(self, topic: str, partition: int, key: Any, value: Any, headers: Any = (), **_: Any) -> None:
        self.records.append((topic, partition, key, value, headers))


def partition_at(number: int) -> tuple[Intake, Written]:
    written: Any = Written()
    partition = Partition(number, Position(0, controls_to=0), controls(CALM))
    outlet = LogOutlet(number, EIGHT, written, World().clock, WorkerMetrics())
    return Intake(partition, outlet, 8), written


def event(offset: int = 0, headers: Any = (), **more: Any) -> Stored:
    value = json.dumps({"type": "session.activity", "session_id": "s", "source": "gw", **more}).encode()
    return Stored(offset, NOW + offset, b"s", value, headers)


def test_an_event_on_a_wrong_partition_goes_to_its_own_with_its_time_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    intake, written = partition_at(ELSEWHERE)
    with caplog.at_level(logging.WARNING):
        intake.take([event(0), event(1, time=format_time(NOW - 500))])
    assert not intake.partition.sessions
    (first, second) = written.records
    assert first[:3] == second[:3] == (EIGHT.access_events.name, HOME, b"s")
    assert json.loads(first[3])["time"] == format_time(NOW)  # it had none: its original append time
    assert json.loads(second[3])["time"] == format_time(NOW - 500)
    assert (REROUTED_HEADER, str(ELSEWHERE).encode()) in first[4]
    (warning,) = [r for r in caplog.records if r.message == "event_rerouted"]  # once for a source
    assert (warning.source, warning.belongs_to) == ("gw", HOME)  # type: ignore[attr-defined]


def test_an_event_is_rerouted_once() -> None:
    intake, written = partition_at(ELSEWHERE)
    intake.take([event(0, [(REROUTED_HEADER, b"3")])])
    assert "s" in intake.partition.sessions
    assert all(topic != EIGHT.access_events.name for topic, *_ in written.records)


def test_an_event_on_its_own_partition_stays() -> None:
    intake, written = partition_at(HOME)
    intake.take([event(0)])
    assert "s" in intake.partition.sessions
    assert all(topic != EIGHT.access_events.name for topic, *_ in written.records)


# --- while a sweep is under way ------------------------------------------------------------------------------


def test_during_a_sweep_only_a_tick_with_new_controls_waits() -> None:
    intake, _ = partition_at(HOME)
    partition = intake.partition

    def tick(offset: int, controls_to: int) -> Stored:
        return Stored(offset, NOW + offset, b"~tick", encode_tick(Tick("me", controls_to)))

    for number in (1, 2):
        partition.controls.add(Control(number, NOW, ControlType.REVOKE, f"r{number}", Target(subject="nobody"), "why", "me"))
    log = [event(0), tick(1, 1), tick(2, 1), event(3), tick(4, 2), event(5)]
    assert intake.take(log) == 4, "the second tick with controls"
    assert intake.blocked is Blocked.SWEEP
    assert not partition.swept
    assert partition.log_time == NOW + 4
    assert partition.sessions["s"].counted() == (2, 0, 0, 0)
    while not partition.sweep(1):
        pass
    assert intake.take(log, 4) == 6
    assert (partition.controls_to, intake.ticks, intake.blocked) == (2, 3, None)


async def test_a_sweep_waits_for_what_it_has_written_so_that_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "SWEEP", 5)
    monkeypatch.setattr(owner, "PENDING_MOST", 10)
    world = World()
    it = await owning(world)
    await it.records(0, [world.event(type_="session.opened", session=f"s{number}") for number in range(50)], 50)
    await it.checkpoint([0])
    held = it.owned[0]
    held.partition.controls.add(Control(1, NOW + 1, ControlType.REVOKE, "r", Target(all=True), "why", "me"))
    world.clock.advance(10)
    forged(world, 1)
    await it.records(0, world.log(TOPICS.access_events.name)[50:], 51)
    world.held.add(TOPICS.session_commands.name)
    sweeping = asyncio.ensure_future(it._sweep([0]))
    await turns()
    assert not held.partition.swept
    assert 10 < world.pending <= 10 + 5

    world.release()
    await sweeping
    assert held.partition.swept
    assert len(world.log(TOPICS.session_commands.name)) == 50


async def test_between_two_turns_of_a_sweep_the_loop_turns_several_times() -> None:
    it = await owning(World())
    turned = 0

    def turn() -> None:
        nonlocal turned
        turned += 1
        asyncio.get_running_loop().call_soon(turn)

    asyncio.get_running_loop().call_soon(turn)
    await it._breathe()
    assert turned >= owner.STEPS > 1


@pytest.mark.parametrize(("later", "told"), [(8, 0), (24, 10)], ids=["while the first is swept", "while it is told of"])
async def test_a_partition_that_controls_reach_later_comes_before_what_is_told_of_the_first(
    monkeypatch: pytest.MonkeyPatch, later: int, told: int
) -> None:
    monkeypatch.setattr(owner, "SWEEP", 2)
    monkeypatch.setattr(owner, "STEPS", 1)
    monkeypatch.setattr(owner, "TOLD", 1)
    two = Topics("", 2, "app")
    monkeypatch.setattr(promises, "TOPICS", two)
    world = World()
    it = await host(world)
    await it.assigned([0, 1])
    for number in range(2):
        ids = ids_at(number, 2, 20, "s")
        log = [world.write(two.access_events.name, *event_of(name), number) for name in ids]
        await it.records(number, world.log(two.access_events.name, number), len(log))
    await it.checkpoint([0, 1])
    it._controls.add(Control(1, NOW + 1, ControlType.REVOKE, "r", Target(all=True), "why", "me"))
    world.clock.advance(10)
    order: list[tuple[str, int]] = []
    append = world.append

    def listening(topic: str, partition: int, *what: Any, **more: Any) -> None:
        order.append((topic, partition))
        append(topic, partition, *what, **more)

    monkeypatch.setattr(world, "append", listening)
    turning = asyncio.create_task(it._turn_forever())
    for number in range(2):
        forged(world, 1, number)
        await it.records(number, world.log(two.access_events.name, number)[20:], 21)
        await turns(later if number == 0 else 0)
    before = Counter(topic for topic, _ in order)[two.session_lifecycle.name]
    assert (told > 0) <= (before > 0)
    assert before < 20 - told // 2, "of the first there is more to tell"
    while [topic for topic, _ in order].count(two.session_lifecycle.name) < 40:
        await asyncio.sleep(0)
    turning.cancel()
    last = max(place for place, (topic, _) in enumerate(order) if topic == two.session_commands.name)
    early = Counter(topic for topic, _ in order[:last])[two.session_lifecycle.name]
    assert early <= before + 1, "one may be on its way out"
    assert Counter(order)[two.session_commands.name, 1] >= 20


def event_of(session: str) -> tuple[bytes, bytes]:
    return session.encode(), json.dumps(said(NOW, "session.opened", session)).encode()


async def test_a_large_checkpoint_is_written_a_few_at_a_time_and_not_after_the_partition_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owned, "SLICE", 5)
    monkeypatch.setattr(owner, "PENDING_MOST", 10)
    world = World()
    it = await owning(world)
    await it.records(0, [world.event(type_="session.opened", session=f"s{number}") for number in range(50)], 50)
    await it._appender.settled(it._appender.mark())
    before = len(world.log(TOPICS.changelog.name))
    world.held.add(TOPICS.changelog.name)
    writing = asyncio.ensure_future(it.checkpoint([0]))
    await turns(40)
    assert 10 < world.pending <= 10 + 5
    await it.lost([0])
    world.release()
    await writing
    assert len(world.log(TOPICS.changelog.name)) - before <= 15
    assert not any((record.key or b"").startswith(b"~partition/50") for record in world.log(TOPICS.changelog.name))
    assert 50 not in world.committed.values()


# --- ticks that are none, clocks that are wrong ---------------------------------------------------------------


def forged(world: World, controls_to: int, partition: int = 0) -> None:
    tick = {"type": "monitor.tick", "owner": "mallory", "controls_to": controls_to}
    world.write(TOPICS.access_events.name, b"~tick", json.dumps(tick).encode(), partition)


async def test_a_tick_of_controls_that_do_not_exist_is_a_dead_letter_and_stops_nobody() -> None:
    world = World()
    it = await owning(world)
    forged(world, 1000)
    world.event(type_="session.opened")
    await it.records(0, world.log(TOPICS.access_events.name), 2)
    assert it.owned[0].intake.blocked is Blocked.CONTROLS
    await it._look_for_controls(it.owned[0])
    await it._apply(it.owned[0])
    assert "s" in it.owned[0].partition.sessions
    await world.settled(world.mark())
    assert len(world.log(TOPICS.dead_letters.name)) == 1


@pytest.mark.parametrize(("ahead", "applied"), [(60_000, True), (60_001, False)])
async def test_a_record_more_than_a_minute_ahead_waits_and_says_so(ahead: int, applied: bool, caplog: Any) -> None:
    world = World()
    it = await owning(world)
    (opened,) = [world.event(type_="session.opened")]
    future = Stored(opened.offset, NOW + ahead, opened.key, opened.value)
    with caplog.at_level(logging.ERROR):
        await it.records(0, [future], 1)
    assert ("s" in it.owned[0].partition.sessions) is applied
    assert ("record_ahead_of_clock" in caplog.text) is not applied
    world.clock.advance(1)  # the clock gets there
    await it._apply(it.owned[0])
    assert "s" in it.owned[0].partition.sessions


# --- when ticks are wanted ------------------------------------------------------------------------------------


def wanted(ticks: Ticks, *, now: int = 10_000, broker: int = NOW, log_time: int = NOW, due: int = NEVER, read_to: int = -1) -> int:
    return ticks.wanted_at(now, broker, log_time, due, read_to, 50)


def test_a_tick_leaves_every_second_and_at_once_for_a_deadline_or_a_control() -> None:
    quiet = Ticks(last_sent=9_900, appended_at=NOW)
    assert wanted(quiet) == 9_900 + CADENCE
    assert wanted(quiet, due=NOW + 300) == 10_300  # not before it is due by the broker's clock
    assert wanted(quiet, due=NOW - 300) == 10_000
    assert wanted(quiet, read_to=0) == 10_000


def test_ticks_leave_at_most_every_tick_of_the_policy() -> None:
    busy = Ticks(last_sent=9_990, appended_at=NOW)
    assert wanted(busy, due=NOW) == 9_990 + 50
    assert wanted(busy, read_to=0) == 9_990 + 50


def test_a_tick_that_is_under_way_or_late_enough_serves() -> None:
    assert wanted(Ticks(last_sent=9_500, in_flight=True), due=NOW) == 9_500 + CADENCE
    assert wanted(Ticks(last_sent=9_500, appended_at=NOW + 5), due=NOW + 5) == 9_500 + CADENCE


# --- recovery stops rather than guesses -----------------------------------------------------------------------


async def committed_world() -> World:
    world = World()
    it = await owning(world)
    await it.records(0, [world.event(type_="session.opened")], 1)
    await it.checkpoint([0])
    world.flush()
    return world


async def test_recovery_takes_exactly_the_committed_offset() -> None:
    world = await committed_world()
    it = await host(world)
    assert await it.assigned([0]) == {0: 1}


async def test_without_the_record_of_the_committed_position_a_partition_stops() -> None:
    world = await committed_world()
    world.event()
    world.committed[0] = 2  # an offset set by hand
    with pytest.raises(InvariantError, match="no record of that position"):
        await (await host(world)).assigned([0])


async def test_without_a_commit_beside_a_changelog_that_is_not_empty_a_partition_stops() -> None:
    world = await committed_world()
    del world.committed[0]
    with pytest.raises(InvariantError, match="no offset is committed"):
        await (await host(world)).assigned([0])


async def test_with_events_lost_to_retention_a_partition_stops() -> None:
    world = await committed_world()
    world.committed[0] = 7
    with pytest.raises(InvariantError, match="events were lost"):
        await (await host(world)).assigned([0])


async def test_the_position_before_is_buried_after_the_commit() -> None:
    world = await committed_world()
    before = POSITION_PREFIX + b"0"
    log = [record.value is None for record in world.log(TOPICS.changelog.name) if record.key == before]
    assert log == [False, True]
    assert world.last(TOPICS.changelog.name, POSITION_PREFIX + b"1") is not None


# --- bounds ---------------------------------------------------------------------------------------------------


def test_of_too_many_announced_sources_the_one_silent_longest_goes() -> None:
    partition = Partition(0, Position(0, controls_to=0), controls(CALM))
    for number in range(MOST_SOURCES + 1):
        partition.alive(SourceAlive(f"gw-{number}", NOW + number))
    assert len(partition.graces.sources) == MOST_SOURCES
    assert "gw-0" not in partition.graces.sources


async def test_a_backlog_pauses_its_partition_until_half_of_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.worker.owner.WAITING", 4)
    world = World()
    acts: list[str] = []
    monkeypatch.setattr(world, "pause", lambda _: acts.append("pause"))
    monkeypatch.setattr(world, "resume", lambda _: acts.append("resume"))
    it = await owning(world)
    first = world.event(type_="session.opened")
    later = [world.event() for _ in range(5)]
    ahead = Stored(first.offset, NOW + 90_000, first.key, first.value)
    await it.records(0, [ahead, *later], 6)
    assert acts == ["pause"]
    world.clock.advance(30_000)
    await it._apply(it.owned[0])
    await asyncio.sleep(0)
    assert acts == ["pause", "resume"]
