"""One worker process: the worker's own code on simulated ports, and what can be done to it from outside.

Its own: Host, Intake, recovery, witness, follower, custody, delivery, appender with its lanes. Simulated: the producer
below the appender, the reader, the group, and the clock.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from monitor.core.errors import InvariantError
from monitor.core.standing import ControlLog
from monitor.observe.metrics import WorkerMetrics
from monitor.wire.topics import Topics
from monitor.worker.appender import KafkaAppender
from monitor.worker.custody import Custody, GroupMovedOnError
from monitor.worker.delivery import Batch, Delivery
from monitor.worker.follower import ControlFollower
from monitor.worker.main import ensure_policy
from monitor.worker.owner import Host, OwnerSettings
from tests.simulation.cluster import BASE, SESSION_TIMEOUT, Cluster
from tests.simulation.virtual import Loop

HEARTBEAT = 1000
FETCH = 40
"""Records in one fetch at most."""
EPOCH = 77_000
"""What monotonic clocks show when the simulation begins."""
BATCH = 60
"""Records in one batch of the producer at most."""


class Builder:
    """As aiokafka's BatchBuilder."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes | None, bytes | None, Any]] = []

    def append(self, *, timestamp: Any, key: bytes | None, value: bytes | None, headers: Any) -> object | None:
        if len(self.records) >= BATCH:
            return None
        self.records.append((key, value, headers))
        return self

    def close(self) -> None: ...


class Appender(KafkaAppender):
    """The worker's appender on a simulated idempotent producer."""

    def __init__(self, process: "Process") -> None:
        super().__init__(SimpleNamespace(aiokafka=dict))
        self._process = process

    async def _connect(self) -> Any:
        return self._process


class Process:
    """Born, killed, frozen and thawed by the scenario; its loop runs only while it lives and is not frozen."""

    def __init__(self, name: str, cluster: Cluster, topics: Topics, policy: str, skew: int, compiled: Any) -> None:
        self.name, self.cluster, self.topics, self.policy, self.skew = name, cluster, topics, policy, skew
        self.loop = Loop(cluster.world)
        self.dead = self.frozen = False
        self.stopped = False
        self.aim: str | None = None
        """A topic, or "commit": it dies at the moment when its next request of that kind has been carried out."""
        self.failure: BaseException | None = None
        self.generation = -1
        self._compiled = compiled
        self._inbox: list[Callable[[], None]] = []
        self._stopping = asyncio.Event()
        cluster.world.loops[self.loop] = lambda: not (self.dead or self.frozen)
        cluster.watchers.append(self._appended)
        self._news = asyncio.Event()
        self._main = self.loop.create_task(self._run())

    # --- from outside ----------------------------------------------------------------------------------

    def kill(self) -> None:
        self.dead = True
        self.cluster.watchers.remove(self._appended)

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        self.frozen = False
        inbox, self._inbox = self._inbox, []
        for call in inbox:
            self.call(call)

    def _shot(self, kind: str) -> None:
        if self.aim == kind and not self.dead:
            self.kill()

    def stop(self) -> None:
        self.call(self._stopping.set)

    def call(self, what: Callable[[], None]) -> None:
        """Something arrives: now, or when it can be seen; never where nobody lives."""
        if self.dead:
            return
        if self.frozen:
            self._inbox.append(what)
        else:
            self.loop.call_soon(what)

    def _appended(self, _topic: str, _partition: int) -> None:
        self.call(self._news.set)

    # --- Clock -----------------------------------------------------------------------------------------

    def now(self) -> int:
        return BASE + self.cluster.world.now + self.skew

    def monotonic(self) -> int:
        return self.cluster.world.now + EPOCH

    async def sleep(self, duration: int) -> None:
        await asyncio.sleep(max(0, duration) / 1000)

    # --- requests --------------------------------------------------------------------------------------

    async def ask(self, answer: Callable[[], Any]) -> Any:
        """A request and its answer: late, repeated while the broker is away or they get lost."""
        cluster = self.cluster
        while True:
            future: asyncio.Future[Any] = self.loop.create_future()

            def arrive(future: "asyncio.Future[Any]" = future) -> None:
                if cluster.down or cluster.dice.random() < cluster.trouble:
                    return
                said = answer()
                if cluster.dice.random() >= cluster.trouble:
                    cluster.world.after(cluster.latency(), lambda: self.call(lambda: future.done() or future.set_result(said)))

            cluster.world.after(cluster.latency(), arrive)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(future), 1.0)

    # --- the producer below the appender ---------------------------------------------------------------

    def create_batch(self) -> Builder:
        return Builder()

    async def send_batch(self, batch: Builder, topic: str, partition: int) -> Any:
        """Idempotent: repeated until it is answered, written once; it may land though we die before we hear of it."""
        done: list[Any] = []

        def land() -> Any:
            if not done:
                done.append((self.cluster.write(topic, partition, batch.records), self.cluster.clock))
                self._shot(topic)
            return SimpleNamespace(offset=done[0][0], timestamp=done[0][1], timestamp_type=1)

        return self.loop.create_task(self.ask(land))

    # --- Reader ----------------------------------------------------------------------------------------

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        place = (topic, partition)
        bounds: tuple[int, int] = await self.ask(lambda: (0, self.cluster.ends[place]))
        return bounds

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Sequence[Any]]:
        while start < end:
            records = await self.ask(lambda at=start: self.cluster.read(topic, partition, at, FETCH))
            inside = [record for record in records if record.offset < end]
            if inside:
                yield inside
            if not inside or len(inside) < len(records) or len(records) < FETCH:
                return
            start = inside[-1].offset + 1

    async def follow(self, topic: str, partition: int, start: int) -> AsyncIterator[Sequence[Any]]:
        while True:
            records = await self.ask(lambda at=start: self.cluster.read(topic, partition, at, FETCH))
            if records:
                start = records[-1].offset + 1
                yield records
            else:
                while self.cluster.ends[topic, partition] <= start:
                    await self._tidings()

    async def _tidings(self) -> None:
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.5)

    # --- Offsets ---------------------------------------------------------------------------------------

    async def committed(self, partition: int) -> int | None:
        offset: int | None = await self.ask(lambda: self.cluster.committed.get(partition))
        return offset

    async def commit(self, offsets: dict[int, int]) -> None:
        generation = self.generation

        def carry_out() -> bool:
            taken = self.cluster.commit(self.name, generation, offsets)
            self._shot("commit")
            return taken

        if not await self.ask(carry_out):
            raise GroupMovedOnError(f"generation {generation} is past")

    def pause(self, partition: int) -> None:
        self.delivery.pause(partition)

    def resume(self, partition: int) -> None:
        self.delivery.resume(partition)

    # --- the shell -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._work()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the judge wants to know
            self.failure = error
        self.stopped = True
        self.cluster.leave(self.name)

    async def _work(self) -> None:
        ports: Any = self
        self.appender = Appender(self)
        await self.appender.start()
        follower = ControlFollower(self.topics.session_control.name, ports, ControlLog(self._compiled))
        await follower.start()
        await ensure_policy(self.policy, follower, self.appender, self.topics, ports)
        settings = OwnerSettings(self.name, start_from="earliest", checkpoint_every=700, lease=SESSION_TIMEOUT // 2)
        self.host = Host(settings, self.topics, self.appender, ports, ports, follower, ports, WorkerMetrics())
        self.delivery = Delivery()
        self.custody = Custody(self.host, self.delivery)
        self.host.failed.add_done_callback(lambda failed: failed.cancelled() or (failed.exception() and self.custody.fail(failed.exception())))
        await self.host.start()
        tasks = [self.loop.create_task(work) for work in (self._belong(), self._fetch())]
        stopping = self.loop.create_task(self._stopping.wait())
        await asyncio.wait([stopping, *tasks, self.custody.failure], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait_for(self.custody.close(), 20)
        for task in (stopping, *tasks):
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        await follower.stop()
        for end in ends:
            if isinstance(end, Exception):
                raise end
        if self.custody.failed:
            self.custody.failure.result()

    async def _belong(self) -> None:
        """Join the group, take over, beat; give up and join again."""
        while True:
            joined: asyncio.Future[tuple[int, list[int]]] = self.loop.create_future()

            def arrived(generation: int, mine: list[int], joined: Any = joined) -> None:
                self.call(lambda: joined.done() or joined.set_result((generation, mine)))

            await self.ask(lambda arrived=arrived: self.cluster.join(self.name, arrived))
            while not joined.done():  # thrown out while we waited: ask again
                await asyncio.wait([joined], timeout=2 * SESSION_TIMEOUT / 1000)
                if not joined.done():
                    await self.ask(lambda arrived=arrived: self.cluster.join(self.name, arrived))
            self.generation, mine = joined.result()
            taking = self.loop.create_task(self._take_over(self.generation, mine))
            while True:
                await asyncio.sleep(HEARTBEAT / 1000)
                said = await self.ask(lambda: self.cluster.heartbeat(self.name, self.generation))
                if said != "ok":
                    await self.custody.give_up(lost=said == "unknown")
                    await asyncio.gather(taking, return_exceptions=True)
                    break

    async def _take_over(self, generation: int, mine: list[int]) -> None:
        starts = await self.custody.take_over(mine)
        if starts is not None and generation == self.generation and frozenset(mine) == self.custody.held:
            for partition, offset in starts.items():
                self.delivery.open(partition, offset)
            self._news.set()

    async def _fetch(self) -> None:
        topic = self.topics.access_events.name
        positions: dict[int, tuple[int, int]] = {}  # run -> where it stands
        while True:
            found = False
            for partition, run in list(self.delivery.flowing().items()):
                at = positions.get(partition, (-1, 0))
                offset = at[1] if at[0] == run else self.delivery.next_offset(partition) or 0
                if self.cluster.ends[topic, partition] <= offset:
                    positions[partition] = (run, offset)
                    continue
                records = await self.ask(lambda p=partition, o=offset: self.cluster.read(topic, p, o, FETCH))
                if records:
                    found = True
                    positions[partition] = (run, records[-1].offset + 1)
                    await self.custody.hand_over(Batch(partition, run, self.cluster.ends[topic, partition], records))
            if not found:
                await self._tidings()


__all__ = ["InvariantError", "Process"]
