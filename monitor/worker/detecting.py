"""`Detective`: the owner of partitions of session-lifecycle. What it watches with is pure (`Watching`); here are writing, recovery and time.

The same promises as the owner of sessions has, on simpler terms. Each piece of state carries the offset up to which it has taken records
(`monitor.detect`), so a replay from the committed offset changes nothing that was written already, and no record says where all of them
stood. Alerts go out at once; an alert made again by a replay is the same record. A checkpoint writes what changed, waits for the broker,
commits.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final, Protocol

import msgspec

from monitor.core.controls import Control
from monitor.core.errors import AbsenceError
from monitor.core.instants import SECOND, Millis
from monitor.wire.codec import Record as Written
from monitor.wire.controls import encode_control
from monitor.wire.topics import Topics
from monitor.worker.custody import GroupMovedOnError
from monitor.worker.ports import Appender, Clock, Offsets, Reader, Record

log = logging.getLogger(__name__)

SETTLED: Final[Millis] = 5 * SECOND
"""So far behind the clock is time where nothing more comes: what happened until then has long been told."""
SLICE: Final = 500
"""Records taken, or pieces of state restored or written, between two turns of the event loop."""


class Watching(Protocol):
    """What one partition's records are told to. Pure; one per partition, made anew for each tenure."""

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back a piece of state, as `changed` gave it."""

    def take(self, offset: int, value: bytes) -> None:
        """One record of session-lifecycle, in offset order. Never raises for what stands in it."""

    def advance(self, now: Millis) -> None:
        """Time has passed, though nothing came."""

    def alerts(self) -> Iterable[Written]:
        """What is to be published on session-alerts; each once."""

    def controls(self) -> Iterable[Control]:
        """What is to be done by itself, as controls; each once. One that a replay asks for again has the same id."""

    def changed(self) -> Iterable[tuple[bytes, bytes | None]]:
        """State that has changed since the last call, by key; None: it is gone."""


class DetectiveSettings(msgspec.Struct, frozen=True):
    """What the operator chose."""

    start_from: str | None = None
    """`earliest` or `latest`: where a partition begins that has never been committed."""
    checkpoint_every: Millis = 700
    turn_every: Millis = SECOND
    """How often time passes for a partition to which nothing comes."""
    pending_most: int = 10_000


class _Held:
    """A partition in our hands."""

    def __init__(self, number: int, watching: Watching, committed: int) -> None:
        self.number, self.watching, self.committed = number, watching, committed
        self.position = self.end = committed
        """The next offset, and the high watermark as it was fetched last."""


class Detective:
    """Owns partitions. `failed` is set to the first broken promise; the shell then stops the process."""

    def __init__(
        self, settings: DetectiveSettings, topics: Topics, appender: Appender, reader: Reader, offsets: Offsets, clock: Clock,
        watching: Callable[[int], Watching], left: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """`watching` makes what one partition is watched with; `left` is told of each that is watched no more."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.held: dict[int, _Held] = {}
        self._settings, self._topics, self._clock, self._watching, self._left = settings, topics, clock, watching, left
        self._appender, self._reader, self._offsets = appender, reader, offsets
        self._checkpointing = asyncio.Lock()
        self._background: list[asyncio.Task[None]] = []

    # --- what the stream engine calls ----------------------------------------------------------------

    async def start(self, *followers: Awaitable[None]) -> None:
        """Begin to checkpoint, and to let time pass; where one of the followers ends, so do we."""
        turns = (self._checkpoint_forever(), self._pass_time_forever(), *followers)
        for name, turn in zip(("checkpoints", "time", *("follower" for _ in followers)), turns, strict=True):
            self._background.append(asyncio.create_task(self._guarded(turn), name=f"detection-{name}"))

    async def assigned(self, partitions: Collection[int]) -> dict[int, int]:
        """Recover each partition; the answer says from which offset to deliver."""
        return {number: await self._recover(number) for number in partitions}

    async def revoked(self, partitions: Collection[int]) -> None:
        """Final checkpoint, then forget."""
        await self.checkpoint([number for number in partitions if number in self.held])
        await self.lost(partitions)

    async def lost(self, partitions: Collection[int]) -> None:
        """They are somebody else's already: forget, write nothing."""
        for number in partitions:
            if self.held.pop(number, None) is not None:
                self._left(number)
                self._appender.discard(self._topics.detection_changelog.name, number)

    async def records(self, partition: int, records: Sequence[Record], end_offset: int) -> None:
        """Take one fetch; returns when it is taken."""
        held = self.held.get(partition)
        for place in range(0, len(records), SLICE):
            if held is None or self.held.get(partition) is not held:
                return
            for record in records[place : place + SLICE]:
                if record.offset >= held.position and record.value is not None:
                    held.watching.take(record.offset, record.value)
            held.position = max(held.position, records[min(place + SLICE, len(records)) - 1].offset + 1)
            held.end = end_offset
            self._publish(held)
            await asyncio.sleep(0)
        if self._appender.pending > self._settings.pending_most:
            await self._appender.below(self._settings.pending_most)

    async def stop(self) -> None:
        """Final checkpoint of everything; idempotent."""
        background, self._background = self._background, []
        async with self._checkpointing:
            for task in background:
                task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        if self.held and not self.failed.done():
            await self.checkpoint(list(self.held))
        self.held.clear()

    # --- time, alerts, checkpoints -------------------------------------------------------------------

    def pass_time(self) -> None:
        """Where all that is there has been taken, time passes by the clock; else by what is read."""
        now = self._clock.now() - SETTLED
        for held in list(self.held.values()):
            if held.position >= held.end:
                held.watching.advance(now)
                self._publish(held)

    def _publish(self, held: _Held) -> None:
        told = False
        for record in held.watching.alerts():
            self._appender.append(self._topics.session_alerts.name, 0, record.key, record.value, record.headers)
            told = True
        for control in held.watching.controls():
            record = encode_control(control, self._clock.now())
            self._appender.append(self._topics.session_control.name, 0, record.key, record.value, record.headers)
            told = True
        if told:
            self._appender.flush()

    async def checkpoint(self, partitions: Collection[int]) -> None:
        """Make everything taken so far durable, and commit."""
        async with self._checkpointing:
            sealed = []
            for held in [self.held[number] for number in partitions if number in self.held]:
                changes = list(held.watching.changed())
                if changes or held.position > held.committed:
                    sealed.append((held, held.position, changes))
            if not sealed:
                return
            # An alert that is not out must not be remembered as told.
            await self._appender.settled(self._appender.mark())
            for held, _, changes in sealed:
                await self._write(held, changes)
            await self._appender.settled(self._appender.mark())
            still = [(held, position) for held, position, _ in sealed if self.held.get(held.number) is held]
            if still:
                await self._offsets.commit({held.number: position for held, position in still})
                for held, position in still:
                    held.committed = position

    async def _write(self, held: _Held, changes: list[tuple[bytes, bytes | None]]) -> None:
        for place in range(0, len(changes), SLICE):
            if self.held.get(held.number) is not held:
                return
            for key, value in changes[place : place + SLICE]:
                self._appender.append(self._topics.detection_changelog.name, held.number, key, value)
            self._appender.flush()
            await self._appender.below(self._settings.pending_most)
            await asyncio.sleep(0)

    async def _checkpoint_forever(self) -> None:
        while True:
            await self._clock.sleep(self._settings.checkpoint_every)
            before = dict(self.held)
            try:
                await self.checkpoint(list(before))
            except GroupMovedOnError as error:
                log.warning("detection_checkpoint_refused", extra={"partitions": sorted(before), "error": str(error)})
                await self.lost([number for number, held in before.items() if self.held.get(number) is held])

    async def _pass_time_forever(self) -> None:
        while True:
            await self._clock.sleep(self._settings.turn_every)
            self.pass_time()

    # --- recovery ------------------------------------------------------------------------------------

    async def _recover(self, number: int) -> int:
        await self._appender.settled(self._appender.mark())  # what an earlier tenure of ours had on its way
        watching = self._watching(number)
        for key, value in (await self._state(number)).items():
            watching.restore(key, value)
        first, end = await self._reader.bounds(self._topics.session_lifecycle.name, number)
        committed = await self._offsets.committed(number)
        if committed is None:
            committed = self._beginning(number, first, end)
        if not first <= committed <= end:
            # Detection is the better for an exact past, but worth more than none.
            log.error("detection_missed_records", extra={"partition": number, "committed": committed, "first": first, "end": end})
            committed = first if committed < first else end
        self.held[number] = held = _Held(number, watching, committed)
        held.end = end
        return committed

    async def _state(self, number: int) -> dict[bytes, bytes]:
        """The last value of each key of the changelog."""
        topic = self._topics.detection_changelog.name
        start, end = await self._reader.bounds(topic, number)
        state: dict[bytes, bytes] = {}
        async for records in self._reader.read(topic, number, start, end):
            for record in records:
                if record.key is None:
                    continue
                if record.value is None:
                    state.pop(record.key, None)
                else:
                    state[record.key] = record.value
            await asyncio.sleep(0)
        return state

    def _beginning(self, number: int, first: int, end: int) -> int:
        if self._settings.start_from is None:
            raise AbsenceError(
                f"partition {number} of {self._topics.session_lifecycle.name} was never read by this group: "
                "say where to begin with --from earliest or --from latest."
            )
        return first if self._settings.start_from == "earliest" else end

    async def _guarded(self, turn: Awaitable[None]) -> None:
        try:
            await turn
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.critical("detection_failed", exc_info=error)
            if not self.failed.done():
                self.failed.set_exception(error)
