"""Lifecycle records: what became of a session, for detection, dashboard and audit."""

from enum import StrEnum
from hashlib import blake2b

import msgspec
import orjson

from monitor.core.events import Attributes
from monitor.core.instants import LogMillis, Millis
from monitor.core.plan import Because


class LifecycleType(StrEnum):
    """The closed list of DESIGN section 4.4."""

    OPENED = "session.opened"
    ATTRIBUTES_CHANGED = "session.attributes_changed"
    WARNED = "session.warned"
    EXPIRED = "session.expired"
    REVOKED = "session.revoked"
    REINSTATED = "session.reinstated"
    REAUTHENTICATED = "session.reauthenticated"
    CLOSED = "session.closed"
    LATE_ACTIVITY = "session.late_activity"


class Lifecycle(msgspec.Struct, frozen=True):
    """One change in the life of a session, with the session as it stood right after."""

    type: LifecycleType
    session_id: str
    epoch: int
    at: Millis
    """The instant the change speaks of: a deadline, an event's time, a control's append time."""
    log_time: LogMillis
    partition: int
    offset: int
    attributes: Attributes
    started_at: Millis
    opened_at: Millis
    last_activity: Millis
    counts: tuple[int, int, int, int]
    """Events by kind: human, agent, inflight, keepalive."""
    reason: str | None = None
    rule: str | None = None
    limit_ms: Millis | None = None
    policy: str | None = None
    command_id: str | None = None
    control_id: str | None = None
    observe: bool = False
    """True: a rule on trial would have done this; nothing was commanded."""
    implicit: bool = False
    """Of `session.opened`: there was no `session.opened` event."""
    source: str | None = None
    event_id: str | None = None
    deadline: Millis | None = None
    chain: tuple[Because, ...] = ()

    @property
    def id(self) -> str:
        """32 hex digits: a hash of session, epoch, type and place, so that a replay's copy is recognised."""
        place = [self.session_id, self.epoch, self.type.value, self.partition, self.offset, self.observe, self.deadline]
        return blake2b(orjson.dumps(place), digest_size=16).hexdigest()
