"""Alive and ready: what an orchestrator is told."""

import asyncio
from types import SimpleNamespace

import pytest

from monitor.observe.health import STALLED_AFTER, Health


@pytest.fixture
async def worker():
    failed = asyncio.get_running_loop().create_future()
    return SimpleNamespace(owned={0: object()}, recovering=set(), stopped={}, failed=failed)


async def test_alive_while_the_loop_turns(worker):
    health = Health(worker)
    assert health.alive(10).ok
    health.beat(1000)
    assert health.alive(1000 + STALLED_AFTER).ok
    stalled = health.alive(1001 + STALLED_AFTER)
    assert not stalled.ok
    assert "10.0 s" in stalled.reason


async def test_ready_when_assigned_and_recovered(worker):
    assert Health(worker).ready().ok


async def test_not_ready_without_partitions(worker):
    worker.owned.clear()
    assert not Health(worker).ready().ok


async def test_not_ready_while_any_partition_recovers(worker):
    worker.recovering |= {5, 3}
    verdict = Health(worker).ready()
    assert not verdict.ok
    assert "3, 5" in verdict.reason


async def test_not_ready_after_a_failure_and_says_which(worker):
    worker.failed.set_exception(RuntimeError("offset 7 is gone"))
    verdict = Health(worker).ready()
    assert not verdict.ok
    assert "offset 7 is gone" in verdict.reason


async def test_not_ready_while_it_stops(worker):
    worker.failed.cancel()
    assert Health(worker).ready().reason == "stopping"


async def test_a_stopped_partition_is_not_ready_and_says_why(worker):
    worker.stopped[3] = "offsets and state differ"
    ready = Health(worker).ready()
    assert not ready.ok
    assert "partition 3 is stopped: offsets and state differ" in ready.reason
