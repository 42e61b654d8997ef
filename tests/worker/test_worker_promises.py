"""The owner under races and failures, on a log in memory: what the design promises, case by case."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest

from monitor.core import dues
from monitor.core.commands import Command, CommandType
from monitor.core.controls import Control, ControlType, Target
from monitor.core.errors import InvariantError
from monitor.core.events import Event, EventType, SourceAlive, Tick
from monitor.core.partition import Partition, Position
from monitor.core.reasons import Reason
from monitor.core.session import End, State
from monitor.core.standing import ControlLog
from monitor.observe.metrics import WorkerMetrics
from monitor.testing import Driver, ManualClock
from monitor.testing.driver import Stored
from monitor.wire.commands import decode_command, encode_command
from monitor.wire.controls import encode_control
from monitor.wire.times import format_time
from monitor.wire.topics import Topics
from monitor.worker import owner
from monitor.worker.custody import Custody, GroupMovedOnError
from monitor.worker.delivery import Batch, Delivery
from monitor.worker.facts import Fact, Facts
from monitor.worker.follower import ControlFollower, compiled
from monitor.worker.owner import Host, OwnerSettings
from monitor.worker.ports import Appended
from monitor.worker.recovery import Changelog, Ledger, rebuild
from monitor.worker.state import POSITION_PREFIX, encode_position, encode_session
from monitor.worker.witness import end_of

NOW = 1_795_000_000_000
POLICY = """
version: 1
timing: {lateness: 2s, outage_grace: 30s, source_grace: 5m}
defaults: {idle: 10s, absolute: 12h, warn_before: []}
"""
CALM = POLICY.replace("idle: 10s", "idle: 30m")
TOPICS = Topics("", 1, "app")


def said(at: int, type_: str = "session.activity", session: str = "s", **more: Any) -> dict[str, Any]:
    return {"type": type_, "session_id": session, "time": format_time(at), **more}


def policy_control(text: str, offset: int = 0, at: int = NOW) -> Control:
    return Control(offset, at, ControlType.POLICY, "policy", reason="test", by="test", policy_text=text, policy_version="1")


def controls(*texts: str) -> ControlLog:
    log = ControlLog(compiled)
    for offset, text in enumerate(texts):
        log.add(policy_control(text, offset))
    return log


# --- a log in memory --------------------------------------------------------------------------------


class World:
    """Topics, appender, reader and offsets in memory; writes to a held topic stay on their way."""

    def __init__(self, policy: str = CALM) -> None:
        self.clock = ManualClock(NOW)
        self.logs: dict[tuple[str, int], list[Any]] = {}
        self.committed: dict[int, int] = {}
        self.commits: list[dict[int, int]] = []
        self.commit_gate: asyncio.Future[None] | None = None
        self.held: set[str] = set()
        self.on_read: Callable[[str], None] = lambda _: None
        self._way: list[tuple[int, str, int, bytes | None, bytes | None]] = []
        self._taken = 0
        self._observers: list[Callable[[Appended], None]] = []
        self._landed = asyncio.Event()
        key, value, _ = encode_control(policy_control(policy), NOW)
        self.write(TOPICS.session_control.name, key, value)

    # the log itself

    def log(self, topic: str, partition: int = 0) -> list[Any]:
        return self.logs.setdefault((topic, partition), [])

    def write(self, topic: str, key: bytes | None, value: bytes | None, partition: int = 0) -> int:
        log = self.log(topic, partition)
        log.append(Stored(len(log), self.clock.now(), key, value))
        return len(log) - 1

    def event(self, **more: Any) -> Any:
        event = said(self.clock.now(), **more)
        offset = self.write(TOPICS.access_events.name, event["session_id"].encode(), json.dumps(event).encode())
        return self.log(TOPICS.access_events.name)[offset]

    def last(self, topic: str, key: bytes) -> bytes | None:
        values = [record.value for record in self.log(topic) if record.key == key]
        return values[-1] if values else None

    # Appender

    def append(self, topic: str, partition: int, key: Any, value: Any, headers: Any = (), *, instead: Any = None) -> None:
        self._way.append((self._taken, topic, partition, key, value))
        self._taken += 1

    def flush(self) -> None:
        way, self._way = self._way, []
        for item in way:
            _, topic, partition, key, value = item
            if topic in self.held:
                self._way.append(item)
                continue
            offset = self.write(topic, key, value, partition)
            now = self.clock.monotonic()
            for observer in self._observers:
                observer(Appended(topic, partition, offset, 1, self.clock.now(), now, now))
        self._landed.set()
        self._landed = asyncio.Event()

    def discard(self, topic: str, partition: int) -> int:
        before = len(self._way)
        self._way = [item for item in self._way if item[1:3] != (topic, partition)]
        return before - len(self._way)

    def release(self) -> None:
        self.held.clear()
        self.flush()

    def mark(self) -> int:
        return self._taken

    async def settled(self, mark: int) -> None:
        self.flush()
        while any(item[0] < mark for item in self._way):
            await self._landed.wait()

    async def below(self, most: int) -> None:
        self.flush()
        while len(self._way) > most:
            await self._landed.wait()

    @property
    def pending(self) -> int:
        return len(self._way)

    def on_acknowledged(self, observer: Callable[[Appended], None]) -> None:
        self._observers.append(observer)

    # Reader

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, len(self.log(topic, partition))

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[Any]]:
        records = self.log(topic, partition)[start:end]
        if records:
            yield records
        self.on_read(topic)

    async def follow(self, topic: str, partition: int, start: int) -> AsyncIterator[Sequence[Any]]:
        raise ConnectionError("the follower's connection broke")
        yield []  # type: ignore[unreachable]  # makes it a generator

    # Offsets

    async def commit(self, offsets: dict[int, int]) -> None:
        if not offsets:
            raise ValueError(offsets)  # as aiokafka does
        if self.commit_gate is not None:
            await self.commit_gate
        self.commits.append(offsets)
        self.committed.update(offsets)

    def pause(self, partition: int) -> None: ...
    def resume(self, partition: int) -> None: ...


class Offsets:
    """The world's offsets as a port."""

    def __init__(self, world: World) -> None:
        self.commit, self.pause, self.resume = world.commit, world.pause, world.resume
        self._world = world

    async def committed(self, partition: int) -> int | None:
        return self._world.committed.get(partition)


def following(world: Any) -> ControlFollower:
    return ControlFollower(TOPICS.session_control.name, world, ControlLog(compiled))


async def host(world: World, follower: ControlFollower | None = None) -> Host:
    """A Host that owns nothing yet; its background turns are not started."""
    if follower is None:
        follower = following(world)
        start, end = await world.bounds(TOPICS.session_control.name, 0)
        async for records in world.read(TOPICS.session_control.name, 0, start, end):
            follower._take(records)
    settings = OwnerSettings("me", start_from="earliest", checkpoint_every=700)
    ports: Any = world
    return Host(settings, TOPICS, ports, ports, Offsets(world), follower, world.clock, WorkerMetrics())


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def owning(world: World) -> Host:
    it = await host(world)
    await it.assigned([0])
    return it


# --- watermarks and strikes do not depend on when the ticker asked ----------------------------------------


def opened(partition: Partition, at: int, offset: int, session: str = "s", **more: Any) -> None:
    partition.begin(offset, at)
    partition.apply(Event(EventType.OPENED, session, at, at, subject="a", **more), offset)


def test_asking_what_is_due_lets_no_watermark_pass_an_undecided_deadline() -> None:
    partition = Partition(0, Position(0, controls_to=0), controls(POLICY))
    opened(partition, NOW, 0)
    partition.begin(1, NOW + 8_000)  # nobody ticked for 8 s: idle strikes wait until 38 s
    for offset in range(2, 10):
        at = NOW + 7_000 + offset * 1000
        partition.next_due(at)  # the ticker asks, by the broker's clock, before the tick is read back
        partition.begin(offset, at)
    assert partition.sessions["s"].state is State.LIVE
    assert partition.watermark() < NOW + 10_000


def test_asking_what_is_due_changes_no_strike() -> None:
    struck = []
    for asks in (False, True):
        partition = Partition(0, Position(0, controls_to=0), controls(POLICY))
        opened(partition, NOW, 0, source="gw", classification="public")
        partition.alive(SourceAlive("gw", NOW))
        for second in range(1, 23):
            at = NOW + second * 1000
            if asks:
                partition.next_due(at)
            partition.begin(second, at)
            if second == 20:  # the source was silent, and comes back
                partition.alive(SourceAlive("gw", at))
        struck.append(partition.sessions["s"].state)
    assert struck == [State.EXPIRED, State.EXPIRED]


async def test_a_long_sweep_lets_others_go_on_whatever_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "SWEEP", 1)
    monkeypatch.setattr(owner, "PENDING_MOST", 1)
    world = World()
    it = await owning(world)
    for number in range(10):
        await it.records(0, [world.event(session=f"s{number}")], number + 1)
    world.held = {TOPICS.session_lifecycle.name}
    world.append(TOPICS.session_lifecycle.name, 0, b"s", b"{}")  # always on its way; what is waited for has settled
    world._way[0] = (world._taken + 1000, *world._way[0][1:])
    control = Control(9, NOW + 1, ControlType.REVOKE, "c", Target(all=True))
    it.owned[0].partition.controls.add(control)
    it.owned[0].partition.tick(Tick("me", 9), 10)
    others = asyncio.create_task(turns(9))
    await it._sweep()
    assert others.done()
    assert not any(session.state is State.LIVE for session in it.owned[0].partition.sessions.values())


async def test_a_sweep_that_takes_long_lets_others_go_on_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "SHARE", 1)
    world = World()
    it = await owning(world)
    for number in range(10):
        await it.records(0, [world.event(session=f"s{number}")], number + 1)
    partition = it.owned[0].partition
    partition.controls.add(Control(9, NOW + 1, ControlType.REVOKE, "c", Target(all=True)))
    partition.tick(Tick("me", 9), 10)
    quick, swept = partition.sweep, []

    def slow(most: int) -> bool:
        world.clock.advance(owner.TURN // 2)
        swept.append(most)
        return quick(most)

    monkeypatch.setattr(partition, "sweep", slow)
    others = asyncio.create_task(turns(1))
    others.add_done_callback(lambda _: swept.append(0))
    await it._sweep()
    assert 0 in swept[:8], "two sessions take all the time of a turn, and others need three turns; by number alone it would be one"


async def test_who_comes_to_the_present_says_so_at_once_and_then_every_second() -> None:
    world = World()
    world.event()
    world.clock.advance(60_000)
    it = await owning(world)
    owned = it.owned[0]
    owned.last_watermark = now = world.clock.monotonic()
    await it.records(0, world.log(TOPICS.access_events.name), 1)
    assert not it._wants_watermark(owned, now), "a minute behind"
    record = world.event()
    await it.records(0, [record], 2)
    assert it._wants_watermark(owned, now), "the present"
    assert not it._wants_watermark(owned, now + 999)
    assert it._wants_watermark(owned, now + 1000)


def test_a_larger_lateness_speaks_of_no_instant_below_a_watermark() -> None:
    later = POLICY.replace("lateness: 2s", "lateness: 10s").replace("idle: 10s", "idle: 30m")
    log = controls(CALM, later)
    partition = Partition(0, Position(0, controls_to=0), log)
    partition.begin(0, NOW)
    published = partition.watermark()
    partition.tick(Tick("me", 1), 0)
    partition.sweep(10)
    at = NOW + 10
    start = at - 30 * 60_000 - 5_000  # its idle deadline was 5 s ago
    partition.begin(1, at)
    partition.apply(Event(EventType.OPENED, "s", start, at), 1)
    for offset in range(2, 20):
        partition.begin(offset, at + offset * 1000)
    (command,) = [effect for effect in partition.effects if isinstance(effect, Command)]
    assert command.effective_at > published


# --- a sweep is bounded ------------------------------------------------------------------------------------


def test_a_sweep_costs_what_it_sweeps_whatever_comes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, slice_, events = 4000, 200, 100
    log = controls(CALM)
    partition = Partition(0, Position(0, controls_to=0), log)
    partition.begin(0, NOW)
    for number in range(sessions):
        partition.apply(Event(EventType.OPENED, f"s{number}", NOW, NOW), number)
    log.add(Control(1, NOW, ControlType.REVOKE, "r", Target(subject="nobody"), "why", "me"))
    offset = sessions
    partition.begin(offset, NOW + 1)
    partition.tick(Tick("me", 1), offset)
    calls = 0
    real = dues.next_due

    def counted(*args: Any) -> dues.Due:
        nonlocal calls
        calls += 1
        return real(*args)

    monkeypatch.setattr(dues, "next_due", counted)
    applied = 0
    while not partition.sweep(slice_):
        for _ in range(events):
            offset += 1
            applied += 1
            partition.begin(offset, NOW + 1)
            partition.apply(Event(EventType.ACTIVITY, "s0", NOW, NOW + 1), offset)
    assert calls < 5 * (sessions + applied)


# --- likeness ----------------------------------------------------------------------------------------------

ROLES = """
version: 1
timing: {outage_grace: 1s}
defaults: {idle: 30m, absolute: 12h, warn_before: []}
rules:
  - {name: admin, when: {roles: [admin]}, idle: 5m}
"""


def test_an_event_skipped_by_a_replay_leaves_no_likeness_of_other_roles() -> None:
    driver = Driver(ROLES, now=NOW)
    driver.append(said(NOW, "session.opened", roles=["analyst"]), NOW)
    driver.checkpoint()
    driver.append(said(NOW + 1000, roles=["admin"]), NOW + 1000)
    driver.append(said(NOW + 2000, "session.reauthenticated", roles=["analyst"]), NOW + 2000)
    driver.write_ahead()
    driver.restart()
    driver.append(said(NOW + 3000, roles=["admin"]), NOW + 3000)
    assert driver.sessions["s"].attributes.roles == ("admin",)


def test_an_event_skipped_by_a_replay_leaves_no_likeness_of_another_subject() -> None:
    driver = Driver(ROLES, now=NOW)
    driver.append(said(NOW, "session.opened", subject="alice"), NOW)
    driver.checkpoint()
    driver.append(said(NOW + 1000, subject="mallory"), NOW + 1000)
    driver.append(said(NOW + 2000, "session.reauthenticated", subject="alice"), NOW + 2000)
    driver.write_ahead()
    driver.restart()
    for minute in range(1, 40):
        driver.append(said(NOW + minute * 60_000, subject="mallory"), NOW + minute * 60_000)
        driver.tick(NOW + minute * 60_000 + 2_000)
    assert driver.sessions["s"].state is State.EXPIRED


# --- bounds ------------------------------------------------------------------------------------------------


def test_what_sources_say_bounds_the_record_of_a_session() -> None:
    driver = Driver(CALM, now=NOW)
    driver.append(said(NOW, "session.opened"), NOW)
    driver.append(said(NOW, "session.closed"), NOW)
    for number in range(1100):
        driver.append(said(NOW, source=f"{number:04}" + "x" * 1000), NOW)
    assert len(encode_session(driver.sessions["s"])) < 1_048_588 // 2


def test_what_sources_say_bounds_the_record_of_a_position() -> None:
    driver = Driver(CALM, now=NOW)
    for number in range(1100):
        alive = {"type": "source.alive", "source": f"{number:04}" + "x" * 1000, "time": format_time(NOW)}
        driver.append(alive, NOW, key="gw")
    assert len(encode_position(driver.partition.position())) < 1_048_588 // 2


# --- checkpoints -------------------------------------------------------------------------------------------


async def test_a_stop_in_the_middle_of_a_checkpoint_loses_no_session() -> None:
    world = World()
    it = await owning(world)
    await it.start()
    await turns()
    await it.records(0, [world.event(type_="session.opened")], 1)
    world.held = {TOPICS.session_lifecycle.name}  # the broker is slow: the checkpoint waits for what was decided
    world.append(TOPICS.session_lifecycle.name, 0, b"k", b"v")
    world.clock.advance(700)
    await turns()
    stopping = asyncio.create_task(it.stop())
    await turns()
    world.release()
    await stopping
    assert world.committed[0] >= 1
    assert world.last(TOPICS.changelog.name, b"s") is not None


async def test_a_record_that_made_the_owner_fail_is_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    delivery = Delivery()
    it = await host(world)
    custody = Custody(it, delivery)
    starts = await custody.take_over([0])
    assert starts is not None
    run = delivery.open(0, starts[0])
    first, second = world.event(type_="session.opened"), world.event()

    def fails(*_: object) -> None:
        raise InvariantError("ours")

    await custody.hand_over(Batch(0, run, 2, [first]))
    monkeypatch.setattr(Partition, "apply", fails)
    world.clock.advance(10)
    second = world.event()
    await custody.hand_over(Batch(0, run, 3, [second]))
    assert custody.failed
    await custody.close()
    assert world.committed.get(0, 0) <= second.offset


async def test_a_checkpoint_does_not_pass_a_tick_that_waits() -> None:
    world = World()
    it = await owning(world)
    await it.records(0, [world.event(type_="session.opened")], 1)
    tick = {"type": "monitor.tick", "owner": "before me", "controls_to": 1}
    world.clock.advance(10)
    offset = world.write(TOPICS.access_events.name, b"~tick", json.dumps(tick).encode())
    await it.records(0, world.log(TOPICS.access_events.name)[offset:], offset + 1)
    await it.checkpoint([0])
    assert world.committed[0] <= offset


async def test_partitions_lost_during_a_checkpoint_do_not_end_the_worker() -> None:
    world = World()
    it = await owning(world)
    await it.start()
    await turns()
    await it.records(0, [world.event(type_="session.opened")], 1)
    world.held = {TOPICS.changelog.name}  # the broker is away, longer than the session timeout
    world.clock.advance(700)
    await turns()
    await it.lost([0])
    world.release()
    await turns()
    failure = it.failed.exception() if it.failed.done() else None
    await it.stop()
    assert failure is None


async def test_no_session_is_written_whose_commands_were_discarded_with_its_partition() -> None:
    world = World()
    it = await owning(world)
    world.held = {TOPICS.session_commands.name}  # no leader there
    await it.records(0, [world.event(type_="session.opened"), world.event(type_="session.closed")], 2)
    checkpoint = asyncio.ensure_future(it.checkpoint([0]))
    await turns()
    await it.lost([0])  # what was on its way is forgotten: nobody will hear of the end
    world.release()
    await checkpoint

    assert world.last(TOPICS.changelog.name, b"s") is None, "a replay would skip the end"
    await it.assigned([0])
    await it.records(0, world.log(TOPICS.access_events.name), 2)
    await it.checkpoint([0])
    assert world.last(TOPICS.session_commands.name, b"s") is not None


def test_a_fact_that_the_replay_did_not_derive_is_said_again_behind_what_it_did() -> None:
    partition = Partition(0, Position(0, controls_to=0), controls(CALM))
    opened(partition, NOW, 0)
    end = End(CommandType.REVOKE, Reason.ADMIN_REVOKED, NOW, NOW, NOW + 1000, 3, NOW, control_id="c1")
    partition.effects.clear()

    Facts([Fact("s", 0, end)]).merge(partition, 4)

    (command,) = partition.effects
    assert isinstance(command, Command)
    assert (command.type, command.reason, command.control_id) == ("session.revoke", "admin_revoked", "c1")


def test_a_fact_waits_for_the_sweep_that_derives_it() -> None:
    driver = Driver(CALM, now=NOW)
    driver.append(said(NOW, "session.opened", subject="alice"), NOW)
    driver.checkpoint()
    driver.control({"type": "control.revoke", "id": "c1", "target": {"subject": "alice"}, "by": "me", "reason": "why"}, NOW + 1)
    driver.tick(NOW + 10)
    driver.append(said(NOW + 20, session="t"), NOW + 20)
    told = [record.id for record in driver.lifecycle if record.type == "session.revoked"]
    driver.lifecycle.clear()
    driver.restart()
    assert [record.id for record in driver.lifecycle if record.type == "session.revoked"] == told, "I6: its record comes again too"
    assert driver._intake.facts.merged == 0


async def test_the_lease_takes_no_commit_of_a_checkpoint_back() -> None:
    world = World()
    it = await owning(world)
    await it.records(0, [world.event(type_="session.opened")], 1)
    gate = world.commit_gate = asyncio.get_running_loop().create_future()
    checkpoint = asyncio.ensure_future(it.checkpoint([0]))
    await turns()
    world.clock.advance(6000)
    lease = asyncio.ensure_future(it._holds_lease())
    await turns()
    gate.set_result(None)
    await asyncio.gather(checkpoint, lease)

    assert [commit[0] for commit in world.commits[-2:]] == [1, 1]


async def test_a_partition_taken_back_during_its_recovery_does_not_end_the_worker() -> None:
    world = World()
    it = await host(world)
    world.commit_gate = asyncio.get_running_loop().create_future()
    world.commit_gate.set_exception(GroupMovedOnError("the generation is past"))

    assert await it.assigned([0]) == {}
    assert not it.stopped


async def test_a_refused_commit_of_a_tenure_ends_no_later_one() -> None:
    world = World()
    it = await owning(world)
    await it.start()
    await turns()
    await it.records(0, [world.event(type_="session.opened")], 1)
    gate = world.commit_gate = asyncio.get_running_loop().create_future()
    world.clock.advance(700)
    await turns()
    await it.lost([0])
    world.commit_gate = None
    await it.assigned([0])
    gate.set_exception(GroupMovedOnError("the generation is past"))
    await turns()
    owned = set(it.owned)
    await it.stop()
    assert owned == {0}


async def test_a_stranger_at_our_next_position_costs_us_no_position() -> None:
    world = World()
    it = await owning(world)
    await it.records(0, [world.event(type_="session.opened")], 1)
    gate = world.commit_gate = asyncio.get_running_loop().create_future()
    # A worker that stood where we stand now wrote its record late, right before ours.
    world.write(TOPICS.changelog.name, POSITION_PREFIX + b"1", encode_position(Position(1, NOW, NOW, 0)))
    saving = asyncio.create_task(it.checkpoint([0]))
    await turns()
    await it._put_right()
    gate.set_result(None)
    await saving
    world.flush()
    assert world.committed[0] == 1
    assert world.last(TOPICS.changelog.name, POSITION_PREFIX + b"1") is not None


# --- recovery ----------------------------------------------------------------------------------------------


async def test_what_an_earlier_tenure_had_on_its_way_does_not_outlive_a_recovery() -> None:
    world = World()
    it = await owning(world)
    await it.records(0, [world.event(type_="session.opened")], 1)
    await it.checkpoint([0])
    await it.records(0, [world.event()], 2)
    world.held = {TOPICS.changelog.name}
    saving = asyncio.create_task(it.checkpoint([0]))  # on its way: s as of offset 1
    await turns()
    await it.lost([0])
    # Meanwhile another worker owned the partition: it ended s, and committed.
    other = await host_elsewhere(world)
    await other.records(0, [*world.log(TOPICS.access_events.name)[1:], world.event(type_="session.closed")], 3)
    await other.checkpoint([0])
    ended = world.last(TOPICS.changelog.name, b"s")
    returning = asyncio.create_task(it.assigned([0]))
    await turns()
    world.release()
    await returning
    saving.cancel()
    await asyncio.gather(saving, return_exceptions=True)
    await it.checkpoint([0])
    world.flush()
    assert world.last(TOPICS.changelog.name, b"s") == ended


async def host_elsewhere(world: World) -> Host:
    """Another process on the same logs: its writes are not held up."""
    other = World()
    other.logs, other.committed, other.clock = world.logs, world.committed, world.clock
    it = await host(other)
    await it.assigned([0])
    return it


def ended_driver() -> tuple[Driver, bytes, Fact, Position]:
    """A session that ended: its record from before the end, and the command."""
    driver = Driver(CALM, now=NOW)
    driver.append(said(NOW, "session.opened"), NOW)
    driver.checkpoint()
    before = driver.changelog.sessions[b"s"]
    driver.append(said(NOW + 1000, "session.closed"), NOW + 1000)
    (command,) = driver.commands
    fact = Fact("s", 0, end_of(decode_command(encode_command(command, NOW).value)))
    for second in range(2, 6):
        driver.tick(NOW + second * 1000)
    driver.checkpoint()
    return driver, before, fact, driver.partition.position()


async def test_a_session_that_a_command_ended_is_not_resurrected_by_a_late_record_of_another() -> None:
    """The record of before the end is the last on the changelog: a zombie wrote it when nobody owned the partition."""
    _, before, fact, position = ended_driver()
    recovered = await rebuild(
        0, position, Changelog({b"s": before}, {position.offset: b""}, 9), Ledger({b"s": fact}, [], 9), controls(CALM)
    )
    recovered.facts.merge(recovered.partition, position.offset + 100)
    assert recovered.partition.sessions["s"].state is State.EXPIRED


async def test_the_command_of_a_forgotten_session_is_buried_also_where_its_id_came_back() -> None:
    """Forgotten, committed, reopened, written; and the worker died before the tombstone of the command."""
    _, _, fact, position = ended_driver()
    past = Fact("s", 0, msgspec.structs.replace(fact.end, forget_after=NOW + 2000))
    again = Driver(CALM, now=NOW)
    for _ in range(3):
        again.tick(NOW + 4500)
    again.append(said(NOW + 4500, "session.opened"), NOW + 4500)
    again.checkpoint()
    recovered = await rebuild(
        0, position, Changelog({b"s": again.changelog.sessions[b"s"]}, {position.offset: b""}, 9),
        Ledger({b"s": past}, [], 9), controls(CALM),
    )  # fmt: skip
    recovered.facts.merge(recovered.partition, position.offset + 100)
    assert recovered.partition.sessions["s"].state is State.LIVE
    assert recovered.orphans == [b"s"]


async def test_a_session_ahead_of_its_position_waits_for_its_controls() -> None:
    world = World()
    it = await owning(world)
    await it.records(0, [world.event(type_="session.opened")], 1)
    await it.checkpoint([0])
    committed = dict(world.committed)
    strict = CALM.replace("idle: 30m", "idle: 1m")
    key, value, _ = encode_control(policy_control(strict), NOW)
    world.write(TOPICS.session_control.name, key, value)
    follower = it._follower
    follower._take(world.log(TOPICS.session_control.name))
    tick = {"type": "monitor.tick", "owner": "me", "controls_to": 1}
    offset = world.write(TOPICS.access_events.name, b"~tick", json.dumps(tick).encode())
    await it.records(0, world.log(TOPICS.access_events.name)[offset:], 2)
    world.commit_gate = asyncio.get_running_loop().create_future()
    saving = asyncio.create_task(it.checkpoint([0]))  # dies between changelog and commit
    await turns()
    saving.cancel()
    await asyncio.gather(saving, return_exceptions=True)
    world.commit_gate = None
    assert world.committed == committed
    # The next worker has not read the new policy yet.
    slow = following(world)
    slow._take(world.log(TOPICS.session_control.name)[:1])
    next_one = await host(world, slow)
    taking = asyncio.create_task(next_one.assigned([0]))
    await turns()
    slow._take(world.log(TOPICS.session_control.name))
    world.clock.advance(1000)
    starts = await taking
    await next_one.records(0, world.log(TOPICS.access_events.name)[starts[0] :], 2)
    await next_one.checkpoint([0])
    assert next_one.owned[0].partition.sessions["s"].plan.idle.ms == 60_000


async def test_a_stray_record_on_the_commands_topic_stops_nobody() -> None:
    world = World()
    world.write(TOPICS.session_commands.name, b"hello", b"world")
    it = await host(world)
    assert await it.assigned([0]) == {0: 0}


# --- zombies -----------------------------------------------------------------------------------------------


async def test_a_strangers_command_holds_from_where_it_was_decided() -> None:
    """A zombie had read further than its heir: the heir meets the command where the replay reaches its `src`."""
    world = World()
    zombie = await owning(world)
    opening, going_on, closing = world.event(type_="session.opened"), world.event(), world.event(type_="session.closed")
    world.held = {TOPICS.session_commands.name}
    await zombie.records(0, [opening, going_on, closing], 3)
    heir = await host_elsewhere(world)
    await heir.records(0, [opening], 3)
    world.release()
    heir._publish_watermark(heir.owned[0], 0)
    await heir._put_right()
    await heir.records(0, [going_on], 3)
    assert heir.owned[0].partition.sessions["s"].counted() == (2, 0, 0, 0)


async def test_a_strangers_command_is_not_buried_before_its_session_was_read() -> None:
    world = World()
    zombie = await owning(world)
    other, opening, closing = world.event(session="t"), world.event(type_="session.opened"), world.event(type_="session.closed")
    world.held = {TOPICS.session_commands.name}
    await zombie.records(0, [other, opening, closing], 3)
    heir = await host_elsewhere(world)
    await heir.records(0, [other], 3)
    world.release()
    heir._publish_watermark(heir.owned[0], 0)
    await heir._put_right()
    heir._appender.flush()
    assert world.last(TOPICS.session_commands.name, b"s") is not None


# --- controls ----------------------------------------------------------------------------------------------


async def test_a_worker_that_reads_no_controls_any_more_fails() -> None:
    world = World()
    follower = following(world)
    await follower.start()
    it = await host(world, follower)
    await it.start()
    await turns()
    assert follower.task is not None
    assert follower.task.done()
    failed = it.failed.done()
    await it.stop()
    follower.task.exception()
    assert failed
    it.failed.exception()


# --- a worker that has been away asks before it writes ----------------------------------------------------


async def test_after_a_silence_the_group_is_asked_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    it = await owning(world)
    written = {place: len(log) for place, log in world.logs.items()}
    record = world.event()
    world.clock.advance(6_000)

    async def refused(_: dict[int, int]) -> None:
        raise GroupMovedOnError("the group has moved on")

    monkeypatch.setattr(it._offsets, "commit", refused)
    await it.records(0, [record], 1)
    await it.checkpoint([0])

    assert not it.owned
    written[TOPICS.access_events.name, 0] = written.get((TOPICS.access_events.name, 0), 0) + 1
    assert {place: len(log) for place, log in world.logs.items() if log} == {k: v for k, v in written.items() if v}


async def test_after_a_silence_of_the_broker_alone_work_goes_on() -> None:
    world = World()
    it = await owning(world)
    record = world.event()
    world.clock.advance(6_000)
    asked = len(world.commits)
    await it.records(0, [record], 1)

    assert len(world.commits) == asked + 1
    assert it.owned[0].partition.offset == 1


async def test_what_waits_for_a_lost_partition_does_not_leave() -> None:
    world = World()
    it = await owning(world)
    world.held.add(TOPICS.session_commands.name)
    await it.records(0, [world.event(type="session.closed")], 1)
    assert world.pending
    await it.lost([0])
    world.release()

    assert not world.log(TOPICS.session_commands.name)
