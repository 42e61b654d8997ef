"""An event loop in a thread of its own."""

import asyncio
import threading

import pytest

from monitor.core.errors import InvariantError
from monitor.gateway.background import Background


async def doubled(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_it_gives_what_a_coroutine_gives_until_it_is_stopped() -> None:
    before = threading.active_count()
    one = Background("under-test")
    one.start()
    one.start()
    assert one.wait(doubled(2), 30) == 4
    assert "under-test" in {thread.name for thread in threading.enumerate()}
    one.stop()
    one.stop()
    assert threading.active_count() == before
    with pytest.raises(InvariantError):
        _ = one.loop
    one.start()
    assert one.wait(doubled(3), 30) == 6
    one.stop()


def test_who_does_not_get_an_answer_in_time_leaves_nothing_running() -> None:
    ended = threading.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    one = Background("under-test")
    one.start()
    with pytest.raises(TimeoutError):
        one.wait(waits(), 0.05)
    assert ended.wait(30)
    one.stop()


def test_what_goes_on_is_ended_with_it() -> None:
    began, ended = threading.Event(), threading.Event()

    async def goes_on() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    one = Background("under-test")
    one.start()
    asyncio.run_coroutine_threadsafe(goes_on(), one.loop)
    assert began.wait(30)
    one.stop()
    assert ended.is_set()
