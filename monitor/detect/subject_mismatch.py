"""`subject_mismatch`: events that name another subject or tenant than their session has. They come from dead letters.

Of a dead letter only the session is certain, so the state is one session's. It is told of them in the order of the topic; a copy, which a
worker's replay may write, comes of an access event at or below the last that counted: those of a session are in order.
"""

from typing import Final

import msgspec

from monitor.core.effects import RefusalReason
from monitor.core.events import Attributes
from monitor.core.instants import NEVER, Millis
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.principal import Exempt
from monitor.detect.settings import Detector
from monitor.detect.settings import SubjectMismatch as Told
from monitor.detect.windows import Window
from monitor.policy.durations import format_duration
from monitor.wire.bad_record import BadRecord
from monitor.wire.dead_letters import DeadLetter
from monitor.wire.events import read_access_event
from monitor.wire.times import format_time

MOST_NAMED: Final = 8
"""Subjects and tenants that are named: the last of them."""


class Mismatch(msgspec.Struct, frozen=True):
    """One event that was refused."""

    session_id: str
    subject: str | None
    """The session's, where somebody knows it."""
    named: str
    """What the event names: `subject` or `tenant`, and which."""
    at: Millis
    """When it was appended to dead-letters."""
    partition: int = 0
    """Of the event."""
    offset: int = 0


class Mismatches(msgspec.Struct, array_like=True):
    """Of one session."""

    session_id: str
    subject: str | None = None
    """As it was told first; the alert's fingerprint has it, so it stays."""
    applied: int = -1
    """The offset on dead-letters up to which they have been taken."""
    floor: tuple[int, int] = (-1, -1)
    """Partition and offset of the last event that counted."""
    window: Window = msgspec.field(default_factory=Window)
    named: list[str] = []
    stands_out: bool = False

    def take(self, mismatch: Mismatch, offset: int, told: Told) -> bool:
        """One more, at its offset on dead-letters; whether it counts."""
        if offset <= self.applied:
            return False
        self.applied = offset
        partition, last = self.floor
        if partition == mismatch.partition and mismatch.offset <= last:
            return False
        self.floor = mismatch.partition, mismatch.offset
        if not self.window:
            self.named = []
        if self.subject is None and not self.stands_out:
            self.subject = mismatch.subject
        self.window.add(mismatch.at, told.window)
        self.named = [*(name for name in self.named if name != mismatch.named), mismatch.named][-MOST_NAMED:]
        return True

    def judge(self, now: Millis, told: Told, exempt: Exempt) -> Finding | Cleared | None:
        """Whether there were too many at `now`."""
        self.window.trim(now, told.window)
        seen = self.window.count(now, told.window)
        about = Subject(Detector.SUBJECT_MISMATCH, self.subject, self.session_id)
        if told.enabled and seen >= max(1, told.count) and not exempt(Attributes(subject=self.subject)):
            self.stands_out = True
            return self._finding(about, now, told, seen)
        stood, self.stands_out = self.stands_out, False
        return Cleared(about, now) if stood else None

    def next_look(self, told: Told) -> Millis:
        """When time alone takes it below what stands out, or leaves nothing; `NEVER` where nothing is left."""
        return self.window.below(max(1, told.count) if self.stands_out else 1, told.window) if self.window else NEVER

    @property
    def empty(self) -> bool:
        """Nothing is left that counts."""
        return not (self.window or self.stands_out)

    def _finding(self, about: Subject, now: Millis, told: Told, seen: int) -> Finding:
        whose = "another" if self.subject is None else f"{self.subject}'s"
        return Finding(
            about, now,
            f"{seen} {'event' if seen == 1 else 'events'} within {format_duration(told.window)} for {whose} session named {self.named[-1]}",
            {"subject": self.subject, "events_below": told.count, "window_ms": told.window},
            {"events": seen, "named": list(self.named), "last": format_time(self.window.exact[-1]), "sessions": 1},
            (self.session_id,),
        )  # fmt: skip


def mismatch_of(letter: DeadLetter, at: Millis, subject: str | None = None) -> Mismatch | None:
    """What this dead letter says, appended at `at`; None where it is there for another reason, or says nothing of a session.

    `subject` is the session's, where somebody knows it. What the event names is a tenant only where the letter says so.
    """
    if letter.reason != RefusalReason.SUBJECT_MISMATCH:
        return None
    try:
        event = read_access_event(letter.value, letter.headers)
    except BadRecord:
        return None
    what = "tenant" if letter.detail.endswith("another tenant") else "subject"
    name = event.tenant if what == "tenant" else event.subject
    if not event.session_id:
        return None
    return Mismatch(event.session_id, subject, f"{what} {name}", at, letter.partition, letter.offset)


def encode_mismatches(mismatches: Mismatches) -> bytes:
    """The state of one session, for the changelog."""
    return _encode(mismatches)


def decode_mismatches(state: bytes) -> Mismatches:
    """The state in these bytes. Raises msgspec.DecodeError for others."""
    return _decode(state)


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Mismatches).decode
