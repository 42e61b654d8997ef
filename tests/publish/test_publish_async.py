"""The same for asyncio: awaited, and the loop never stands still."""

import asyncio
import time

import pytest

from monitor.broker.port import free_port
from monitor.core.errors import AbsenceError, InputError
from monitor.publish import AsyncPublisher, BufferFull, PublisherClosed
from tests.publish.worlds import broker_away


async def test_the_four_events_arrive_in_order(log):
    async with AsyncPublisher(**log.settings(source="gw")) as publisher:
        await publisher.opened("s", subject="alice")
        await publisher.activity("s")
        await publisher.reauthenticated("s", auth_time=1_795_500_000)
        await publisher.flush()
        assert (publisher.published, publisher.buffered) == (3, 0)
        await publisher.closed("s")
        await publisher.alive()
    assert [event.type.split(".")[1] for event in log.events() if event.session_id] == [
        "opened", "activity", "reauthenticated", "closed",
    ]  # fmt: skip
    assert sum(event.type == "source.alive" for event in log.events()) == 8


async def test_back_pressure_is_awaited_without_blocking_the_loop(log):
    longest, last, running = 0.0, time.monotonic(), True

    async def beat():
        nonlocal longest, last
        while running:
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    async with AsyncPublisher(**log.settings(buffer_limit=5, granularity=0, linger=20)) as publisher:
        heart = asyncio.create_task(beat())
        await asyncio.gather(*(publisher.activity(f"s{n % 20}") for n in range(100)))
        running = False
        await heart
    assert publisher.published == 100
    assert longest < 1  # the waits together take longer


async def test_a_full_buffer_raises_where_that_is_wanted(log):
    async with AsyncPublisher(**log.settings(buffer_limit=2, on_full="raise", linger=500)) as publisher:
        await publisher.opened("a")
        await publisher.opened("b")
        with pytest.raises(BufferFull):
            await publisher.opened("c")


async def test_a_cancelled_call_takes_its_event_back(log):
    async with AsyncPublisher(**log.settings(buffer_limit=1, linger=500)) as publisher:
        await publisher.opened("a")
        waiting = asyncio.create_task(publisher.opened("b"))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await publisher.opened("c")
    assert sorted(event.session_id for event in log.events()) == ["a", "c"]


@broker_away
async def test_wrong_uses_are_told():
    publisher = AsyncPublisher(bootstrap_servers=f"127.0.0.1:{free_port()}", connect_timeout=0.3)
    with pytest.raises(PublisherClosed, match="not started"):
        await publisher.opened("s")
    with pytest.raises(AbsenceError, match="no broker answers"):
        await publisher.start()
    await publisher.close()
    with pytest.raises(InputError):
        await AsyncPublisher().start()
