"""The engine shell on real brokers: whole fetches, positions, rebalances, stops, faults."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from transport_world import RecordingOwner, Worker, World, appender, fill, make_topic, until, world_of

from monitor.broker.apache import runnable
from monitor.broker.connection import Connection
from monitor.core.errors import InvariantError

WORLDS = [
    pytest.param("embedded", marks=[pytest.mark.embedded, pytest.mark.xdist_group("embedded-shell")]),
    pytest.param(
        "apache",
        marks=[
            pytest.mark.kafka,
            pytest.mark.xdist_group("apache-shell"),
            pytest.mark.skipif(
                not runnable(), reason="no Java, or neither Kafka's jars nor Maven to fetch them"
            ),
        ],
    ),
]
_numbers = count()


@pytest.fixture(scope="module", params=WORLDS)
def broker(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_of(request.param) as one:
        yield one


@pytest.fixture
async def topic(broker: World) -> str:
    return await make_topic(broker.address, f"events-{os.getpid()}-{next(_numbers)}")


def contiguous(offsets: list[int]) -> bool:
    return offsets == list(range(offsets[0], offsets[0] + len(offsets)))


async def committed(address: Connection, group: str, topic: str, partitions: int = 4) -> dict[int, int]:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(**address.aiokafka())
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
        return {tp.partition: meta.offset for tp, meta in found.items() if tp.topic == topic}
    finally:
        await admin.close()


async def test_every_record_comes_once_and_the_last_checkpoint_is_committed(
    broker: World, topic: str
) -> None:
    await fill(broker.address, topic, 4000)
    async with Worker(broker.address, topic, f"g-{topic}") as worker:
        await until(lambda: worker.own.count == 4000)
        owner = worker.own
        assert owner.got == {p: list(range(1000)) for p in range(4)}
        assert owner.ends == dict.fromkeys(range(4), 1000)
        assert worker.engine.offsets is not None
        assert worker.engine.offsets.exact
        assert {record.timestamp_type for record in owner.records_seen} == {1}
        assert len(worker.engine.app.consumer._acked) == 0  # nothing piles up in Faust
        assert not worker.engine.app.consumer._unacked_messages
    assert owner.stopped == 1
    assert await committed(broker.address, f"g-{topic}", topic) == dict.fromkeys(range(4), 1000)
    await fill(broker.address, topic, 40, start=4000)
    async with Worker(broker.address, topic, f"g-{topic}") as again:
        await until(lambda: again.own.count >= 40)
        assert again.own.got == {p: list(range(1000, 1010)) for p in range(4)}


async def test_delivery_begins_where_the_owner_says(broker: World, topic: str) -> None:
    await fill(broker.address, topic, 400)

    def prepare(owner: RecordingOwner) -> None:
        owner.starts = {0: 17, 1: 99, 2: 100}
        owner.omit = {3}

    async with Worker(broker.address, topic, f"g-{topic}", prepare=prepare) as worker:
        await until(lambda: worker.own.count >= 84)
        await fill(broker.address, topic, 4, start=400)
        await until(lambda: worker.own.count >= 87)
        assert worker.own.got == {0: list(range(17, 101)), 1: [99, 100], 2: [100]}


async def test_a_paused_partition_stays_still_and_goes_on_where_it_stopped(broker: World, topic: str) -> None:
    await fill(broker.address, topic, 4000)

    def prepare(owner: RecordingOwner) -> None:
        def pause(partition: int, records: Any) -> None:
            if partition == 1 and records[0].offset == 0:
                owner.ports.offsets.pause(1)

        owner.on_records = pause

    async with Worker(broker.address, topic, f"g-{topic}", prepare=prepare, poll_records=300) as worker:
        own = worker.own
        await until(lambda: own.count - len(own.got.get(1, ())) == 3000 and 1 in own.got)
        held = len(own.got[1])
        assert 0 < held < 1000
        await fill(broker.address, topic, 400, start=4000)
        await until(lambda: len(own.got[3]) == 1100)
        assert len(own.got[1]) == held
        own.ports.offsets.resume(1)
        own.ports.offsets.pause(1)  # what is fetched between the two must not come
        own.ports.offsets.resume(1)
        await until(lambda: len(own.got[1]) >= 1100)
        assert own.got[1] == list(range(1100))


async def test_a_start_that_the_broker_does_not_hold_halts_that_partition_alone(
    broker: World, topic: str
) -> None:
    await fill(broker.address, topic, 400)
    async with Worker(
        broker.address, topic, f"g-{topic}", prepare=lambda owner: owner.starts.update({2: 5000})
    ) as worker:
        await until(lambda: worker.own.count == 300)
        assert worker.engine.offsets is not None
        offsets = worker.engine.offsets
        await until(lambda: bool(offsets.halted))
        assert "offset 5000 is wanted, the broker holds 0 to 100" in offsets.halted[2]
        await fill(broker.address, topic, 40, start=400)
        await until(lambda: worker.own.count == 330)
        assert 2 not in worker.own.got
        assert not worker.done


async def test_the_first_error_of_the_owner_ends_the_worker_without_a_commit(
    broker: World, topic: str
) -> None:
    await fill(broker.address, topic, 400)

    def prepare(owner: RecordingOwner) -> None:
        def fail(partition: int, _: Any) -> None:
            owner.next.clear()
            raise InvariantError(f"broken at {partition}")

        owner.on_records = fail

    async with Worker(broker.address, topic, f"g-{topic}", prepare=prepare) as worker:
        worker.expected_failure = True
        await until(lambda: worker.done)
        assert worker.task is not None
        with pytest.raises(InvariantError, match="broken at"):
            worker.task.result()
        assert len(worker.own.got) == 1  # nothing came after it
    assert set((await committed(broker.address, f"g-{topic}", topic)).values()) == {0}


async def test_without_append_times_the_receive_time_stands_in(broker: World) -> None:
    topic = await make_topic(broker.address, f"created-{next(_numbers)}", message_timestamp_type="CreateTime")
    await fill(broker.address, topic, 400)
    async with Worker(broker.address, topic, f"g-{topic}") as worker:
        await until(lambda: worker.own.count == 400)
        assert worker.engine.offsets is not None
        assert not worker.engine.offsets.exact
        for partition in range(4):
            stamps = [record.timestamp for record in worker.own.records_of[partition]]
            assert stamps == sorted(stamps)


async def test_workers_join_and_leave_without_gap_or_overlap(broker: World, topic: str) -> None:
    diary: list[Any] = []
    group = f"g-{topic}"
    written = 0
    stop = asyncio.Event()

    async def produce() -> None:
        nonlocal written
        async with appender(broker.address) as one:
            while not stop.is_set():
                for number in range(40):
                    one.append(topic, number % 4, b"k", b"v")
                await one.settled(one.mark())
                written += 40
                await asyncio.sleep(0.005)

    def slow(owner: RecordingOwner) -> None:
        owner.slow_revoked = 0.3

    producing = asyncio.create_task(produce())
    try:
        async with Worker(broker.address, topic, group, name="a", diary=diary, prepare=slow) as a:
            await until(lambda: a.own.count > 200)
            async with Worker(broker.address, topic, group, name="b", diary=diary, prepare=slow) as b:
                await until(lambda: b.own.count > 200 and len(a.own.next) == len(b.own.next) == 2)
                seen = a.own.count
                await until(lambda: a.own.count > seen + 200)
            await until(lambda: len(a.own.next) == 4)
            stop.set()
            await producing
            for partition in range(4):
                everything = list(range(written // 4))
                await until(lambda p=partition: a.own.next.get(p) == written // 4)  # type: ignore[misc]
                got = sorted(a.own.got.get(partition, []) + b.own.got.get(partition, []))
                if broker.keeps_its_word:
                    assert got == everything, "a gap, or a record twice although every hand-over committed"
                    for owner in (a.own, b.own):
                        assert owner.got.get(partition, []) == sorted(owner.got.get(partition, []))
                else:
                    assert sorted(set(got)) == everything, "a gap"
    finally:
        stop.set()
        await producing
    held: dict[int, str] = {}
    for _, name, what, about in sorted(diary, key=lambda entry: entry[0]):
        if what == "assigning":
            for partition in about:
                assert partition not in held, (
                    f"{name} takes {partition} before {held.get(partition)} has let go"
                )
                held[partition] = name
        elif what in {"revoked", "lost", "stop"}:
            for partition in about:
                held.pop(partition, None)


async def test_a_rebalance_during_recovery_ends_it(broker: World, topic: str) -> None:
    await fill(broker.address, topic, 400)
    diary: list[Any] = []

    def slow(owner: RecordingOwner) -> None:
        owner.slow_assigned = 2.0

    async with Worker(broker.address, topic, f"g-{topic}", name="a", diary=diary, prepare=slow) as a:
        await until(lambda: any(entry[2] == "assigning" for entry in diary))
        async with Worker(broker.address, topic, f"g-{topic}", name="b", diary=diary) as b:
            await until(lambda: a.own.count + b.own.count == 400)
            assert len(a.own.got) == len(b.own.got) == 2
    a_did = [(what, about) for _, name, what, about in diary if name == "a"]
    assert a_did[0] == ("assigning", [0, 1, 2, 3])
    assert a_did[1] == ("lost", [0, 1, 2, 3])  # never owned whole: nothing was written for them
    assert a_did[2][0] == "assigning"
    assert len(a_did[2][1]) == 2


@pytest.mark.slow
async def test_a_recovery_longer_than_the_session_timeout_keeps_the_membership(
    broker: World, topic: str
) -> None:
    await fill(broker.address, topic, 40)
    async with Worker(
        broker.address, topic, f"g-{topic}", prepare=lambda owner: setattr(owner, "slow_assigned", 9.0)
    ) as worker:
        await until(lambda: worker.own.count == 40)
        assert [entry[2] for entry in worker.diary] == ["assigning", "assigned"]


# --- processes -------------------------------------------------------------------------------------------


class Process:
    """A worker in a process of its own, which writes its diary to a file."""

    def __init__(self, address: Connection, topic: str, group: str, diary: Path) -> None:
        self.diary = diary
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("transport_worker.py")), address.bootstrap_servers, topic, group,
             str(diary)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip

    def lines(self) -> list[Any]:
        text = self.diary.read_text() if self.diary.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def said(self, what: str) -> list[Any]:
        return [about for said, about in self.lines() if said == what]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()


async def test_sigterm_checkpoints_leaves_the_group_and_exits_cleanly(
    broker: World, topic: str, tmp_path: Path
) -> None:
    await fill(broker.address, topic, 400)
    group = f"g-{topic}"
    process = Process(broker.address, topic, group, tmp_path / "diary")
    try:
        await until(lambda: sum(count for _, count in process.said("records")) == 400)
        process.process.send_signal(signal.SIGTERM)
        await until(lambda: process.process.poll() is not None, 10)
        assert process.process.returncode == 0
        assert len(process.said("stop")) == 1
        assert await committed(broker.address, group, topic) == dict.fromkeys(range(4), 100)
        before = asyncio.get_running_loop().time()
        async with Worker(broker.address, topic, group) as worker:
            await until(lambda: len(worker.own.next) == 4)  # left, not timed out
            assert asyncio.get_running_loop().time() - before < 4
    finally:
        process.end()


@pytest.mark.slow
async def test_a_worker_frozen_beyond_its_session_writes_nothing_when_it_wakes(
    broker: World, topic: str, tmp_path: Path
) -> None:
    if not broker.keeps_its_word:
        pytest.skip("the embedded broker does not bury a silent member of a group")
    await fill(broker.address, topic, 400)
    group = f"g-{topic}"
    process = Process(broker.address, topic, group, tmp_path / "diary")
    try:
        await until(lambda: sum(count for _, count in process.said("records")) == 400)
        process.process.send_signal(signal.SIGSTOP)
        async with Worker(broker.address, topic, group) as worker:
            await until(lambda: len(worker.own.next) == 4, 40)
            await fill(broker.address, topic, 40, start=400)
            # Nothing was committed by the frozen one, so all of it comes again.
            await until(lambda: worker.own.count == 440)
            process.process.send_signal(signal.SIGCONT)
            await until(lambda: bool(process.said("lost")))
            assert process.said("lost")[0] == [0, 1, 2, 3]
            assert process.said("revoked") == []
            await until(lambda: len(process.said("assigned")) == 2)  # and it is a member again
            assert process.process.poll() is None
    finally:
        process.end()


# --- the broker goes away ----------------------------------------------------------------------------------


@pytest.fixture(params=WORLDS)
def own_broker(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_of(request.param) as one:
        yield one


@pytest.mark.slow
async def test_a_broker_that_is_killed_and_comes_back_costs_time_alone(own_broker: World) -> None:
    if not own_broker.keeps_its_word:
        pytest.skip("the embedded broker forgets topics and producers when it is killed")
    address = own_broker.address
    topic = await make_topic(address, "restart")
    written = 0
    async with Worker(address, topic, "g-restart") as worker, appender(address) as one:
        acknowledged: list[Any] = []
        one.on_acknowledged(acknowledged.append)
        for round_number in range(60):
            for number in range(400):
                one.append(topic, number % 4, b"k", b"%d" % (written // 4))
                written += 1
            await asyncio.sleep(0.01)
            if round_number == 20:
                await asyncio.to_thread(own_broker.kill)
            if round_number == 40:
                assert one.pending > 0
                await asyncio.to_thread(own_broker.again)
        await asyncio.wait_for(one.settled(one.mark()), 60)
        assert one.pending == 0
        await until(lambda: worker.own.count >= written, 60)
        for partition in range(4):
            values = [int(r.value) for r in worker.own.records_of[partition]]
            assert values == list(range(written // 4)), "lost, doubled or out of order"
            acks = [a for a in acknowledged if a.partition == partition]
            position = 0
            for ack in acks:
                assert ack.base_offset == position
                position += ack.count
            assert position == written // 4


@pytest.mark.slow
async def test_a_stop_without_a_broker_is_bounded(own_broker: World) -> None:
    topic = await make_topic(own_broker.address, "away")
    await fill(own_broker.address, topic, 40)
    worker = Worker(own_broker.address, topic, "g-away", stop_timeout=2.0)
    await worker.__aenter__()
    await until(lambda: worker.own.count == 40)
    await asyncio.to_thread(own_broker.kill)
    worker.engine.stop()
    assert worker.task is not None
    await asyncio.wait_for(asyncio.gather(worker.task, return_exceptions=True), 15)
