"""Ends a worker that makes no progress, so that its partitions go to one that does.

A thread of its own looks from outside at what the event loop does: a loop that hangs can't tell so itself. It
ends the process without ceremony (no final checkpoint): whoever comes next replays from the last commit.
"""

import asyncio
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from monitor.core.instants import SECOND, LogMillis, Millis

log = logging.getLogger(__name__)

EXIT_CODE: Final = 70
"""EX_SOFTWARE of sysexits.h: ours, not theirs."""
BEAT: Final[Millis] = SECOND // 2


class Progressing(Protocol):
    """The decisions of a partition, as far as progress goes."""

    @property
    def offset(self) -> int:
        """The next offset to be applied."""

    @property
    def log_time(self) -> LogMillis:
        """The append time of what was applied last."""


class Ticked(Protocol):
    """A partition's ticks."""

    @property
    def appended_at(self) -> LogMillis:
        """The append time of the last that the broker has: unread until log time gets there."""


class Watched(Protocol):
    """One partition under the worker's hand."""

    @property
    def partition(self) -> Progressing:
        """Its decisions."""

    @property
    def end_offset(self) -> int:
        """The log's end at the last fetch."""

    @property
    def ticks(self) -> Ticked:
        """Its ticks."""


class Limits(msgspec.Struct, frozen=True):
    """How long is too long."""

    loop: Millis = 30 * SECOND
    """Without a turn of the event loop."""
    progress: Millis = 60 * SECOND
    """With unread records and none applied."""
    check_every: Millis = SECOND


class _Seen(msgspec.Struct):
    watched: Watched
    offset: int
    since: Millis


class Watchdog:
    """Looks every second; ends the process with code 70, after a dump of every stack to stderr."""

    def __init__(
        self,
        owned: Mapping[int, Watched],
        limits: Limits = Limits(),  # noqa: B008 - frozen
        *,
        excused: Callable[[Watched], bool] = lambda _: False,
        monotonic: Callable[[], Millis] = lambda: time.monotonic_ns() // 1_000_000,
        end: Callable[[int], None] = os._exit,
        dump: Callable[[], None] = lambda: faulthandler.dump_traceback(
            file=sys.__stderr__ or 2, all_threads=True
        ),
    ) -> None:
        """`excused` partitions need make no progress: nothing that a new process would do better holds them up."""
        self._owned = owned
        self._limits = limits
        self._excused = excused
        self._monotonic = monotonic
        self._end = end
        self._dump = dump
        self._beaten: Millis = monotonic()
        self._checked: Millis = self._beaten
        self._seen: dict[int, _Seen] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._heart: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to beat on this event loop, and to look from a thread."""
        self.beat()
        self._stopping.clear()
        self._heart = asyncio.create_task(self._beat_forever(), name="watchdog-heart")
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Look no more; idempotent. To be called last: a shutdown that hangs is ended too."""
        self._stopping.set()
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join)

    def beat(self) -> None:
        """The event loop turns."""
        self._beaten = self._monotonic()

    def check(self) -> str | None:
        """What is wrong, or None. From any thread."""
        now = self._monotonic()
        asleep = now - self._checked > max(5 * self._limits.check_every, self._limits.loop // 2)
        self._checked = now
        if asleep:
            # We did not run either: the machine or the container was suspended. Everybody gets their time again.
            self._beaten = now
            self._seen.clear()
            return None
        if now - self._beaten >= self._limits.loop:
            return f"the event loop has not turned for {(now - self._beaten) / 1000:.1f} s"
        return self._stuck(now)

    def _stuck(self, now: Millis) -> str | None:
        for number in [number for number in list(self._seen) if number not in self._owned]:
            del self._seen[number]
        # A copy, made in one step: the event loop changes it while we look.
        for number, watched in list(self._owned.items()):
            partition = watched.partition
            offset = partition.offset
            unread = watched.end_offset > offset or watched.ticks.appended_at > partition.log_time
            seen = self._seen.get(number)
            if (
                seen is None
                or seen.watched is not watched
                or seen.offset != offset
                or not unread
                or self._excused(watched)
            ):
                self._seen[number] = _Seen(watched, offset, now)
            elif now - seen.since >= self._limits.progress:
                stood = (now - seen.since) / 1000
                return f"partition {number} has unread records and has stood at offset {offset} for {stood:.1f} s"
        return None

    async def _beat_forever(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(min(BEAT, self._limits.loop // 4) / 1000)

    def _watch(self) -> None:
        while not self._stopping.wait(self._limits.check_every / 1000):
            wrong = self.check()
            if wrong is not None:
                # Not through logging first: its lock may be what the loop hangs on.
                os.write(
                    2,
                    f"session-monitor watchdog: {wrong}; ending with code {EXIT_CODE}. Stacks follow.\n".encode(),
                )
                self._dump()
                self._end(EXIT_CODE)
                return
