"""Timers: what rings, and in which order."""

from types import SimpleNamespace
from typing import Any

from monitor.core.timers import Timers


def session(name: str) -> Any:
    return SimpleNamespace(session_id=name, timer=0)


def test_an_id_that_came_back_rings_beside_its_forgotten_namesake() -> None:
    timers = Timers()
    timers.next(5000)
    forgotten, again = session("s"), session("s")
    timers.arm(forgotten, 4000, 2)
    forgotten.timer = 0
    timers.arm(again, 4000, 2)

    assert timers.ring(5000) == (4000, again)
    assert timers.ring(5000) is None
