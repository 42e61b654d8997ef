"""What the other topics account for: ends and openings on session-lifecycle, records put aside on dead-letters."""

from collections import defaultdict
from collections.abc import Callable

import msgspec

from monitor.core.errors import InputError
from monitor.core.instants import Millis
from monitor.core.lifecycle import LifecycleType
from monitor.verify.log import Log, Stored
from monitor.wire.bad_record import BadRecord
from monitor.wire.dead_letters import decode_dead_letter
from monitor.wire.lifecycle import decode_lifecycle


class End(msgspec.Struct, frozen=True):
    """How session-lifecycle says that an epoch ended."""

    counted: int
    partition: int
    offset: int


class Accounts:
    """Session-lifecycle and dead-letters, whole."""

    def __init__(self, log: Log, lifecycle: str, dead_letters: str, events: str) -> None:
        """The names of the topics; dead letters are those of `events`."""
        self.ends: dict[str, list[End]] = defaultdict(list)
        """Command id -> the ends that name it."""
        self.openings: dict[int, dict[int, str]] = defaultdict(dict)
        """Partition -> offset -> the session that was opened there."""
        self.letters: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
        """Partition -> offset -> where its dead letter stands (partition, offset)."""
        self.unreadable: list[Stored] = []
        self.ends_since = self._read(log, lifecycle, self._end)
        """What happened earlier may be gone from session-lifecycle ..."""
        self.letters_since = self._read(log, dead_letters, lambda record: self._letter(record, events))
        """... and from dead-letters."""

    def _read(self, log: Log, topic: str, take: Callable[[Stored], None]) -> Millis:
        since = -1
        for partition in log.partitions(topic):
            begin, _ = log.bounds(topic, partition)
            cut = begin > 0
            for record in log.read(topic, partition):
                if cut:
                    since, cut = max(since, record.timestamp), False
                take(record)
        return since

    def _end(self, record: Stored) -> None:
        try:
            said = decode_lifecycle(record.value)
        except BadRecord:
            self.unreadable.append(record)
            return
        if said.observe:
            return
        if said.type is LifecycleType.OPENED:
            self.openings[said.partition][said.offset] = said.session_id
        elif said.command_id is not None and said.type in _ENDS:
            self.ends[said.command_id].append(End(sum(said.counts), record.partition, record.offset))

    def _letter(self, record: Stored, events: str) -> None:
        try:
            letter = decode_dead_letter(record.key, record.value, record.headers)
        except InputError:
            self.unreadable.append(record)
            return
        if letter.topic == events:
            self.letters[letter.partition].setdefault(letter.offset, (record.partition, record.offset))


_ENDS = frozenset({LifecycleType.EXPIRED, LifecycleType.REVOKED, LifecycleType.CLOSED})
