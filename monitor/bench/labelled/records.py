"""What a history is made of: records as the monitor's topics have them, each with its append time, and labels."""

from typing import TypeAlias

import msgspec

from monitor.core.instants import LogMillis, Millis
from monitor.core.lifecycle import Lifecycle
from monitor.detect.settings import Detector
from monitor.wire.receipts import Receipt


class Mismatched(msgspec.Struct, frozen=True):
    """An event that went to dead-letters because it names another subject than its session has."""

    session_id: str
    subject: str
    """The session's."""
    named: str
    """The event's."""
    at: Millis


class Commanded(msgspec.Struct, frozen=True):
    """A command in its place on session-commands."""

    partition: int
    offset: int
    at: LogMillis
    session_id: str


What: TypeAlias = Lifecycle | Mismatched | Commanded | Receipt


class Entry(msgspec.Struct, frozen=True):
    """A record, and when the broker appended it."""

    at: LogMillis
    what: What


class Label(msgspec.Struct, frozen=True):
    """One injected abuse: a detector is to name this subject, this session or this gateway, whichever are given."""

    detector: Detector
    begins: Millis
    """When the abuse begins, not when it could first be told from use."""
    ends: Millis
    """The last that it brings about, such as the timeout of an abandoned session."""
    subject: str | None = None
    session_id: str | None = None
    gateway: str | None = None
    sessions: tuple[str, ...] = ()
    """All sessions that take part."""
