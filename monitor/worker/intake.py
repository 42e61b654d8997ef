"""Records in, decisions out: the way of an event from bytes to the partition's step.

Every event is hot or cold. Hot: an activity of a known live session that says nothing new but its time (see
`likeness`); it moves last activity and a count, here, in one loop over a whole fetch. All else is cold and goes through
`wire` and `core`. Both give the same result: the hot part is the cold one with what can't happen left out
(`tests/worker/test_worker_intake.py` holds them against each other).
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from monitor.core.effects import Effect
from monitor.core.events import Event, EventType, Principal, Tick
from monitor.core.instants import NEVER, LogMillis, Millis
from monitor.core.partition import Partition, kind_of
from monitor.core.session import (
    APPLIED,
    DIRTY_COLUMN,
    IDLE_SET,
    LAST_ACTIVITY,
    LIKENESS,
    NOTHING_ASIDE,
    TIMER,
    State,
)
from monitor.core.timers import RANK_BITS
from monitor.wire.bad_record import DeadLetterReason
from monitor.wire.events import AccessEvent, BadRecord, read_access_event, understand
from monitor.wire.partitioner import partition_for
from monitor.worker.facts import Facts
from monitor.worker.likeness import instant_of, instants, layout_of
from monitor.worker.ports import Record

REROUTED_HEADER: Final = "session-monitor-rerouted"
"""Names the partition an event was first written to. An event is re-routed once."""


class Blocked(Enum):
    """Why the next record is not applied yet."""

    CONTROLS = "its tick lets controls take effect that have not been read yet"
    SWEEP = "the controls before it have not reached every session yet"
    AHEAD = "its append time is far ahead of this machine's clock"


class Outlet(Protocol):
    """Where what was decided goes."""

    def effect(self, effect: Effect) -> None:
        """A command, lifecycle record or tombstone."""

    def dead_letter(self, record: Record, reason: str, detail: str) -> None:
        """A record that could not be understood or applied, as it came."""

    def reroute(self, record: Record, event: Event, partition: int) -> None:
        """An event that was written to the wrong partition."""


class Intake:
    """Applies the records of one partition, in offset order."""

    def __init__(self, partition: Partition, outlet: Outlet, partitions: int, facts: Facts | None = None) -> None:
        """`partitions` is how many access-events has; `facts` what the commands topic already says."""
        self.partition = partition
        self.facts = facts or Facts()
        self.blocked: Blocked | None = None
        self.controls_end: int | None = None
        """The end of session-control, asked for after a tick was met that spoke of more: then that tick is forged."""
        self.applied = 0
        """Records applied so far ..."""
        self.hot = 0
        """... how many of them took the hot way ..."""
        self.ticks = 0
        """... and how many were ticks."""
        self._sample: Event | None = None
        self._outlet = outlet
        self._partitions = partitions

    def take(  # noqa: C901 - one narrow loop: a call more for each event would cost a tenth of it
        self, records: Sequence[Record], start: int = 0, stop: int | None = None, latest: LogMillis = NEVER
    ) -> int:
        """Apply records[start:stop]; return the place of the first that was not applied.

        That is `stop`, unless `blocked` says why it is not. `latest` is the latest append time that is
        believed. Bad records become dead letters; only InvariantError is raised.
        """
        partition, facts = self.partition, self.facts
        sessions, effects, marked = partition.sessions, partition.effects, partition.dirty
        columns = partition.rows.columns
        last_activity, idle_set_at, applied = columns[LAST_ACTIVITY], columns[IDLE_SET], columns[APPLIED]
        likeness, timer, dirty = columns[LIKENESS], columns[TIMER], columns[DIRTY_COLUMN]
        known = instants.get
        stop = len(records) if stop is None else stop
        self.blocked = None
        begun = -1
        log_time = partition.log_time
        swept = partition.swept
        cold = 0
        for place, record in enumerate(records[start:stop], start):  # noqa: B007 - how far it came
            appended = record.timestamp
            if appended != begun:
                if appended > latest:
                    self.blocked = Blocked.AHEAD
                    break
                partition.begin(record.offset, appended)
                begun = appended
                log_time = partition.log_time
                if facts.pending and swept:
                    facts.merge(partition, record.offset)
                    begun = -1
                if effects:
                    self._emit()
            key = record.key
            if key is not None and swept and not record.headers:
                try:
                    session = sessions.get(key.decode())
                except UnicodeDecodeError:
                    session = None
                if session is not None and (layout := (common := session.common).seen) is not None:
                    value = record.value
                    if value is not None and len(value) == layout.size:
                        row, offset = session.row, record.offset
                        head, written, middle, word, tail = layout.parts(value)
                        if layout.turned:
                            written, word = word, written
                        time: Millis | None
                        if written:
                            time = known(written)
                            if time is None:
                                time = instant_of(written)
                        else:
                            time = appended
                        if (
                            # The bytes outside of time and id are those of an event that was taken in whole before.
                            hash((head, middle, tail)) == likeness[row]
                            and time is not None
                            and (word.isalnum() or not word or word.replace(b"-", b"").isalnum())
                            and offset > applied[row]
                        ):
                            # The hot step: what is not sure to move the last activity alone goes the cold way.
                            time = time if time < appended else appended  # noqa: FURB136
                            last = last_activity[row]
                            if time > last and layout.kind & (plan := common.plan).counts:
                                idle = plan.idle.ms
                                leads = plan.warn_before
                                moves = (
                                    time <= last + idle
                                    and time + idle > log_time
                                    and (session.aside is NOTHING_ASIDE or (session.kept_first == NEVER and session.trial is None))
                                    # Its next warning does not come before what it is armed for.
                                    and (not leads or (time + idle - leads[0]) << RANK_BITS >= timer[row])
                                )
                                if moves:
                                    last_activity[row] = time
                                    idle_set_at[row] = log_time
                            else:
                                moves = True
                            if moves:
                                columns[layout.column][row] += layout.unit
                                applied[row] = offset
                                if not dirty[row]:
                                    dirty[row] = 1
                                    marked.append(session)
                                continue
            if not self._apply(record):
                break
            cold += 1
            begun = -1
            swept = partition.swept
            if effects:
                self._emit()
        else:
            place = stop
        if self.blocked is not None:
            partition.offset = records[place].offset  # it was advanced to, but not applied
        elif place > start:
            partition.offset = records[place - 1].offset + 1
        self.applied += place - start
        self.hot += place - start - cold
        return place

    def _apply(self, record: Record) -> bool:
        """The cold step: decode in full, apply; False where it can't be applied yet."""
        partition, offset = self.partition, record.offset
        try:
            said = read_access_event(record.value, record.headers)
            event = understand(said, record.key, record.timestamp, principal_of=self._principal_of)
        except BadRecord as bad:
            self._outlet.dead_letter(record, bad.reason, bad.detail)
            return True
        if isinstance(event, Event):
            self._sample = event
            self._apply_event(record, event, said)
        elif isinstance(event, Tick) and event.controls_to <= partition.controls_to:
            self.ticks += 1  # log time has moved, and that was all it came for
        elif not partition.swept:
            self.blocked = Blocked.SWEEP
            return False
        elif isinstance(event, Tick):
            if event.controls_to > partition.controls.read_to:
                if self.controls_end is not None and event.controls_to >= self.controls_end:
                    detail = f"controls_to is {event.controls_to}, but session-control ends at {self.controls_end}"
                    self._outlet.dead_letter(record, DeadLetterReason.RESERVED_TYPE, detail)
                    return True
                self.blocked = Blocked.CONTROLS
                return False
            partition.tick(event, offset)
            self.ticks += 1
        else:
            partition.alive(event)
        return True

    def take_sample(self) -> tuple[str | None, Millis, LogMillis] | None:
        """The latest cold event's source, event time and append time, once: what skew is estimated from."""
        sample, self._sample = self._sample, None
        return None if sample is None else (sample.source, sample.time, sample.appended)

    def _apply_event(self, record: Record, event: Event, said: AccessEvent) -> None:
        partition = self.partition
        if event.session_id not in partition.sessions:
            home = partition_for(event.session_id.encode(), self._partitions)
            if home != partition.number and all(name != REROUTED_HEADER for name, _ in record.headers):
                self._outlet.reroute(record, event, home)
                return
        known = partition.sessions.get(event.session_id)
        if known is not None and record.offset <= known.applied_offset:
            return  # a replay: it was applied, or refused, before; nothing may be remembered of it here
        refusal = partition.apply(event, record.offset)
        if refusal is not None:
            self._outlet.dead_letter(record, refusal.reason, refusal.detail)
            return
        session = partition.sessions.get(event.session_id)
        if (
            session is not None
            and session.state is State.LIVE
            and event.type is EventType.ACTIVITY
            and (event.auth_time is None or event.auth_time <= session.start)
            and record.value is not None
            and not record.headers
        ):
            # Nothing in this event but its time can have an effect if it comes again.
            layout = layout_of(record.value, said, kind_of(event, session))
            if layout is not None:
                session.seen, session.likeness = layout, layout.likeness(record.value)

    def _principal_of(self, session_id: str) -> Principal | None:
        session = self.partition.sessions.get(session_id)
        return None if session is None else session.attributes.principal

    def _emit(self) -> None:
        effects = self.partition.effects
        for effect in effects:
            self._outlet.effect(effect)
        effects.clear()

