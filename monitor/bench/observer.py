"""What gateways see: session-commands followed in this process, each record with the instant at which it was there.

A thread of its own reads and takes the time; nothing is decoded before the measurement is over, but watermarks.
"""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Self

from monitor.broker.connection import Connection
from monitor.core.errors import AbsenceError
from monitor.wire.bad_record import BadRecord
from monitor.wire.commands import WATERMARK_PREFIX, CommandRecord, Watermark, decode_command, decode_watermark
from monitor.wire.topics import Topics
from monitor.worker.reader import KafkaReader

_WATERMARK = WATERMARK_PREFIX.encode()
FRESH_MS = 1_000
"""How far log time may lie behind the clock for a partition to be at work."""


class Sighting(NamedTuple):
    """One command, and when it was visible (milliseconds since 1970, by this machine's clock)."""

    partition: int
    at: float
    appended: int
    """When the broker had it: its own append time."""
    command: CommandRecord


class Mark(NamedTuple):
    """One watermark, and when it was visible."""

    at: float
    watermark: Watermark


class Observer:
    """Follows session-commands from where it ends now. A context; `marks` and `commands` give what came since."""

    def __init__(self, connection: Connection, topics: Topics) -> None:
        """Nothing is read before the context is entered."""
        self._connection, self._topics = connection, topics
        self._raw: list[tuple[int, float, int, bytes]] = []
        self.marks: list[Mark] = []
        self._failure: BaseException | None = None
        self._following = threading.Semaphore(0)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="bench-observer", daemon=True)

    def __enter__(self) -> Self:
        """Return when every partition is being followed."""
        # What is seen is kept, by the hundred thousand: looking through it for garbage would take a tenth of a second each time.
        gc.disable()
        self._thread.start()
        for _ in range(self._topics.partitions):
            if not self._following.acquire(timeout=30):
                break
        self.require()
        return self

    def __exit__(self, *_: object) -> None:
        """End reading."""
        if self._loop is not None and self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        gc.enable()

    def require(self) -> None:
        """Raise AbsenceError where reading has failed."""
        if self._failure is not None:
            raise AbsenceError(f"session-commands can't be followed: {self._failure!r}") from self._failure

    def count(self) -> int:
        """Records but watermarks seen so far."""
        return len(self._raw)

    def begins(self, since: int, beginning: bytes) -> int:
        """How many of them, from number `since` on, begin with these bytes."""
        return sum(value.startswith(beginning) for _, _, _, value in self._raw[since:])

    def commands(self) -> list[Sighting]:
        """Every command seen so far, in the order of seeing; tombstones left out."""
        self.require()
        found = []
        for partition, at, appended, value in list(self._raw):
            try:
                found.append(Sighting(partition, at, appended, decode_command(value)))
            except BadRecord as error:
                raise AbsenceError(f"session-commands[{partition}] holds what is no command: {error}") from error
        return found

    def until(self, done: Callable[[], bool], seconds: float, what: str, *, every: float = 0.01) -> None:
        """Wait. Raises AbsenceError, naming `what`, after so many seconds."""
        deadline = time.monotonic() + seconds
        while not done():
            self.require()
            if time.monotonic() > deadline:
                raise AbsenceError(f"{what}: not seen within {seconds:.0f} s")
            time.sleep(every)

    def fresh_at(self, since: int, owner_not: str = "", partitions: frozenset[int] | None = None) -> float | None:
        """When the last of the partitions had a watermark with log time within FRESH_MS of now, looking at marks from
        number `since` on, and not at those of one owner; None where some partition has none yet.
        """  # fmt: skip
        wanted = set(range(self._topics.partitions) if partitions is None else partitions)
        return caught_up(self.marks[since:], wanted, owner_not)

    # --- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._follow_all())
        except BaseException as error:  # noqa: BLE001 - told by `require`
            self._failure = error
            for _ in range(self._topics.partitions):
                self._following.release()

    async def _follow_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        reader = KafkaReader(self._connection, client_id="session-monitor-bench")
        self._task = asyncio.create_task(self._gather(reader))
        try:
            await self._task
        except asyncio.CancelledError:
            pass
        finally:
            await reader.stop()

    async def _gather(self, reader: KafkaReader) -> None:
        async with asyncio.TaskGroup() as group:
            for partition in range(self._topics.partitions):
                group.create_task(self._follow(reader, partition))

    async def _follow(self, reader: KafkaReader, partition: int) -> None:
        topic = self._topics.session_commands.name
        _, end = await reader.bounds(topic, partition)
        self._following.release()
        async for records in reader.follow(topic, partition, end):
            at = time.time_ns() / 1_000_000
            for record in records:
                if record.value is None:
                    continue
                if (record.key or b"").startswith(_WATERMARK):
                    self.marks.append(Mark(at, decode_watermark(record.value)))
                else:
                    self._raw.append((partition, at, record.timestamp, record.value))


def caught_up(marks: list[Mark], partitions: set[int], owner_not: str = "") -> float | None:
    """When the last of the partitions was first at work: its log time within FRESH_MS of the clock. Pure."""
    first: dict[int, float] = {}
    for at, watermark in marks:
        if watermark.partition not in partitions or (owner_not and watermark.owner == owner_not):
            continue
        if at - watermark.log_time <= FRESH_MS:
            first.setdefault(watermark.partition, at)
    return max(first.values()) if first.keys() == partitions else None
