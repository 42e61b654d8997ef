"""`Finding`: what one detector sees of one thing, at one instant. Detectors make them; `book` turns them into alerts."""

from hashlib import blake2b

import msgspec
import orjson

from monitor.core.instants import Millis
from monitor.detect.settings import Detector

MOST_SESSIONS = 20
"""Session ids that an alert names; of more it says how many there are."""


class Subject(msgspec.Struct, frozen=True):
    """What an alert speaks of: the members that make its fingerprint, the same over restarts."""

    detector: Detector
    subject: str | None = None
    session_id: str | None = None
    gateway: str | None = None
    workload: str | None = None
    tenant: str | None = None

    @property
    def fingerprint(self) -> str:
        """32 hex digits: a hash of the members and nothing else."""
        return blake2b(orjson.dumps([self.detector.value, self.subject, self.session_id, self.gateway, self.workload, self.tenant]), digest_size=16).hexdigest()


class Finding(msgspec.Struct, frozen=True):
    """It stands out at `at`. The same thing seen again has the same `about`, and newer figures."""

    about: Subject
    at: Millis
    summary: str
    """One sentence for people: what was expected, and what was seen."""
    expected: dict[str, object]
    seen: dict[str, object]
    sessions: tuple[str, ...] = ()
    """Those that it speaks of, `MOST_SESSIONS` at most; `seen["sessions"]` says how many there are."""
    cohort: dict[str, object] = {}
    """With whom it was compared."""


class Cleared(msgspec.Struct, frozen=True):
    """What stood out no longer does, since `at`."""

    about: Subject
    at: Millis
