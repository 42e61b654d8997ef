"""The owner of partitions: takes what the stream engine delivers, decides, writes, commits.

One event loop. Per partition everything that decides is synchronous; what awaits are writes. Background
turns: ticks, checkpoints, watermarks, and the sweeps that controls ask for.
"""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from monitor.core.errors import AbsenceError, InvariantError
from monitor.core.events import Tick
from monitor.core.instants import MINUTE, SECOND, Millis
from monitor.core.partition import Position
from monitor.core.standing import ControlLog
from monitor.observe.metrics import WorkerMetrics
from monitor.wire.events import encode_tick
from monitor.wire.topics import Topics
from monitor.worker import recovery
from monitor.worker.clock import BrokerClock
from monitor.worker.custody import GroupMovedOnError
from monitor.worker.follower import ControlFollower
from monitor.worker.intake import Blocked, Intake
from monitor.worker.outlet import LogOutlet
from monitor.worker.owned import Checkpoint, Owned
from monitor.worker.ports import Appended, Appender, Clock, Offsets, Reader, Record
from monitor.worker.state import ControlsNotReadError, encode_position, position_key
from monitor.worker.touches import TouchLog
from monitor.worker.witness import Witness, strangers

log = logging.getLogger(__name__)

AHEAD: Final[Millis] = MINUTE
"""An append time further ahead of the wall clock than this is not believed."""
TICK_KEY: Final = b"~tick"
SWEEP: Final = 400
"""Sessions brought up to date with a control between two turns of the event loop, as far as there is time, ..."""
TURN: Final[Millis] = 4
"""... that is so much of it, looked at ..."""
SHARE: Final = 50
"""... after so many of a partition ..."""
PENDING_MOST: Final = 2500
"""... and records that may be on their way when the next turn begins."""
STEPS: Final = 4
"""How often the loop turns between two turns of long work: from the broker to its answer an event takes some twenty steps of the loop,
one in each of its turns."""
TOLD: Final = 100
"""Sessions of which is told between two turns."""
SILENCE: Final[Millis] = 5 * SECOND
"""Without an acknowledgement for so long (ticks ask for one every second), the broker is away."""
WAITING: Final = 50_000
"""Records of one partition that may wait unapplied before its fetching is paused."""


class OwnerSettings(msgspec.Struct, frozen=True):
    """What the operator chose."""

    name: str
    """Names this worker in ticks and watermarks."""
    api: str = ""
    start_from: str | None = None
    """`earliest` or `latest`: where a partition begins that has never been committed."""
    checkpoint_every: Millis = 700
    pending_most: int = 30_000
    """Records handed to the appender and unacknowledged: above, reading waits."""
    watermark_every: Millis = SECOND
    lease: Millis = 5 * SECOND
    """Half the session timeout: who has not reached the broker for so long may own nothing any more."""


class Host:
    """Owns partitions. `failed` is set to the first broken promise; the shell then stops the worker."""

    def __init__(
        self, settings: OwnerSettings, topics: Topics, appender: Appender, reader: Reader, offsets: Offsets,
        follower: ControlFollower, clock: Clock, metrics: WorkerMetrics,
    ) -> None:  # fmt: skip
        """Nothing is owned yet; `start` begins the background turns."""
        self.owned: dict[int, Owned] = {}
        self.recovering: set[int] = set()
        self.stopped: dict[int, str] = {}
        """Partitions that are assigned but not owned, and why: state and offsets contradict one another."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._topics = topics
        self._appender = appender
        self._reader = reader
        self._offsets = offsets
        self._follower = follower
        self._controls: ControlLog = follower.controls
        self._clock = clock
        self._metrics = metrics
        self._broker_clock = BrokerClock(clock.now(), clock.monotonic())
        self._checkpointing = asyncio.Lock()
        self._committing = asyncio.Lock()
        """No commit leaves before the one before it is answered: the lease's would take a checkpoint's back."""
        self._background: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._witness = Witness()
        self._heard_at = clock.monotonic()
        appender.on_acknowledged(self._acknowledged)
        follower.on_read(self._wake.set)

    # --- what the stream engine calls ----------------------------------------------------------------

    async def start(self) -> None:
        """Begin ticking, checkpointing and sweeping."""
        for name, turn in (
            ("ticks", self._tick_forever()), ("checkpoints", self._checkpoint_forever()), ("turns", self._turn_forever()),
            ("controls", self._follower.watch()),
        ):  # fmt: skip
            task = asyncio.create_task(self._guarded(turn), name=name)
            self._background.append(task)

    async def assigned(self, partitions: Collection[int]) -> dict[int, int]:
        """Recover each partition; the answer says from which offset to deliver."""
        began = self._clock.monotonic()
        self.recovering |= set(partitions)
        try:
            answers = await asyncio.gather(*map(self._recover, partitions), return_exceptions=True)
            starts = self._judge(dict(zip(partitions, answers, strict=True)))
        finally:
            self.recovering -= set(partitions)
        gc.collect()
        gc.freeze()
        took = self._clock.monotonic() - began
        self._metrics.recovery_seconds.set(took / 1000)
        log.info("partitions_assigned", extra={"partitions": sorted(partitions), "took_ms": took})
        self._wake.set()
        return starts

    def _judge(self, answers: dict[int, int | BaseException]) -> dict[int, int]:
        """A partition whose promises can't be kept stops alone, loudly; anything else stops the worker.

        One that the group took back meanwhile is not ours, and no fault of anybody's: the group will say so itself.
        """
        starts = {}
        moved_on = False
        for number, answer in answers.items():
            if isinstance(answer, int):
                starts[number] = answer
            elif isinstance(answer, GroupMovedOnError):
                moved_on = True
                log.warning("recovery_abandoned", extra={"partition": number, "reason": str(answer)})
            elif isinstance(answer, InvariantError):
                self.stopped[number] = str(answer)
                log.critical("partition_stopped", extra={"partition": number, "reason": str(answer)})
            else:
                raise answer
        if not starts and answers and not moved_on:
            raise InvariantError("no partition can be owned: " + "; ".join(dict.fromkeys(self.stopped.values())))
        return starts

    async def revoked(self, partitions: Collection[int]) -> None:
        """Final checkpoint, then forget."""
        mine = [number for number in partitions if number in self.owned]
        if mine:
            await self.checkpoint(mine)
        await self.lost(partitions)
        log.info("partitions_revoked", extra={"partitions": sorted(partitions)})

    async def lost(self, partitions: Collection[int]) -> None:
        """They are somebody else's already: forget, write nothing, and let nothing leave that has not left yet."""
        for number in partitions:
            if number in self.owned:
                self._appender.discard(self._topics.session_commands.name, number)
                self._appender.discard(self._topics.changelog.name, number)
            self.owned.pop(number, None)
            self.stopped.pop(number, None)
            self._witness.forget(number)
            self._metrics.forget_partition(number)

    async def records(self, partition: int, records: Sequence[Record], end_offset: int) -> None:
        """Apply one fetch; returns when it is applied, or waits in a bounded queue."""
        owned = self.owned.get(partition)
        if owned is None or not records or not await self._holds_lease() or self.owned.get(partition) is not owned:
            return
        owned.waiting.append((records, 0))
        owned.end_offset = end_offset
        try:
            await self._apply(owned)
        except Exception as error:
            # The record is advanced to, but not applied: no checkpoint may pass it.
            if not self.failed.done():
                self.failed.set_exception(error)
            raise
        if owned.backlog > WAITING and not owned.paused:
            owned.paused = True
            self._offsets.pause(partition)
        if self._appender.pending > self._settings.pending_most:
            self._metrics.throttled.inc()
            await self._appender.below(self._settings.pending_most)

    async def stop(self) -> None:
        """Final checkpoint of everything; idempotent."""
        background, self._background = self._background, []
        async with self._checkpointing:  # a checkpoint that has sealed must end: what it sealed is in its hands alone
            for task in background:
                task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        if self.owned and not self.failed.done():
            await self.checkpoint(list(self.owned))
        self.owned.clear()

    def excused(self, watched: object) -> bool:
        """Whether a partition may stand still: nothing that another process would do better holds it up."""
        away = self._clock.monotonic() - self._heard_at > SILENCE
        return away or (isinstance(watched, Owned) and watched.intake.blocked is Blocked.AHEAD)

    # --- applying ------------------------------------------------------------------------------------

    async def _apply(self, owned: Owned) -> None:
        more = True
        while more and self.owned.get(owned.number) is owned:
            more = owned.apply_some(self._clock.now() + AHEAD)
            owned.progressed_at = self._clock.monotonic()
            self._appender.flush()
            if more:
                await asyncio.sleep(0)
        if not owned.partition.swept:
            self._wake.set()
        blocked = owned.intake.blocked
        if blocked is Blocked.AHEAD and owned.waiting:
            record = owned.waiting[0][0][owned.waiting[0][1]]
            log.error(
                "record_ahead_of_clock",
                extra={"partition": owned.number, "offset": record.offset, "appended": record.timestamp},
            )
        if owned.paused and owned.backlog <= WAITING // 2:
            owned.paused = False
            self._offsets.resume(owned.number)

    async def _turn_forever(self) -> None:
        """Retry what was blocked, sweep what controls ask for, and publish watermarks."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 0.1)
            self._wake.clear()
            if not await self._holds_lease():
                continue
            if self._witness.holes:
                await self._put_right()
            for owned in list(self.owned.values()):
                if owned.waiting:
                    await self._look_for_controls(owned)
                    await self._apply(owned)
            if self._unswept():
                began = self._clock.monotonic()
                await self._sweep()
                self._metrics.sweep_seconds.observe((self._clock.monotonic() - began) / 1000)
            now = self._clock.monotonic()
            for owned in list(self.owned.values()):
                if self._wants_watermark(owned, now):
                    self._publish_watermark(owned, now)
            for owned in list(self.owned.values()):
                if not self._unswept():
                    await self._tell(owned, until_swept=True)

    def _unswept(self, among: Collection[int] | None = None) -> list[Owned]:
        every = self.owned.values()
        return [one for one in every if not one.partition.swept and (among is None or one.number in among)]

    async def _sweep(self, among: Collection[int] | None = None) -> None:
        """Bring every session up to date with the controls, a few at a time: what events decide must not queue behind it.

        All partitions side by side, also those that the controls reach meanwhile, so that the broker has work on each. What is
        told of the sessions waits until every partition's commands are out (`_tell`).
        """
        done, began = 0, self._clock.monotonic()
        while unswept := self._unswept(among):
            share = min(SHARE, max(1, SWEEP // len(unswept)))
            for owned in unswept:
                if self.owned.get(owned.number) is not owned:
                    continue  # lost while others went on
                owned.outlet.hold()
                owned.partition.sweep(share)
                self._emit(owned)
                done += share
                # What is not like most takes ten times as long, and an event's way takes many turns: so time counts too.
                if done >= SWEEP or self._clock.monotonic() - began >= TURN:
                    await self._breathe()
                    done, began = 0, self._clock.monotonic()
            mark = self._appender.mark()
            if not self._unswept(among):
                await self._appender.settled(mark)  # before a checkpoint, or what is told, has the broker's time

    async def _tell(self, owned: Owned, *, until_swept: bool = False) -> None:
        """Let out what waited for commands; `until_swept`: as long as no further controls have come."""
        while self.owned.get(owned.number) is owned and not owned.outlet.release(TOLD):
            self._appender.flush()
            await self._breathe()
            if until_swept and self._unswept():
                return

    async def _breathe(self) -> None:
        """Between two turns of long work: where much is on its way, wait until it is less, and let others go on."""
        await self._appender.below(PENDING_MOST)  # not for all: the broker is never left without work
        for _ in range(STEPS):
            await asyncio.sleep(0)

    def _wants_watermark(self, owned: Owned, now: Millis) -> bool:
        """Every second; and at once when it comes to the present, which is what all wait for after a failover."""
        if not owned.partition.swept:
            return False
        every = self._settings.watermark_every
        if owned.behind and owned.partition.log_time >= self._clock.now() - every:
            owned.behind = False
            return True
        return now - owned.last_watermark >= every

    async def _look_for_controls(self, owned: Owned) -> None:
        """A tick speaks of controls that we have not read. Where there are none, it is no owner's tick."""
        if owned.intake.blocked is not Blocked.CONTROLS:
            return
        _, owned.intake.controls_end = await self._reader.bounds(self._topics.session_control.name, 0)
        record = owned.waiting[0][0][owned.waiting[0][1]]
        log.warning(
            "tick_waits_for_controls",
            extra={"partition": owned.number, "offset": record.offset, "controls_end": owned.intake.controls_end},
        )

    async def _put_right(self) -> None:
        """Read what others wrote on our partitions, and write ours again where theirs is weaker."""
        holes, self._witness.holes = self._witness.holes, []
        for topic, number, start, end in holes:
            owned = self.owned.get(number)
            if owned is None:
                continue
            log.warning("stranger_wrote", extra={"topic": topic, "partition": number, "start": start, "end": end})
            self._metrics.strangers.inc(end - start)
            async for record in strangers(self._reader, topic, number, start, end):
                if self.owned.get(number) is not owned:
                    break
                if topic == self._topics.session_commands.name:
                    owned.answer_command(record)
                else:
                    owned.answer_state(record, self._topics.changelog.name, self._appender)
            self._emit(owned)

    def _emit(self, owned: Owned) -> None:
        for effect in owned.partition.effects:
            owned.outlet.effect(effect)
        owned.partition.effects.clear()
        self._appender.flush()

    def _publish_watermark(self, owned: Owned, now: Millis) -> None:
        partition = owned.partition
        if not partition.log_time:
            return
        owned.last_watermark = now
        decided = partition.watermark()
        owned.outlet.watermark(decided, partition.log_time, partition.controls_to, self._settings.name, self._settings.api)
        self._appender.flush()
        self._metrics.observe_partition(owned, self._clock.now(), decided)
        sample = owned.intake.take_sample()
        if sample is not None:
            self._metrics.observe_skew(*sample)

    # --- ticks ---------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        while True:
            now = self._clock.monotonic()
            broker_now = self._broker_clock.at(now)
            wanted = now + 50
            sent = False
            for owned in self.owned.values():
                partition = owned.partition
                interval = partition.standing.policy.timing.tick
                due = partition.next_due(broker_now)
                read_to = self._controls.read_to
                at = owned.ticks.wanted_at(now, broker_now, partition.log_time, due, read_to, interval)
                if at <= now:
                    self._tick(owned, now, read_to)
                    sent = True
                else:
                    wanted = min(wanted, at)
            if sent:
                self._appender.flush()
            await self._clock.sleep(max(1, wanted - now))

    def _tick(self, owned: Owned, now: Millis, controls_to: int) -> None:
        value = encode_tick(Tick(self._settings.name, controls_to))
        self._appender.append(self._topics.access_events.name, owned.number, TICK_KEY, value)
        owned.ticks.sent(now, controls_to)
        self._metrics.ticks.inc()

    def _acknowledged(self, appended: Appended) -> None:
        self._heard_at = appended.acked_at
        self._witness.acknowledged(appended)
        if appended.timestamp > 0:
            self._broker_clock.learn(appended.timestamp, appended.acked_at)
        owned = self.owned.get(appended.partition)
        if owned is None:
            return
        if appended.topic == self._topics.access_events.name:
            owned.ticks.acknowledged(appended.timestamp)
        elif appended.topic == self._topics.session_commands.name:
            owned.outlet.acknowledged(appended)

    # --- checkpoints ---------------------------------------------------------------------------------

    async def _checkpoint_forever(self) -> None:
        while True:
            await self._clock.sleep(self._settings.checkpoint_every)
            before = dict(self.owned)
            numbers = list(before)
            try:
                await self.checkpoint(numbers)
            except GroupMovedOnError as error:
                # What we wrote before is another's business now: it sees the strange records and puts them right.
                log.warning("checkpoint_refused", extra={"partitions": numbers, "error": str(error)})
                await self.lost([n for n in numbers if self.owned.get(n) is before[n]])

    async def checkpoint(self, partitions: Collection[int]) -> None:
        """Make everything applied so far durable, and commit. See `Checkpoint` for the order."""
        async with self._checkpointing:
            if not await self._holds_lease():
                return
            began = self._clock.monotonic()
            sealed = []
            mine = {number: self.owned[number] for number in partitions if number in self.owned}
            await self._sweep(mine)
            for number, owned in mine.items():
                if self.owned.get(number) is not owned:
                    continue
                checkpoint = Checkpoint(owned, self._topics, self._appender)
                if checkpoint.moves:
                    sealed.append((number, owned, checkpoint))
            for _, _, checkpoint in sealed:
                while checkpoint.encode_some():
                    await asyncio.sleep(0)
            for _, owned, _ in sealed:
                await self._tell(owned)  # after encoding: what a session shows by now has to be durable before it
            if not sealed:
                return
            await self._appender.settled(self._appender.mark())
            # What a lost partition had decided was discarded, not written: no session record may claim that it was.
            still = [(n, o, c) for n, o, c in sealed if self.owned.get(n) is o]
            for number, owned, checkpoint in still:
                await self._write(number, owned, checkpoint)
            await self._appender.settled(self._appender.mark())
            still = [(n, o, c) for n, o, c in still if self.owned.get(n) is o]
            if not still:
                return
            async with self._committing:
                await self._offsets.commit({number: checkpoint.position.offset for number, _, checkpoint in still})
                for _, _, checkpoint in still:
                    checkpoint.committed()
            self._appender.flush()
            self._metrics.checkpoint_seconds.observe((self._clock.monotonic() - began) / 1000)
            self._metrics.checkpointed_sessions.inc(sum(checkpoint.written for _, _, checkpoint in still))

    async def _write(self, number: int, owned: Owned, checkpoint: Checkpoint) -> None:
        while self.owned.get(number) is owned and checkpoint.write_some():
            self._appender.flush()
            await self._breathe()

    # --- recovery ------------------------------------------------------------------------------------

    async def _recover(self, number: int) -> int:
        await self._appender.settled(self._appender.mark())  # what an earlier tenure of ours had on its way
        committed = await self._offsets.committed(number)
        changelog = await recovery.read_changelog(self._reader, self._topics, number)
        self._witness.watch(self._topics.changelog.name, number, changelog.end)
        ledger = await recovery.read_ledger(self._reader, self._topics, number)
        self._witness.watch(self._topics.session_commands.name, number, ledger.end)
        first, end = await self._reader.bounds(self._topics.access_events.name, number)
        if committed is None:
            recovered = await self._begin(number, changelog, ledger, first, end)
        else:
            if not first <= committed <= end:
                raise InvariantError(
                    f"partition {number}: offset {committed} is committed, but {self._topics.access_events.name} holds "
                    f"{first} to {end}: events were lost to retention or the topic was made anew. "
                    "Decide what to do with the missing events, then reset the group's offset and the changelog."
                )
            position = recovery.find_position(number, committed, changelog)
            await self._wait_for_controls(position.controls_to)
            recovered = await self._rebuild(number, position, changelog, ledger)
        outlet = LogOutlet(number, self._topics, self._appender, self._clock, self._metrics)
        for key, value in recovered.weakened:
            outlet.again(key, value)
        for key in recovered.orphans:
            outlet.tombstone(key.decode())
        partition = recovered.partition
        intake = Intake(partition, outlet, self._topics.access_events.partitions, recovered.facts)
        tenure = f"{self._settings.name}/{changelog.end}"
        owned = Owned(partition, intake, outlet, partition.offset, TouchLog(tenure, changelog.touches))
        owned.stale_positions = recovered.stale_positions
        owned.progressed_at = self._clock.monotonic()
        await self._appender.settled(self._appender.mark())
        outlet.begin()
        self.owned[number] = owned
        return partition.offset

    async def _begin(
        self, number: int, changelog: recovery.Changelog, ledger: recovery.Ledger, first: int, end: int
    ) -> recovery.Recovered:
        """A partition that nobody has owned yet: its history begins here, with a policy, durably."""
        if changelog.sessions:
            raise InvariantError(
                f"partition {number}: the changelog holds {len(changelog.sessions)} sessions, but no offset is committed "
                "for this group. Name the group that wrote it (--app-id), or delete the changelog topic to begin anew."
            )
        if self._settings.start_from is None:
            raise AbsenceError(
                f"partition {number} of {self._topics.access_events.name} was never read by this group: "
                "say where to begin with --from earliest or --from latest."
            )
        offset = first if self._settings.start_from == "earliest" else end
        position = Position(offset, controls_to=self._controls.read_to)
        changelog.positions[offset] = encode_position(position)
        self._appender.append(self._topics.changelog.name, number, position_key(offset), changelog.positions[offset])
        await self._appender.settled(self._appender.mark())
        await self._offsets.commit({number: offset})
        return await recovery.rebuild(number, position, changelog, ledger, self._controls)

    async def _rebuild(
        self, number: int, position: Position, changelog: recovery.Changelog, ledger: recovery.Ledger
    ) -> recovery.Recovered:
        while True:
            try:
                return await recovery.rebuild(number, position, changelog, ledger, self._controls)
            except ControlsNotReadError as error:  # a session is ahead of its partition, and of us
                await self._wait_for_controls(error.controls_to)

    async def _wait_for_controls(self, controls_to: int) -> None:
        if self._controls.read_to >= controls_to:
            return
        topic = self._topics.session_control.name
        _, end = await self._reader.bounds(topic, 0)
        if end <= controls_to:
            raise InvariantError(f"{topic} ends at {end}, but control {controls_to} ruled already: the topic was made anew")
        while self._controls.read_to < controls_to:
            await self._clock.sleep(10)

    # --- lease ---------------------------------------------------------------------------------------

    async def _holds_lease(self) -> bool:
        """Whether we may decide and write. After a silence (a stopped process, a lost broker) the group is asked
        first, by committing what is committed already: where others own our partitions, it refuses.
        """  # fmt: skip
        owned = dict(self.owned)
        if not owned or self._clock.monotonic() - self._heard_at <= self._settings.lease:
            return True
        log.warning("lease_ran_out", extra={"silent_ms": self._clock.monotonic() - self._heard_at})
        try:
            async with self._committing:
                await self._offsets.commit({number: one.committed for number, one in owned.items()})
        except GroupMovedOnError as error:
            log.warning("lease_refused", extra={"partitions": sorted(owned), "error": str(error)})
            await self.lost([number for number, one in owned.items() if self.owned.get(number) is one])
            return False
        self._heard_at = self._clock.monotonic()
        return True

    # --- failure -------------------------------------------------------------------------------------

    async def _guarded(self, turn: "asyncio.Future[None] | object") -> None:
        try:
            await turn  # type: ignore[misc]
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.critical("worker_failed", exc_info=error)
            if not self.failed.done():
                self.failed.set_exception(error)


