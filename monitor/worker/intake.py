"""Records in, decisions out: the way of an event from bytes to the partition's step.

Every event is hot or cold. Hot: an activity of a known live session that says nothing new but its time; it
moves last activity and a count, here, in one loop over a whole fetch. All else is cold and goes through
`wire` and `core`. Both give the same result: the hot part is the cold one with what can't happen left out
(`tests/worker/test_worker_intake.py` holds them against each other).
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from monitor.core.effects import Effect
from monitor.core.events import ACTIVITY_KINDS, ActivityKind, Event, EventType, Principal, SourceAlive, Tick
from monitor.core.instants import NEVER, LogMillis, Millis
from monitor.core.partition import Partition
from monitor.core.session import COUNT_UNITS, Session, State
from monitor.wire.events import MAX_RECORD_BYTES, AccessEvent, BadRecord, decode_access_event, decode_record
from monitor.wire.partitioner import partition_for
from monitor.wire.times import parse_time
from monitor.worker.facts import Facts
from monitor.worker.ports import Record

REROUTED_HEADER: Final = "session-monitor-rerouted"
"""Names the partition an event was first written to. An event is re-routed once."""

_HUMAN, _AGENT, _KEEPALIVE = int(ActivityKind.HUMAN), int(ActivityKind.AGENT), int(ActivityKind.KEEPALIVE)
_KINDS: Final[dict[str, int]] = {word: int(kind) for word, kind in ACTIVITY_KINDS.items()}
_UNITS: Final[dict[int, int]] = {int(kind): unit for kind, unit in COUNT_UNITS.items()}


class Blocked(Enum):
    """Why the next record is not applied yet."""

    CONTROLS = "its tick lets controls take effect that have not been read yet"
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
        self.applied = 0
        """Records applied so far ..."""
        self.hot = 0
        """... and how many of them took the hot way."""
        self._outlet = outlet
        self._partitions = partitions

    def take(self, records: Sequence[Record], start: int = 0, stop: int | None = None, latest: LogMillis = NEVER) -> int:
        """Apply records[start:stop]; return the place of the first that was not applied.

        That is `stop`, unless `blocked` says why it is not. `latest` is the latest append time that is
        believed. Bad records become dead letters; only InvariantError is raised.
        """
        partition, facts = self.partition, self.facts
        sessions, effects = partition.sessions, partition.effects
        stop = len(records) if stop is None else stop
        self.blocked = None
        begun = -1
        place = start
        while place < stop:
            record = records[place]
            offset, appended, value = record.offset, record.timestamp, record.value
            if appended != begun:
                if appended > latest:
                    self.blocked = Blocked.AHEAD
                    break
                partition.begin(offset, appended)
                begun = appended
                log_time = partition.log_time
                if facts.pending:
                    facts.merge(partition, offset)
                    begun = -1
                if effects:
                    self._emit()
            event: AccessEvent | None = None
            if value is not None and not record.headers and len(value) <= MAX_RECORD_BYTES:
                try:
                    event = decode_access_event(value)
                    session = sessions.get(event.session_id)
                    if (
                        session is not None
                        and session.seen == _said(event)
                        and offset > session.applied_offset
                        and partition.swept
                        and self._touch(session, event, offset, appended, log_time)
                    ):
                        place += 1
                        continue
                except BadRecord:
                    event = None
            if not self._apply(record, event):
                break
            place += 1
            begun = -1
            if effects:
                self._emit()
        if place > start:
            partition.offset = records[place - 1].offset + 1
            self.applied += place - start
        return place

    def _touch(
        self, session: Session, event: AccessEvent, offset: int, appended: LogMillis, log_time: LogMillis
    ) -> bool:
        """The hot step; False where the event needs the cold one (nothing was changed then)."""
        said = event.time
        time: Millis = appended if said is None else parse_time(said)
        time = min(time, appended)
        word = event.activity
        if word is None:
            kind = _AGENT if session.attributes.principal is Principal.SERVICE else _HUMAN
        else:
            kind = _KINDS.get(word, _KEEPALIVE)
        plan = session.plan
        last = session.last_activity
        if time > last and kind & plan.counts:
            idle = plan.idle.ms
            if time > last + idle or time + idle <= log_time or session.kept_first != NEVER:
                return False
            session.last_activity = time
            session.idle_set_at = log_time
        session.counts += _UNITS[kind]
        session.applied_offset = offset
        if not session.dirty:
            session.dirty = True
            self.partition.dirty.append(session)
        self.hot += 1
        return True

    def _apply(self, record: Record, said: AccessEvent | None) -> bool:
        """The cold step: decode in full, apply; False where it can't be applied yet."""
        partition, offset = self.partition, record.offset
        try:
            event = decode_record(record.value, record.headers, record.key, record.timestamp, principal_of=self._principal_of)
        except BadRecord as bad:
            self._outlet.dead_letter(record, bad.reason, bad.detail)
            return True
        if isinstance(event, Tick):
            if event.controls_to > partition.controls.read_to:
                self.blocked = Blocked.CONTROLS
                return False
            partition.tick(event, offset)
        elif isinstance(event, SourceAlive):
            partition.alive(event)
        else:
            self._apply_event(record, event, said)
        return True

    def _apply_event(self, record: Record, event: Event, said: AccessEvent | None) -> None:
        partition = self.partition
        session = partition.sessions.get(event.session_id)
        if session is None:
            home = partition_for(event.session_id.encode(), self._partitions)
            if home != partition.number and all(name != REROUTED_HEADER for name, _ in record.headers):
                self._outlet.reroute(record, event, home)
                return
        refusal = partition.apply(event, record.offset)
        if refusal is not None:
            self._outlet.dead_letter(record, refusal.reason, refusal.detail)
            return
        session = partition.sessions.get(event.session_id)
        if (
            said is not None
            and session is not None
            and session.state is State.LIVE
            and event.type is EventType.ACTIVITY
            and (event.auth_time is None or event.auth_time <= session.start)
        ):
            session.seen = _said(said)

    def _principal_of(self, session_id: str) -> Principal | None:
        session = self.partition.sessions.get(session_id)
        return None if session is None else session.attributes.principal

    def _emit(self) -> None:
        effects = self.partition.effects
        for effect in effects:
            self._outlet.effect(effect)
        effects.clear()


def _said(event: AccessEvent) -> tuple[object, ...]:
    """Everything an event says besides its time and kind: two that say the same change no attribute."""
    return (
        event.type, event.source, event.subject, event.principal, event.roles, event.classification, event.workload,
        event.route, event.tenant, event.client_ip, event.user_agent, event.auth_time, event.acr, event.expires,
    )  # fmt: skip
