"""What is told of sessions waits for commands during a sweep, and is told in the order it was decided."""

import json
from typing import Any

import pytest

from monitor.core.controls import Control, ControlType, Target
from monitor.core.effects import Revoked
from monitor.core.events import Event, EventType, Tick
from monitor.core.partition import Partition, Position
from monitor.observe.metrics import WorkerMetrics
from monitor.testing.driver import Driver
from monitor.wire.codec import Record
from monitor.wire.commands import encode_command
from monitor.wire.lifecycle import encode_lifecycle
from monitor.wire.topics import Topics
from monitor.worker import outlet as outlets
from monitor.worker.outlet import LogOutlet
from monitor.worker.ports import Appended
from tests.worker.test_worker_promises import CALM, World, controls

TOPICS = Topics("", 8, "app")
NOW = 1_790_000_000_000


class Written:
    """The records that were handed to the appender: (topic, session id), and as they were."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str]] = []
        self.whole: list[Record] = []

    def append(self, topic: str, _partition: int, key: Any, value: bytes, headers: Any = ()) -> None:
        self.records.append((topic, json.loads(value).get("session_id", "")))
        self.whole.append(Record(key, value, headers))

    def of(self, topic: Any) -> list[str]:
        return [session_id for name, session_id in self.records if name == topic.name]


@pytest.fixture
def world() -> tuple[LogOutlet, Written, Driver]:
    driver = Driver("version: 1\ndefaults: {idle: 1h, absolute: 12h}\n", now=NOW)
    for number in range(6):
        driver.append({"type": "session.closed", "session_id": f"s{number}"}, NOW + number)
    driver.lifecycle[:] = driver.lifecycle[1::2]  # what closed them
    written: Any = Written()
    return LogOutlet(0, TOPICS, written, World().clock, WorkerMetrics()), written, driver


def test_what_is_told_waits_for_commands_and_keeps_its_order(world: tuple[LogOutlet, Written, Driver]) -> None:
    outlet, written, driver = world
    told, commands = driver.lifecycle, driver.commands
    outlet.effect(told[0])
    outlet.hold()
    for lifecycle, command in zip(told[1:5], commands[1:5], strict=True):
        outlet.effect(command)
        outlet.effect(lifecycle)
    assert written.of(TOPICS.session_commands) == ["s1", "s2", "s3", "s4"]
    assert written.of(TOPICS.session_lifecycle) == ["s0"]
    assert not outlet.release(3)
    outlet.effect(told[5])  # it may not overtake what waits
    assert written.of(TOPICS.session_lifecycle) == ["s0", "s1", "s2", "s3"]
    assert outlet.release(3)
    assert written.of(TOPICS.session_lifecycle) == [f"s{number}" for number in range(6)]
    outlet.effect(told[0])
    assert len(written.of(TOPICS.session_lifecycle)) == 7, "nothing waits any more"


def test_no_more_waits_than_memory_has_room_for(
    world: tuple[LogOutlet, Written, Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    outlet, written, driver = world
    monkeypatch.setattr(outlets, "TOLD_LATER", 2)
    outlet.hold()
    for lifecycle in driver.lifecycle:
        outlet.effect(lifecycle)
    assert written.of(TOPICS.session_lifecycle) == ["s0", "s1", "s2", "s3"]


def test_commands_are_counted_by_type_and_reason(world: tuple[LogOutlet, Written, Driver]) -> None:
    outlet, _, driver = world
    for command in driver.commands:
        outlet.effect(command)
    assert outlet._metrics.commands.labels("session.expire", "closed")._value.get() == 6


# --- many at once ------------------------------------------------------------------------------------------


@pytest.fixture
def revoked() -> Revoked:
    partition = Partition(0, Position(0, controls_to=0), controls(CALM))
    for number in range(6):
        partition.begin(number, NOW)
        event = Event(
            EventType.OPENED, f"s{number}", NOW, NOW, subject=f"u{number}" if number else None,
            classification="restricted" if number % 2 else "internal",
        )  # fmt: skip
        partition.apply(event, number)
    partition.effects.clear()
    partition.controls.add(Control(1, NOW + 1, ControlType.REVOKE, "c", Target(all=True), "why", "me"))
    partition.begin(6, NOW + 2)
    partition.tick(Tick("me", 1), 6)
    assert partition.sweep(10)
    (effect,) = partition.effects
    assert isinstance(effect, Revoked)
    return effect


def test_who_is_revoked_together_gets_the_command_and_the_record_of_each(
    world: tuple[LogOutlet, Written, Driver], revoked: Revoked
) -> None:
    outlet, written, _ = world
    outlet.effect(revoked)
    now = World().clock.now()
    commands = [encode_command(revoked.command(session), now) for session in revoked.sessions]
    assert written.whole == [*commands, *(encode_lifecycle(revoked.told(session)) for session in revoked.sessions)]
    assert outlet._metrics.commands.labels("session.revoke", "admin_revoked")._value.get() == 6


def test_what_is_told_of_many_waits_too_and_keeps_its_order(
    world: tuple[LogOutlet, Written, Driver], revoked: Revoked
) -> None:
    outlet, written, driver = world
    outlet.hold()
    outlet.effect(driver.lifecycle[5])
    outlet.effect(revoked)
    assert written.of(TOPICS.session_commands) == [f"s{number}" for number in range(6)]
    assert written.of(TOPICS.session_lifecycle) == []
    outlet.effect(driver.lifecycle[0])
    assert not outlet.release(3)
    assert written.of(TOPICS.session_lifecycle) == ["s5", "s0", "s1"]
    assert outlet.release(10)
    assert written.of(TOPICS.session_lifecycle) == ["s5", *(f"s{number}" for number in range(6)), "s0"]


def test_many_together_take_no_room(
    world: tuple[LogOutlet, Written, Driver], revoked: Revoked, monkeypatch: pytest.MonkeyPatch
) -> None:
    outlet, written, driver = world
    monkeypatch.setattr(outlets, "TOLD_LATER", 2)
    outlet.hold()
    outlet.effect(revoked)
    outlet.effect(driver.lifecycle[0])
    assert written.of(TOPICS.session_lifecycle) == []
    outlet.effect(driver.lifecycle[1])
    assert written.of(TOPICS.session_lifecycle) == ["s0"], "the oldest first, as ever"


def test_each_command_is_timed_from_its_due_by_the_acknowledgements_as_they_come(
    world: tuple[LogOutlet, Written, Driver], revoked: Revoked
) -> None:
    outlet, _, driver = world
    timings = outlet._metrics.due_to_publish
    due = revoked.command(revoked.sessions[0]).due
    outlet.watermark(NOW, NOW, 0, "me", "")
    outlet.effect(revoked)
    outlet.effect(driver.commands[0])

    def acknowledge(count: int, at: int) -> None:
        outlet.acknowledged(Appended(TOPICS.session_commands.name, 0, 0, count, at, 0, 0))

    acknowledge(3, due + 20)  # the watermark, and two
    assert (sum(timings._counts), round(timings._sum, 6)) == (2, 0.04)
    acknowledge(4, due + 500)
    assert (sum(timings._counts), round(timings._sum, 6)) == (6, 2.04)
    acknowledge(1, driver.commands[0].due + 10)
    acknowledge(5, due + 500)  # of which we know nothing
    assert (sum(timings._counts), round(timings._sum, 6)) == (7, 2.05)
