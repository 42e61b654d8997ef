"""Follows the silences on session-alerts: every detection process reads them whole."""

import asyncio
import logging
from collections.abc import Sequence

from monitor.wire.bad_record import BadRecord
from monitor.wire.silences import Silence, decode_silence, silence_id
from monitor.worker.ports import Reader, Record

log = logging.getLogger(__name__)


class SilenceFollower:
    """Reads session-alerts for its silences, first to its end, then on. `standing` is another tuple each time that they change."""

    def __init__(self, topic: str, reader: Reader) -> None:
        """Nothing is known before `start`."""
        self.standing: tuple[Silence, ...] = ()
        self._topic, self._reader = topic, reader
        self._silences: dict[str, Silence] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read to the end as it is now, then follow in the background."""
        start, end = await self._reader.bounds(self._topic, 0)
        async for records in self._reader.read(self._topic, 0, start, end):
            self.take(records)
        self._task = asyncio.create_task(self._follow(end), name="silence-follower")

    async def watch(self) -> None:
        """Return only when following ends; raise what ended it."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Stop following; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def take(self, records: Sequence[Record]) -> None:
        """Records of the topic, in order. What is no silence that can be read is named, and passed over."""
        changed = False
        for record in records:
            id_ = silence_id(record.key)
            if id_ is None:
                continue
            changed = True
            if record.value is None:
                self._silences.pop(id_, None)
                continue
            try:
                self._silences[id_] = decode_silence(record.value)
            except BadRecord as error:
                log.warning("silence_refused", extra={"offset": record.offset, "error": str(error)})
        if changed:
            self.standing = tuple(self._silences.values())

    async def _follow(self, start: int) -> None:
        async for records in self._reader.follow(self._topic, 0, start):
            self.take(records)
