"""A sidecar's process does not hold up all answers at once: not by a thread that computes, not by a collection of everything."""

import asyncio
import gc
import sys

import pytest

from monitor.gateway import pauses


@pytest.fixture(autouse=True)
def as_before() -> object:
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)


def test_threads_give_way_quickly() -> None:
    pauses.switch_quickly()
    assert sys.getswitchinterval() == pytest.approx(0.0005)


async def test_everything_is_collected_by_the_clock_alone_and_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "WHOLE", 0.01)
    usual, collected = gc.get_threshold(), []

    def note(phase: str, said: dict[str, int]) -> None:
        if phase == "stop" and said["generation"] == 2:
            collected.append(said)

    gc.callbacks.append(note)
    collecting = asyncio.create_task(pauses.collect_whole_by_the_clock())
    try:
        await asyncio.sleep(0)
        assert gc.get_threshold()[:2] == usual[:2]
        # With the interpreter's own threshold a tenth of these would do.
        kept = [[[number] for number in range(100)] for _ in range(2_000)]
        assert not collected
        while len(collected) < 2:
            await asyncio.sleep(0.005)
    finally:
        gc.callbacks.remove(note)
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
    assert gc.get_threshold() == usual
    assert len(kept) == 2_000
