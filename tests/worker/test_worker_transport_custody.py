import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from monitor.core.errors import InvariantError
from monitor.worker.custody import Custody, GroupMovedOnError
from monitor.worker.delivery import Batch, Delivery


class Owner:
    """Writes down its calls; each may be held up or made to fail."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.errors: dict[str, Exception] = {}
        self.inside = 0

    async def _do(self, what: str, about: Any) -> None:
        assert self.inside == 0, "two calls at a time"
        self.inside += 1
        try:
            self.calls.append((what, about))
            if what in self.gates:
                await self.gates[what].wait()
            if what in self.errors:
                raise self.errors[what]
        finally:
            self.inside -= 1

    async def assigned(self, partitions: Any) -> dict[int, int]:
        await self._do("assigned", partitions)
        return dict.fromkeys(partitions, 0)

    async def revoked(self, partitions: Any) -> None:
        await self._do("revoked", partitions)

    async def lost(self, partitions: Any) -> None:
        await self._do("lost", partitions)

    async def records(self, partition: int, records: Any, end_offset: int) -> None:
        await self._do("records", [record.offset for record in records])

    async def stop(self) -> None:
        await self._do("stop", None)


@pytest.fixture
async def owner() -> Owner:
    return Owner()


@pytest.fixture
async def custody(owner: Owner) -> Custody:
    return Custody(owner, Delivery())


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def batch(custody: Custody, *offsets: int, run: int | None = None) -> Batch:
    records = [SimpleNamespace(offset=offset, timestamp=1, timestamp_type=1) for offset in offsets]
    return Batch(0, custody.delivery.open(0, offsets[0]) if run is None else run, 9, records)


async def test_records_in_hand_end_before_the_partitions_are_given_up(owner: Owner, custody: Custody) -> None:
    assert await custody.take_over([0, 1]) == {0: 0, 1: 0}
    gate = owner.gates["records"] = asyncio.Event()
    one = batch(custody, 0)
    two = batch(custody, 1, run=one.run)
    handing = [asyncio.create_task(custody.hand_over(each)) for each in (one, two)]
    await turn()
    giving = asyncio.create_task(custody.give_up(lost=False))
    await turn()
    assert owner.calls == [("assigned", [0, 1]), ("records", [0])]
    gate.set()
    await asyncio.gather(*handing, giving)
    assert owner.calls[2:] == [("revoked", [0, 1])]  # the second batch was not wanted any more
    assert one.done.is_set()
    assert two.done.is_set()
    assert custody.held == frozenset()


async def test_a_recovery_is_ended_and_its_partitions_are_written_off(owner: Owner, custody: Custody) -> None:
    owner.gates["assigned"] = asyncio.Event()
    taking = asyncio.create_task(custody.take_over([0, 1]))
    await turn()
    assert custody.taking == {0, 1}
    await custody.give_up(lost=False)
    assert await taking is None
    assert owner.calls == [("assigned", [0, 1]), ("lost", [0, 1])]
    assert not custody.failed


async def test_lost_partitions_are_never_checkpointed(owner: Owner, custody: Custody) -> None:
    await custody.take_over([2])
    await custody.give_up(lost=True)
    assert owner.calls == [("assigned", [2]), ("lost", [2])]


async def test_a_group_that_moved_on_during_the_checkpoint_makes_them_lost(
    owner: Owner, custody: Custody
) -> None:
    await custody.take_over([2])
    owner.errors["revoked"] = GroupMovedOnError("too late")
    await custody.give_up(lost=False)
    assert owner.calls[1:] == [("revoked", [2]), ("lost", [2])]
    assert not custody.failed


async def test_a_group_that_moved_on_during_records_stops_delivery_but_not_the_worker(
    owner: Owner, custody: Custody
) -> None:
    await custody.take_over([0])
    owner.errors["records"] = GroupMovedOnError("too late")
    await custody.hand_over(batch(custody, 0))
    assert custody.delivery.flowing() == {}
    assert not custody.failed
    await custody.give_up(lost=True)
    assert owner.calls[-1] == ("lost", [0])


@pytest.mark.parametrize("call", ["assigned", "records", "revoked", "lost", "stop"])
async def test_the_first_error_is_kept_and_nothing_is_delivered_after_it(
    owner: Owner, custody: Custody, call: str
) -> None:
    owner.errors[call] = InvariantError("broken")
    await custody.take_over([0])
    one = batch(custody, 0)
    await custody.hand_over(one)
    if call == "lost":
        await custody.give_up(lost=True)
    elif call == "revoked":
        await custody.give_up(lost=False)
    else:
        await custody.close()
    assert custody.failed
    custody.fail(ValueError("a later one"))
    with pytest.raises(InvariantError, match="broken"):
        custody.failure.result()
    before = len(owner.calls)
    await custody.hand_over(batch(custody, 1, run=one.run))
    assert await custody.take_over([0]) is None
    assert len(owner.calls) == before
    assert one.done.is_set()


async def test_close_is_the_last_call_and_comes_once(owner: Owner, custody: Custody) -> None:
    await custody.take_over([0])
    await custody.close()
    await custody.close()
    await custody.give_up(lost=False)
    assert await custody.take_over([1]) is None
    assert owner.calls == [("assigned", [0]), ("stop", None)]
