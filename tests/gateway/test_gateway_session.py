"""The end of a session, as an application hears of it."""

import asyncio
import threading

import pytest

from monitor.gateway import Facts
from monitor.gateway.session import Ending, Session


def test_it_is_asked_and_says_why() -> None:
    ending = Ending()
    assert (bool(ending), ending.reason) == (False, "")
    ending.end("idle_timeout")
    ending.end("admin_revoked")
    assert (bool(ending), ending.reason) == (True, "idle_timeout")


def test_everybody_is_told_once_and_who_comes_late_at_once() -> None:
    ending, told = Ending(), []
    ending.tell(lambda: told.append(1))
    ending.tell(lambda: told.append(2))
    ending.end("x")
    ending.end("x")
    ending.tell(lambda: told.append(3))
    assert told == [1, 2, 3]


def test_a_fault_of_one_does_not_keep_it_from_the_others() -> None:
    ending, told = Ending(), []
    ending.tell(lambda: 1 / 0)
    ending.tell(lambda: told.append(1))
    with pytest.raises(ExceptionGroup):
        ending.end("x")
    assert told == [1]


def test_a_thread_waits() -> None:
    ending, found = Ending(), []
    waiting = threading.Thread(target=lambda: found.append(ending.wait(30)))
    waiting.start()
    ending.end("x")
    waiting.join(30)
    assert found == [True]
    other = Ending()
    assert not other.wait(0)
    assert other._callbacks == []


async def test_a_task_waits() -> None:
    ending = Ending()

    async def wait() -> str:
        return await ending

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    threading.Thread(target=ending.end, args=("risk",)).start()
    assert await asyncio.wait_for(waiting, 30) == "risk"
    assert await ending == "risk"


async def test_who_no_longer_waits_leaves_nothing_behind() -> None:
    ending = Ending()

    async def wait() -> None:
        await ending

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.001)
    assert ending._callbacks == []


def test_a_loop_that_is_gone_is_no_hindrance() -> None:
    ending = Ending()

    async def wait() -> None:
        asyncio.create_task(_wait(ending))  # noqa: RUF006 - to be dropped with the loop
        await asyncio.sleep(0)

    async def _wait(one) -> None:
        await one

    asyncio.run(wait())
    ending.end("x")


def test_a_session_is_what_is_known_of_it() -> None:
    ending = Ending()
    session = Session.of(Facts("s-1", subject="alice", roles=("a",), acr="aal2", auth_time=5), ending, stale=True)
    assert (session.session_id, session.subject, session.roles, session.acr, session.auth_time) == ("s-1", "alice", ("a",), "aal2", 5)
    assert (session.stale, session.ended) == (True, ending)
