"""What `book` keeps of one thing that stands out: while it is only seen, and when it has become an alert; and both as bytes."""

from hashlib import blake2b
from typing import Any, Final, TypeVar

import msgspec

from monitor.core.errors import InvariantError
from monitor.core.instants import MINUTE, NEVER, SECOND, Millis
from monitor.detect.evidence import clip
from monitor.detect.finding import Finding, Subject
from monitor.detect.settings import Common
from monitor.detect.storms import Storm
from monitor.wire.alerts import AlertRecord, AlertState
from monitor.wire.times import Instant

UPDATE_EVERY: Final[Millis] = 30 * SECOND
"""Newer figures of an alert are told no more often."""
LEAST_UNSEEN: Final[Millis] = MINUTE
"""No alert is over because it was not looked at for less than this, whatever its `resolve_after`."""

_MOST_NAME: Final = 4096
"""Bytes of JSON of a member that names somebody."""


class Pending(msgspec.Struct, array_like=True):
    """Seen, but not yet for as long as its detector wants to see it."""

    about: Subject
    since: Millis
    seen: Millis
    armed: Millis = NEVER
    """The instant under which it stands in the queue of time."""


class Alert(msgspec.Struct, array_like=True):
    """An alert that has fired, and may be over."""

    fingerprint: str
    finding: Finding
    """The newest, within bounds (`evidence`)."""
    since: Millis
    """When it was seen first in this life."""
    seen: Millis
    published: Millis
    """When it was told last."""
    told: bytes = b""
    """A hash of the figures that were told ..."""
    changed: bool = False
    """... and whether they are others now."""
    cleared: Millis | None = None
    """Since when it no longer stands out, if its detector says so."""
    ended: Millis | None = None
    silenced_by: tuple[str, ...] = ()
    """As it was told last."""
    begun: tuple[Millis, ...] = ()
    """When its lives began, of late."""
    storm: Storm | None = None
    """What it counts, if it is about a storm."""
    armed: Millis = NEVER

    @property
    def firing(self) -> bool:
        """Whether it is not over."""
        return self.ended is None

    def over(self, told: Common) -> Millis:
        """The instant at which it is over, if it is not seen before. Not of storms: their windows decide."""
        unseen = self.seen + max(told.resolve_after, LEAST_UNSEEN)
        return unseen if self.cleared is None else min(unseen, self.cleared + told.resolve_after)

    def record(self, told: Common, at: Millis) -> AlertRecord:
        """How it stands at `at`."""
        about, finding = self.finding.about, self.finding
        evidence = {"expected": finding.expected, "seen": finding.seen, "sessions": list(finding.sessions), "cohort": finding.cohort}
        return AlertRecord(
            self.fingerprint, about.detector.value, AlertState.FIRING if self.firing else AlertState.RESOLVED, told.severity.value,
            Instant(self.since), Instant(at), finding.summary, _name(about.subject), _name(about.session_id), evidence,
            _name(about.gateway), _name(about.workload), _name(about.tenant), self.silenced_by,
            None if self.storm is None else self.storm.all.count, None if self.ended is None else Instant(self.ended),
        )  # fmt: skip


def _name(text: str | None) -> str | None:
    return None if text is None else clip(text, _MOST_NAME)


def figures(finding: Finding) -> bytes:
    """A hash of all that an alert tells of this finding, but when it was seen."""
    told = (finding.summary, finding.expected, finding.seen, finding.sessions, finding.cohort)
    return blake2b(msgspec.msgpack.encode(told), digest_size=8).digest()


Kept = TypeVar("Kept", Pending, Alert)


def to_bytes(kept: Pending | Alert) -> bytes:
    """Without the place in the queue of time, which follows from the rest."""
    armed, kept.armed = kept.armed, NEVER
    try:
        return _encoder.encode(kept)
    finally:
        kept.armed = armed


def from_bytes(data: bytes, type_: type[Kept]) -> Kept:
    """What `to_bytes` wrote. Raises InvariantError for what it did not."""
    try:
        return msgspec.msgpack.decode(data, type=type_, dec_hook=_read)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvariantError(f"{len(data)} bytes are no {type_.__name__.lower()} alert of a version that is known here: {error}") from None


def _write(value: Any) -> bytes:
    if isinstance(value, Storm):
        return value.to_bytes()
    raise InvariantError(f"no bytes are known for {type(value).__name__}")


def _read(type_: type, value: Any) -> Any:
    return Storm.from_bytes(value) if type_ is Storm else value


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_write)
