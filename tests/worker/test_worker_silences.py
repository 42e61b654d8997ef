"""Silences as every detection process follows them."""

import asyncio
from typing import Any

import pytest

from monitor.wire.silences import SilenceRecord, encode_lifted, encode_silence
from monitor.wire.times import Instant
from monitor.worker.silences import SilenceFollower
from tests.worker.test_worker_promises import NOW, World

ALERTS = "session-alerts"


def silence(world: World, name: str) -> None:
    record = encode_silence(SilenceRecord(name, ("subject=alice",), "me", "known", Instant(NOW), Instant(NOW + 1)), NOW)
    world.write(ALERTS, record.key, record.value)


async def test_they_are_read_whole_and_another_tuple_tells_that_they_changed(caplog: pytest.LogCaptureFixture) -> None:
    world: Any = World()
    silence(world, "one")
    world.write(ALERTS, b"c1f0", b"an alert")
    world.write(ALERTS, b"~silence/bad", b"{}")
    follower = SilenceFollower(ALERTS, world)
    await follower.start()
    assert [one.id for one in follower.standing] == ["one"]
    assert "silence_refused" in caplog.text
    before = follower.standing
    world.write(ALERTS, b"c1f1", b"an alert")
    follower.take(world.log(ALERTS)[3:])
    assert follower.standing is before
    silence(world, "two")
    lifted = encode_lifted("one")
    world.write(ALERTS, lifted.key, None)
    follower.take(world.log(ALERTS)[4:])
    assert [one.id for one in follower.standing] == ["two"]
    with pytest.raises(ConnectionError):
        await follower.watch()
    await follower.stop()
    await asyncio.sleep(0)
