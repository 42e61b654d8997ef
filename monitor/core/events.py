"""What happened to a session, as the decisions see it: decoded, checked, in milliseconds."""

from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from monitor.core.instants import EventMillis, LogMillis, Millis


class EventType(StrEnum):
    """The access events of DESIGN section 4.1."""

    OPENED = "session.opened"
    ACTIVITY = "session.activity"
    REAUTHENTICATED = "session.reauthenticated"
    CLOSED = "session.closed"


class Principal(StrEnum):
    """Who acts: a person or a program."""

    USER = "user"
    SERVICE = "service"


class ActivityKind(IntEnum):
    """Evidence of use. The values are bits, so that a plan holds the counting kinds as one mask."""

    HUMAN = 1
    AGENT = 2
    INFLIGHT = 4
    KEEPALIVE = 8


COUNTING_BY_DEFAULT: Final = ActivityKind.HUMAN | ActivityKind.AGENT | ActivityKind.INFLIGHT

ACTIVITY_KINDS: Final = MappingProxyType({kind.name.lower(): kind for kind in ActivityKind})
"""The word on the wire -> the kind. A word that is not here is a keep-alive."""


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """What is known of a session besides its times. `None` and `()` mean: not known."""

    subject: str | None = None
    principal: Principal | None = None
    roles: tuple[str, ...] = ()
    """Sorted, without duplicates."""
    classification: str | None = None
    workload: str | None = None
    route: str | None = None
    tenant: str | None = None
    client_ip: str | None = None
    user_agent: str | None = None


class Event(msgspec.Struct, gc=False):
    """One access event of one session. Absent fields are `None`: they change nothing."""

    type: EventType
    session_id: str
    time: EventMillis
    """min(the source's time, the append time)."""
    appended: LogMillis
    activity: ActivityKind | None = None
    """`None`: the event names none; it is an agent's for a service, else a human's."""
    subject: str | None = None
    principal: Principal | None = None
    roles: tuple[str, ...] | None = None
    classification: str | None = None
    workload: str | None = None
    route: str | None = None
    tenant: str | None = None
    client_ip: str | None = None
    user_agent: str | None = None
    auth_time: Millis | None = None
    """A whole number of seconds on the wire stands for the end of its second."""
    acr: str | None = None
    expires: Millis | None = None
    source: str | None = None
    id: str | None = None


class SourceAlive(msgspec.Struct, gc=False):
    """`source.alive`: every event of this source up to `time` has been sent."""

    source: str
    time: EventMillis
    final: bool = False


class Tick(msgspec.Struct, gc=False):
    """`monitor.tick`: the owner moves log time, and lets controls up to an offset take effect."""

    owner: str
    controls_to: int
