"""Checkpoints of sessions that were only touched: few bytes, nothing lost, whenever the worker dies."""

import random
from typing import Any

import msgspec
import pytest

from monitor.core.session import Dirty
from monitor.worker import owned, touches
from monitor.worker.state import TOUCH_PREFIX
from tests.worker.test_worker_promises import TOPICS, World, host

SESSIONS = 30


@pytest.fixture(autouse=True)
def _generations_end_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(touches, "LEAST", SESSIONS)
    monkeypatch.setattr(touches, "FULL", 2)


def state_of(owner: Any) -> dict[str, Any]:
    sessions = owner.owned[0].partition.sessions
    return {
        name: (s.last_activity, s.idle_set_at, s.applied_offset, s.counted(), s.start, s.epoch, s.attributes)
        for name, s in sorted(sessions.items())
    }


def live(world: World) -> dict[bytes, bytes]:
    last = {record.key: record.value for record in world.log(TOPICS.changelog.name)}
    return {key: value for key, value in last.items() if key.startswith(TOUCH_PREFIX) and value is not None}


async def test_touched_sessions_are_written_together_and_come_back_whole() -> None:
    dice = random.Random(5)
    world = World()
    owner = await host(world)
    await owner.assigned([0])
    most = 0
    for turn in range(60):
        world.clock.advance(700)
        # Some sessions are touched seldom: their state must outlive the generation that holds it.
        names = [f"s{dice.randrange(SESSIONS if turn % 20 == 0 else 8)}" for _ in range(20)]
        if turn == 0:
            names = [f"s{number}" for number in range(SESSIONS)] * 2
        records = [world.event(session=name, subject=f"user-{name}") for name in names]
        await owner.records(0, records, len(world.log(TOPICS.access_events.name)))
        await owner.checkpoint([0])
        most = max(most, len(live(world)))
        heir = await host(world)
        heir._settings = owner._settings
        assert await heir.assigned([0]) == {0: len(world.log(TOPICS.access_events.name))}
        assert state_of(heir) == state_of(owner)
        if dice.random() < 0.2:
            owner = heir
    assert 1 < most < 40, "the older go as the newer come"
    whole = [r for r in world.log(TOPICS.changelog.name) if r.key.startswith(b"s") and r.value is not None]
    assert len(whole) < 60 * 8, "a touch is not written whole"


async def test_death_between_acknowledgement_and_commit_loses_no_touch() -> None:
    world = World()
    owner = await host(world)
    await owner.assigned([0])
    records = [world.event(session="s1"), world.event(session="s1")]
    await owner.records(0, records, 2)
    await owner.checkpoint([0])
    world.clock.advance(1000)
    await owner.records(0, [world.event(session="s1")], 3)
    committed = dict(world.committed)
    await owner.checkpoint([0])
    expected = state_of(owner)
    world.committed = committed  # the commit never arrived; the position record of then still stands
    world.logs[TOPICS.changelog.name, 0] = [r for r in world.log(TOPICS.changelog.name) if r.value is not None]

    heir = await host(world)
    assert await heir.assigned([0]) == {0: 2}
    await heir.records(0, world.log(TOPICS.access_events.name)[2:], 3)
    assert state_of(heir) == expected


async def test_a_session_forgotten_between_two_turns_of_a_checkpoint_is_not_written_as_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owned, "SLICE", 10)
    world = World()
    owner = await host(world)
    await owner.assigned([0])
    opened = [world.event(session=f"s{number}") for number in range(SESSIONS)]
    await owner.records(0, opened, SESSIONS)
    await owner.checkpoint([0])
    world.clock.advance(1000)
    again = [world.event(session=f"s{number}") for number in range(SESSIONS)]
    await owner.records(0, again, 2 * SESSIONS)

    held = owner.owned[0]
    partition = held.partition
    checkpoint = owned.Checkpoint(held, TOPICS, world)
    partition.sessions["s29"].dirty = Dirty.CHANGED  # one of the first turn's ten is written whole
    assert checkpoint.encode_some()
    for name in ("s15", "s21"):  # one of each
        partition.rows.give_back(partition.sessions[name])
    taken = {name: (s.last_activity, s.applied_offset, s.counted()) for name, s in partition.sessions.items()}
    while checkpoint.encode_some():
        pass
    written = dict(checkpoint._encoded)
    seen = 0
    for key, value in written.items():
        if not key.startswith(TOUCH_PREFIX):
            continue
        stored = msgspec.msgpack.decode(value)
        for place, name in enumerate(stored[1]):
            applied = int.from_bytes(stored[2][2][place * 8 : place * 8 + 8], "little")
            assert applied == taken[name][1]
            seen += 1
    assert seen == SESSIONS - 2
    assert {key for key in written if not key.startswith(TOUCH_PREFIX)} == {b"s29", b"s15"}
