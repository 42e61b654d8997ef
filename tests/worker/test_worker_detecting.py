"""The owner of detection's partitions, on a log in memory: nothing is lost or counted twice, whatever happens when."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from monitor.core.controls import Control, ControlType, Target
from monitor.core.errors import AbsenceError
from monitor.wire.codec import Record
from monitor.wire.controls import decode_control
from monitor.wire.topics import Topics
from monitor.worker import detecting
from monitor.worker.custody import GroupMovedOnError
from monitor.worker.detecting import Detective, DetectiveSettings
from tests.worker.test_worker_promises import NOW, Offsets, World

TOPICS = Topics("", 1, "app")
LIFECYCLE, STATE, ALERTS = TOPICS.session_lifecycle.name, TOPICS.detection_changelog.name, TOPICS.session_alerts.name


class Counting:
    """Counts the records of each name, and tells of every third. Each count knows up to which offset it has taken."""

    def __init__(self) -> None:
        self.counts: dict[bytes, tuple[int, int]] = {}
        self.time = 0
        self.acts: list[Control] = []
        self._dirty: set[bytes] = set()
        self._told: list[Record] = []

    def restore(self, key: bytes, value: bytes) -> None:
        count, applied = value.split(b",")
        self.counts[key] = int(count), int(applied)

    def take(self, offset: int, value: bytes) -> None:
        count, applied = self.counts.get(value, (0, -1))
        if offset <= applied:
            return
        self.counts[value] = count + 1, offset
        self._dirty.add(value)
        if (count + 1) % 3 == 0:
            self._told.append(Record(value, b"%d" % (count + 1), ()))

    def advance(self, now: int) -> None:
        self.time = now

    def alerts(self) -> Iterable[Record]:
        told, self._told = self._told, []
        return told

    def controls(self) -> Iterable[Control]:
        acts, self.acts = self.acts, []
        return acts

    def changed(self) -> Iterable[tuple[bytes, bytes | None]]:
        dirty, self._dirty = self._dirty, set()
        return [(key, b"%d,%d" % self.counts[key]) for key in sorted(dirty)]


def detective(world: World, start_from: str | None = "earliest") -> Detective:
    port: Any = world
    return Detective(
        DetectiveSettings(start_from=start_from), TOPICS, port, port, Offsets(world), world.clock, lambda _: Counting()
    )  # type: ignore[arg-type]


def said(world: World, *names: bytes) -> None:
    for name in names:
        world.write(LIFECYCLE, b"key", name)


async def deliver(it: Detective, world: World, start: int) -> None:
    log = world.log(LIFECYCLE)
    if log[start:]:
        await it.records(0, log[start:], len(log))


def counts(it: Detective) -> dict[bytes, int]:
    watching: Any = it.held[0].watching
    return {key: count for key, (count, _) in watching.counts.items()}


async def test_what_is_taken_is_written_and_then_committed_and_alerts_are_out_before() -> None:
    world = World()
    said(world, b"a", b"a", b"b", b"a")
    it = detective(world)
    assert await it.assigned([0]) == {0: 0}
    world.held.add(ALERTS)
    await deliver(it, world, 0)
    checking = asyncio.create_task(it.checkpoint([0]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (world.log(STATE), world.committed) == ([], {}), "an alert that is not out must not be remembered as told"
    world.release()
    await checking
    assert [(record.key, record.value) for record in world.log(ALERTS)] == [(b"a", b"3")]
    assert {record.key: record.value for record in world.log(STATE)} == {b"a": b"3,3", b"b": b"1,2"}
    assert world.committed == {0: 4}
    await it.checkpoint([0])
    assert world.commits == [{0: 4}], "nothing new, nothing committed"


@pytest.mark.parametrize("lost", ["all of it", "the commit"])
async def test_a_crash_between_state_and_commit_counts_nothing_twice(lost: str) -> None:
    world = World()
    said(world, b"a", b"a", b"b")
    it = detective(world)
    await it.assigned([0])
    await deliver(it, world, 0)
    await it.checkpoint([0])
    said(world, b"a", b"b", b"a")
    await deliver(it, world, 3)
    if lost == "the commit":
        world.commit_gate = asyncio.get_running_loop().create_future()
        checking = asyncio.create_task(it.checkpoint([0]))
        while len(world.log(STATE)) < 4:
            await asyncio.sleep(0)
        checking.cancel()
        world.commit_gate = None
    again = detective(world, start_from=None)
    assert await again.assigned([0]) == {0: 3}
    await deliver(again, world, 3)
    assert counts(again) == {b"a": 4, b"b": 2}
    told = {(record.key, record.value) for record in world.log(ALERTS)}
    assert told == {(b"a", b"3")}, "told again perhaps, never otherwise"


async def test_time_passes_where_all_is_taken_and_not_where_records_wait() -> None:
    world = World()
    said(world, b"a")
    it = detective(world)
    await it.assigned([0])
    watching: Any = it.held[0].watching
    it.pass_time()
    assert watching.time == 0
    await deliver(it, world, 0)
    world.clock.advance(60_000)
    it.pass_time()
    assert watching.time == NOW + 60_000 - detecting.SETTLED


async def test_a_first_start_has_to_say_where_and_a_later_one_goes_on() -> None:
    world = World()
    said(world, b"a", b"b")
    with pytest.raises(AbsenceError, match="--from earliest or --from latest"):
        await detective(world, None).assigned([0])
    it = detective(world, "latest")
    assert await it.assigned([0]) == {0: 2}
    said(world, b"c")
    await deliver(it, world, 2)
    await it.stop()
    assert await detective(world, "earliest").assigned([0]) == {0: 3}


async def test_what_retention_has_taken_is_passed_over_loudly(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.committed[0] = 7
    said(world, b"a")
    assert await detective(world).assigned([0]) == {0: 1}
    assert "detection_missed_records" in caplog.text


async def test_a_partition_that_is_lost_writes_and_commits_nothing() -> None:
    world = World()
    said(world, b"a")
    it = detective(world)
    await it.assigned([0])
    await deliver(it, world, 0)
    await it.lost([0])
    await it.checkpoint([0])
    await it.records(0, world.log(LIFECYCLE), 1)
    assert (world.log(STATE), world.committed, it.held) == ([], {}, {})


async def test_a_refused_commit_means_that_the_group_has_moved_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    said(world, b"a")
    it = detective(world)
    await it.assigned([0])
    await deliver(it, world, 0)

    async def refuse(offsets: dict[int, int]) -> None:
        raise GroupMovedOnError("theirs")

    monkeypatch.setattr(it._offsets, "commit", refuse)
    await it.start()
    while it.held:
        world.clock.advance(700)
        await asyncio.sleep(0)
    assert not it.failed.done()
    await it.stop()


async def test_what_breaks_in_the_background_is_the_process_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    it = detective(world)
    await it.assigned([0])
    monkeypatch.setattr(it, "pass_time", lambda: 1 / 0)
    await it.start()
    while not it.failed.done():
        world.clock.advance(1000)
        await asyncio.sleep(0)
    assert isinstance(it.failed.exception(), ZeroDivisionError)
    await it.stop()


async def test_what_is_to_be_done_is_written_as_a_control_before_it_is_committed() -> None:
    world = World()
    said(world, b"a")
    it = detective(world)
    await it.assigned([0])
    watching: Any = it.held[0].watching
    watching.acts = [Control(-1, 0, ControlType.LOCK, "act-1", Target(subject="a"), "timeout_churn: too many", "detection/timeout_churn", expires=NOW + 1000)]
    world.held.add(TOPICS.session_control.name)
    await deliver(it, world, 0)
    checking = asyncio.create_task(it.checkpoint([0]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (len(world.log(TOPICS.session_control.name)), world.committed) == (1, {}), "the policy alone is there"
    world.release()
    await checking
    record = world.log(TOPICS.session_control.name)[1]
    control = decode_control(record.value, offset=record.offset, appended=record.timestamp)
    assert (control.type, control.id, control.target.subject, control.by) == (ControlType.LOCK, "act-1", "a", "detection/timeout_churn")


async def test_a_follower_that_ends_ends_the_process() -> None:
    world = World()
    it = detective(world)

    async def broken() -> None:
        raise ConnectionError("the follower's connection broke")

    await it.start(broken())
    while not it.failed.done():
        await asyncio.sleep(0)
    assert isinstance(it.failed.exception(), ConnectionError)
    await it.stop()
