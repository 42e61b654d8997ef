"""One partition that this worker owns: its decisions, its records in waiting, its checkpoint."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from monitor.core.effects import Forgotten
from monitor.core.instants import LogMillis, Millis
from monitor.core.partition import Partition, Position
from monitor.core.session import DIRTY_COLUMN, TOUCHED_COLUMN, Dirty, Session
from monitor.wire.topics import Topics
from monitor.worker.intake import Intake
from monitor.worker.outlet import LogOutlet
from monitor.worker.ports import Appender, Record
from monitor.worker.state import (
    POSITION_PREFIX,
    TOUCH_PREFIX,
    TOUCHES,
    encode_position,
    encode_session,
    encode_touches,
    position_key,
)
from monitor.worker.ticker import Ticks
from monitor.worker.touches import TouchLog
from monitor.worker.witness import fact_in, judge_command, judge_state

SLICE: Final = 1000
"""Records applied, or appended, or touches encoded, between two turns of the event loop ..."""
WHOLE: Final = 200
"""... and sessions encoded whole: each a few milliseconds at the most, for what others wait for takes several turns."""

LOOK: Final = 10_000
"""Sessions looked at between two turns, when a generation of touches ends."""


class Owned:
    """A partition under this worker's hand. Everything but `await`ed writes is synchronous."""

    def __init__(
        self, partition: Partition, intake: Intake, outlet: LogOutlet, committed: int, touches: TouchLog
    ) -> None:
        """`committed` is the offset that the group has committed."""
        self.touches = touches
        self.partition = partition
        self.intake = intake
        self.outlet = outlet
        self.committed = committed
        self.ticks = Ticks()
        self.waiting: deque[tuple[Sequence[Record], int]] = deque()
        """Fetches not applied yet, each with the place of its first record that was not."""
        self.paused = False
        self.end_offset = committed
        self.stale_positions: list[int] = []
        self.stale_touches: list[bytes] = []
        """Records of touches that strangers wrote: all that they say is known here."""
        self.last_watermark: Millis = 0
        self.behind = True
        """It has not come to the present yet."""
        self.progressed_at: Millis = 0

    @property
    def number(self) -> int:
        """The partition's number."""
        return self.partition.number

    def apply_some(self, latest: LogMillis) -> bool:
        """Apply the next slice of what waits; whether there is more that could be applied now."""
        while self.waiting:
            records, place = self.waiting.popleft()
            stop = min(place + SLICE, len(records))
            place = self.intake.take(records, place, stop, latest)
            if place < len(records):
                self.waiting.appendleft((records, place))
            if place < stop:
                return False
            if place == stop:
                break
        return bool(self.waiting)

    @property
    def backlog(self) -> int:
        """Records fetched and not applied."""
        return sum(len(records) - place for records, place in self.waiting)

    def answer_command(self, record: Record) -> None:
        """Somebody else wrote on our commands partition: write ours again where theirs is weaker."""
        fact = fact_in(record)
        if fact is not None and fact.offset >= self.partition.offset:
            self.intake.facts.add(fact)  # we have not read that far: it holds from there on
            return
        restate, bury = judge_command(self.partition, record)
        for session_id in restate:
            self.partition.restate(self.partition.sessions[session_id])
        for session_id in bury:
            self.outlet.tombstone(session_id)

    def answer_state(self, record: Record, topic: str, appender: Appender) -> None:
        """Somebody else wrote on our changelog partition: ours goes there again."""
        if record.key is not None and record.key.startswith(TOUCH_PREFIX):
            if record.value is not None and record.key not in self.touches:
                self.stale_touches.append(record.key)
            return
        session, bury = judge_state(self.partition, record, self.committed)
        if session is not None:
            if session.dirty == Dirty.NOTHING:
                self.partition.dirty.append(session)
            session.dirty = Dirty.CHANGED
        if bury is not None and bury.startswith(POSITION_PREFIX):
            # After the next commit: it may be the very position that is about to be committed.
            self.stale_positions.append(int(bury[len(POSITION_PREFIX) :]))
        elif bury is not None:
            appender.append(topic, self.number, bury, None)


class Checkpoint:
    """One checkpoint of one partition, in its steps. The order of the steps is the durability argument.

    Seal the position; encode what is dirty; *everything decided so far* acknowledged; the changelog
    acknowledged; the offset committed; only then the tombstones of what that offset made obsolete.
    A session may be written in a later state than the sealed position: its `applied_offset` says so.
    But never before what it has caused is durable, or a replay would skip an effect that was lost.
    """

    def __init__(self, owned: Owned, topics: Topics, appender: Appender) -> None:
        """Seal: the position is the one right now. The partition must be swept."""
        partition = owned.partition
        self.position: Position = partition.position()
        self.forgotten: list[Forgotten] = owned.outlet.forgotten
        owned.outlet.forgotten = []
        self._owned = owned
        self._dirty: list[Session] = partition.dirty[:]
        partition.dirty.clear()
        self._topic = topics.changelog.name
        self._appender = appender
        self._encoded: list[tuple[bytes, bytes]] = []
        self.written = 0
        """Sessions that stand in what was encoded."""
        owned.touches.turn(len(partition.sessions))
        self._retiring = owned.touches.retiring
        self._look_at: list[Session] = [] if self._retiring is None else list(partition.sessions.values())

    @property
    def moves(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._dirty) or self.position.offset > self._owned.committed

    def encode_some(self) -> bool:
        """Encode the next slice of dirty sessions; whether there are more."""
        if not self._dirty:
            self._rescue_some()
        columns = self._owned.partition.rows.columns
        levels, generations, generation = columns[DIRTY_COLUMN], columns[TOUCHED_COLUMN], self._owned.touches.generation
        touched: list[Session] = []
        whole, dirty = 0, self._dirty
        while dirty and len(touched) < SLICE and whole < WHOLE:
            session = dirty.pop()
            row = session.row
            if session.common.columns is columns and levels[row] == Dirty.TOUCHED:
                touched.append(session)
                generations[row] = generation
                levels[row] = Dirty.NOTHING
            else:
                # A forgotten one too, as it ended: a crash before its tombstone must not find it alive.
                self._whole(session)
                session.dirty = Dirty.NOTHING
                whole += 1
        # All of them in this turn: one that is forgotten in the next has no row any more.
        for start in range(0, len(touched), TOUCHES):
            alike = touched[start : start + TOUCHES]
            self._encoded.append((self._owned.touches.add(len(alike)), encode_touches(alike)))
            self.written += len(alike)
        return bool(self._dirty or self._look_at)

    def _whole(self, session: Session) -> None:
        self._encoded.append((session.session_id.encode(), encode_session(session)))
        self.written += 1
        session.touched = 0

    def _rescue_some(self) -> None:
        """Write whole, in slices, what stands nowhere else than in the generation that ends.

        Also where it has moved on since the position was sealed: the next checkpoint may never come.
        """
        some = self._look_at[-LOOK:]
        del self._look_at[-LOOK:]
        for session in some:
            if session.touched == self._retiring:
                self._whole(session)

    def write_some(self) -> bool:
        """Append the next slice of what was encoded, the position last; whether there is more. Only after the outputs are settled."""
        append, number = self._appender.append, self._owned.number
        some, self._encoded = self._encoded[:SLICE], self._encoded[SLICE:]
        for key, value in some:
            append(self._topic, number, key, value)
        if self._encoded:
            return True
        append(self._topic, number, position_key(self.position.offset), encode_position(self.position))
        return False

    def committed(self) -> None:
        """The offset is committed: let compaction have what it made obsolete."""
        owned, append = self._owned, self._appender.append
        stale = [offset for offset in (*owned.stale_positions, owned.committed) if offset != self.position.offset]
        for offset in stale:
            append(self._topic, owned.number, position_key(offset), None)
        stale_touches, owned.stale_touches = owned.stale_touches, []
        if self._retiring is not None:
            stale_touches += owned.touches.retired(self._retiring)
        for key in stale_touches:
            append(self._topic, owned.number, key, None)
        owned.stale_positions.clear()
        owned.committed = self.position.offset
        for gone in self.forgotten:
            again = owned.partition.sessions.get(gone.session_id)
            if again is None:
                append(self._topic, owned.number, gone.session_id.encode(), None)
            if again is None or again.end is None:
                owned.outlet.tombstone(gone.session_id)
