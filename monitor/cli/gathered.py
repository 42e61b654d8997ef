"""What the live view has gathered so far of a running monitor. No I/O: `monitor.cli.feed` brings what it knows."""

from collections import deque
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from monitor.cli.view import Picture
from monitor.core.commands import CommandType
from monitor.core.instants import SECOND, Millis
from monitor.core.session import State
from monitor.observe.views import EndView, PartitionView, SessionRow
from monitor.wire.bad_record import BadRecord
from monitor.wire.commands import (
    CommandRecord,
    KeyKind,
    Watermark,
    decode_command,
    decode_watermark,
    read_key,
)

KEPT: Final = 200
"""Commands kept for the view."""
SHOWN_AFTER_END: Final[Millis] = 8 * SECOND
"""How long an ended session stays in the view."""
WINDOW: Final[Millis] = 5 * SECOND
"""What rates are averaged over."""

_ENDS: Final = {CommandType.EXPIRE: State.EXPIRED, CommandType.REVOKE: State.REVOKED}


class Rate:
    """Something counted, per second, over the last `WINDOW`."""

    def __init__(self) -> None:
        """Nothing counted yet: 0."""
        self._samples: deque[tuple[Millis, float]] = deque()

    def take(self, at: Millis, total: float) -> None:
        """The total so far. One that falls back (another process counts now) begins anew."""
        samples = self._samples
        if samples and total < samples[-1][1]:
            samples.clear()
        samples.append((at, total))
        while len(samples) > 2 and samples[1][0] <= at - WINDOW:
            samples.popleft()

    @property
    def per_second(self) -> float:
        """Between the first sample of the window and the last."""
        if len(self._samples) < 2:
            return 0.0
        (begun, first), (ended, last) = self._samples[0], self._samples[-1]
        return (last - first) * 1000 / max(1, ended - begun)


class Gathered:
    """Sessions as the workers' APIs list them, ended by what the commands topic says."""

    def __init__(self, partitions: int, started_at: Millis) -> None:
        """`partitions` is how many there are."""
        self.commands: deque[CommandRecord] = deque(maxlen=KEPT)
        self._counted = 0
        self.ended = 0
        """Epochs ended so far."""
        self.notice = ""
        self.links: tuple[tuple[str, str], ...] = ()
        self.hints: tuple[str, ...] = ()
        self._partitions = partitions
        self._started_at = started_at
        self._marks: dict[int, Watermark] = {}
        self._live: dict[str, SessionRow] = {}
        self._ended: dict[str, SessionRow] = {}
        self._counts: tuple[int, int] | None = None
        self._owned: dict[int, PartitionView] = {}
        self._events = Rate()
        self._commands = Rate()

    @property
    def apis(self) -> list[str]:
        """Where the owners of partitions answer, as their watermarks say."""
        return sorted({mark.api for mark in self._marks.values() if mark.api})

    @property
    def complete(self) -> bool:
        """Whether every partition has an owner that answers."""
        return len(self._owned) == self._partitions

    def record(self, key: bytes | None, value: bytes | None) -> CommandRecord | None:
        """Take one record of the commands topic; the command in it, if there is one.

        Tombstones, and what a newer monitor may write, are passed over.
        """
        if value is None:
            return None
        try:
            kind, _ = read_key(key)
            if kind is KeyKind.WATERMARK:
                mark = decode_watermark(value)
                self._marks[mark.partition] = mark
                return None
            command = decode_command(value) if kind is not KeyKind.OTHER else None
        except BadRecord:
            return None
        if command is None:
            return None
        self.commands.append(command)
        self._counted += 1
        self._end(command)
        return command

    def _end(self, command: CommandRecord) -> None:
        kind = command.known_type
        state = None if kind is None else _ENDS.get(kind)
        if state is None:
            self._ended.pop(command.session_id, None)
            return
        self.ended += 1
        row = self._live.get(command.session_id) or self._ended.get(command.session_id)
        if row is not None and row.epoch <= command.epoch:
            self._live.pop(command.session_id, None)
            end = EndView(
                command.type, command.reason, command.effective_at, command.cutoff, command.forget_after,
                rule=command.rule, limit_ms=command.limit_ms, control_id=command.control_id,
            )  # fmt: skip
            row = msgspec.structs.replace(row, state=state.name.lower(), epoch=command.epoch, end=end)
            self._ended[command.session_id] = row

    def sessions(self, rows: Collection[SessionRow], live: int, ended: int) -> None:
        """The live sessions right now, or the first few hundred of them; and how many there are in all."""
        kept = self._ended
        # The list may be older than the last command: what that has ended stays ended until its next epoch.
        self._live = {
            row.session_id: row for row in rows if (gone := kept.get(row.session_id)) is None or row.epoch > gone.epoch
        }
        for session_id in self._live.keys() & kept.keys():
            del kept[session_id]
        self._counts = live, ended

    def partitions(self, views: Sequence[PartitionView]) -> None:
        """The partitions that are owned right now."""
        self._owned = {view.partition: view for view in views}

    def counters(self, at: Millis, events: float) -> None:
        """How many events have been applied so far, ticks not among them."""
        self._events.take(at, events)
        self._commands.take(at, self._counted)

    def picture(self, now: Millis) -> Picture:
        """One frame's worth."""
        for session_id, row in list(self._ended.items()):
            if row.end is None or now - row.end.effective_at > SHOWN_AFTER_END:
                del self._ended[session_id]
        owned = self._owned.values()
        live, ended = self._counts or (len(self._live), self.ended)
        return Picture(
            now=now, started_at=self._started_at, sessions=(*self._live.values(), *self._ended.values()),
            commands=tuple(self.commands), counted=self._counted, live=live, ended=ended,
            events_rate=self._events.per_second, commands_rate=self._commands.per_second,
            lag_records=sum(view.lag_records for view in owned),
            lag_ms=max((view.behind_ms or 0 for view in owned), default=0),
            owned=len(owned), partitions=self._partitions, links=self.links, hints=self.hints,
            notice=self.notice,
        )  # fmt: skip
