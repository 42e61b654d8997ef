"""Follows `session-control`: every worker reads it whole, and tells its partitions how far."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from monitor.core.controls import Control
from monitor.core.errors import InputError
from monitor.core.standing import ControlLog
from monitor.policy import CompiledPolicy, compile_policy
from monitor.wire.controls import decode_control
from monitor.worker.ports import Reader, Record

log = logging.getLogger(__name__)


def compiled(control: Control) -> CompiledPolicy:
    """The policy of a `control.policy`. Raises InputError where it does not compile here."""
    return compile_policy(control.policy_text, name=f"session-control@{control.offset}")


class ControlFollower:
    """Reads `session-control` into a ControlLog, first to its end, then on."""

    def __init__(self, topic: str, reader: Reader, controls: ControlLog) -> None:
        """`controls` is shared with every partition of this worker."""
        self._topic = topic
        self._reader = reader
        self.controls = controls
        self.refused = 0
        """Records that were no control: skipped, counted, logged."""
        self._listeners: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    def on_read(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever more has been read."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Read to the end as it is now, then follow in the background."""
        start, end = await self._reader.bounds(self._topic, 0)
        async for records in self._reader.read(self._topic, 0, start, end):
            self._take(records)
        self.controls.read_to = max(self.controls.read_to, end - 1)
        self._task = asyncio.create_task(self._follow(end), name="control-follower")

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The background task: its failure is the worker's."""
        return self._task

    async def watch(self) -> None:
        """Return only when following ends; raise what ended it. Who does not read controls obeys nobody."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Stop following; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _follow(self, start: int) -> None:
        async for records in self._reader.follow(self._topic, 0, start):
            self._take(records)
            for listener in self._listeners:
                listener()

    def _take(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.offset <= self.controls.read_to:
                continue
            if record.value is not None:
                try:
                    self.controls.add(decode_control(record.value, offset=record.offset, appended=record.timestamp))
                except InputError as error:
                    self.refused += 1
                    log.warning("control_refused", extra={"offset": record.offset, "error": str(error)})
            self.controls.read_to = max(self.controls.read_to, record.offset)
