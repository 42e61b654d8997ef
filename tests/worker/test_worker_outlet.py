"""What is told of sessions waits for commands during a sweep, and is told in the order it was decided."""

import json
from typing import Any

import pytest

from monitor.observe.metrics import WorkerMetrics
from monitor.testing.driver import Driver
from monitor.wire.topics import Topics
from monitor.worker import outlet as outlets
from monitor.worker.outlet import LogOutlet
from tests.worker.test_worker_promises import World

TOPICS = Topics("", 8, "app")
NOW = 1_790_000_000_000


class Written:
    """The records that were handed to the appender: (topic, session id)."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str]] = []

    def append(self, topic: str, _partition: int, _key: Any, value: bytes, _headers: Any = ()) -> None:
        self.records.append((topic, json.loads(value)["session_id"]))

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
