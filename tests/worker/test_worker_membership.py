"""Membership of the group: it ends when the broker knows the member no more, and not with its generation."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from monitor.worker.membership import stay_member

ILLEGAL_GENERATION = 22
UNKNOWN_MEMBER = 25


class Coordinator:
    """As aiokafka's: any refusal resets it, and a reset forgets who it is."""

    def __init__(self) -> None:
        self.member_id = "member-1"
        self.generation = 7
        self.answers: list[Any] = []

    async def _send_req(self, request: Any) -> Any:
        await asyncio.sleep(0)
        return self.answers.pop(0)

    def reset_generation(self) -> None:
        self.generation, self.member_id = -1, ""

    async def ask(self) -> None:
        await self._send_req(None)
        self.reset_generation()


def heartbeat(code: int) -> Any:
    return SimpleNamespace(error_code=code)


def commit(code: int) -> Any:
    return SimpleNamespace(topics=[("access-events", [(0, 0), (1, code)])])


@pytest.mark.parametrize("form", [heartbeat, commit])
@pytest.mark.parametrize(("code", "member"), [(ILLEGAL_GENERATION, "member-1"), (UNKNOWN_MEMBER, "")])
async def test_only_a_member_that_is_unknown_becomes_another(form: Any, code: int, member: str) -> None:
    coordinator = Coordinator()
    stay_member(coordinator)
    coordinator.answers = [form(code)]
    await coordinator.ask()
    assert (coordinator.generation, coordinator.member_id) == (-1, member)


async def test_several_refusals_at_once_and_nobody_waiting_leave_a_member() -> None:
    coordinator = Coordinator()
    stay_member(coordinator)
    coordinator.answers = [commit(ILLEGAL_GENERATION)] * 8
    asked = [asyncio.create_task(coordinator.ask()) for _ in range(8)]
    await asyncio.sleep(0)
    for waiting in [asyncio.ensure_future(asyncio.shield(task)) for task in asked]:
        waiting.cancel()
    await asyncio.gather(*asked)
    assert coordinator.member_id == "member-1"


async def test_an_id_that_is_refused_at_the_next_join_is_given_up() -> None:
    coordinator = Coordinator()
    stay_member(coordinator)
    coordinator.answers = [commit(ILLEGAL_GENERATION), heartbeat(UNKNOWN_MEMBER)]
    await coordinator.ask()
    await coordinator.ask()
    assert coordinator.member_id == ""
