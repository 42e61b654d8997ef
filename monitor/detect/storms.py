"""Storms: so many alerts of one kind that they become one with a count.

A storm begins with the alert that is one too many in the window. While it lasts, whatever would begin is counted, each thing once, and not
raised. It is over at the end of the first window in which no more things were counted than may begin by themselves: what still stands out
then begins as an alert of its own, so nothing is swallowed for good.

A restart counts the same, if the last checkpoint is less than a window of log time back. From further back, what was counted by a storm and
began by itself after it, within that time, may be left out of the count that is told again.
"""

from bisect import bisect_right, insort
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec
import orjson

from monitor.core.instants import DAY, Millis
from monitor.detect.distinct import Distinct
from monitor.detect.finding import MOST_SESSIONS, Finding, Subject
from monitor.detect.settings import Detector
from monitor.detect.settings import Storm as Bounds
from monitor.policy.durations import format_duration

Kind: TypeAlias = tuple[Detector, str | None]
"""Of one subject, or of all (None)."""

REMEMBERED: Final[Millis] = DAY
"""When alerts began is known for so long: a restart may find what began later written already, and what began before not."""
_FEW_KINDS: Final = 10_000
_LONGEST_NAMED: Final = 256
"""Characters of a session id that a storm names as an example."""


def storm_fingerprint(kind: Kind, place: str) -> str:
    """32 hex digits that no alert has. `place` tells apart those who keep books beside each other: of one subject there is but one."""
    detector, subject = kind
    return blake2b(orjson.dumps(["storm", detector.value, subject, place if subject is None else ""]), digest_size=16).hexdigest()


class Storm:
    """What one storm has counted."""

    __slots__ = ("all", "ends", "lately", "sessions", "window")

    def __init__(self, at: Millis, window: Millis) -> None:
        """It begins at `at`."""
        self.window = window
        self.ends = at + window
        """Of the window that runs."""
        self.all, self.lately = Distinct(), Distinct()
        """Since it began, and since this window did."""
        self.sessions: tuple[str, ...] = ()
        """The first of those that it speaks of."""

    def count(self, finding: Finding, fingerprint: str) -> bool:
        """One more of its kind, or one that is counted already: which? The window of `at` has to be the one that runs, or an earlier one."""
        if finding.at >= self.ends - self.window:
            self.lately.add(fingerprint)
        if not self.all.add(fingerprint):
            return False
        if len(self.sessions) < MOST_SESSIONS:
            self.sessions = tuple(dict.fromkeys((*self.sessions, *_named(finding))))[:MOST_SESSIONS]
        return True

    def turn(self, bound: int) -> bool:
        """The window ends: whether the storm is over. Else the next one begins."""
        if self.lately.count <= bound:
            return True
        self.lately = Distinct()
        self.ends += self.window
        return False

    def finding(self, kind: Kind, bounds: Bounds, at: Millis) -> Finding:
        """What the alert about the storm says."""
        detector, subject = kind
        bound, count = bound_of(kind, bounds), self.all.count
        whose = "" if subject is None else f" of {subject}"
        about = "" if self.all.exact else "about "
        window = format_duration(bounds.window)
        summary = f"{detector.value}{whose}: {about}{count} more after {bound} alerts within {window}, counted here and not raised one by one"
        return Finding(
            Subject(detector, subject), at, summary, {"alerts": bound, "window": window},
            {"alerts": count, "exact": self.all.exact}, self.sessions,
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        """At most 24 KiB."""
        return msgspec.msgpack.encode((self.window, self.ends, self.all.to_bytes(), self.lately.to_bytes(), self.sessions))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Storm":
        """What `to_bytes` wrote."""
        window, ends, all_, lately, sessions = msgspec.msgpack.decode(data, type=tuple[int, int, bytes, bytes, tuple[str, ...]])
        found = cls(ends - window, window)
        found.all, found.lately = Distinct.from_bytes(all_), Distinct.from_bytes(lately)
        found.sessions = sessions
        return found


def _named(finding: Finding) -> tuple[str, ...]:
    told = (finding.about.session_id,) if finding.about.session_id else finding.sessions
    return tuple(one for one in told if len(one) <= _LONGEST_NAMED)


def bound_of(kind: Kind, bounds: Bounds) -> int:
    """How many of this kind may begin within the window."""
    return bounds.per_alert if kind[1] is None else bounds.per_subject


class Begun:
    """When alerts began, by kind: what the bounds of storms are held against. Bounded by what may begin within `REMEMBERED`."""

    def __init__(self) -> None:
        """None has begun."""
        self._by_kind: dict[Kind, list[Millis]] = {}
        self._sweep_above = _FEW_KINDS

    def add(self, about: Subject, at: Millis) -> None:
        """An alert about this began. O(log n), but for a sweep whenever the kinds have doubled."""
        for kind in kinds(about):
            instants = self._by_kind.setdefault(kind, [])
            insort(instants, at)
            del instants[: bisect_right(instants, instants[-1] - REMEMBERED)]
        if len(self._by_kind) > self._sweep_above:
            self._by_kind = {kind: instants for kind, instants in self._by_kind.items() if instants[-1] > at - REMEMBERED}
            self._sweep_above = max(_FEW_KINDS, 2 * len(self._by_kind))

    def crowded(self, about: Subject, at: Millis, bounds: Bounds) -> Kind | None:
        """Of which kind as many as may have begun in the window that ends at `at`, the narrower first; None: there is room."""
        for kind in kinds(about):
            instants = self._by_kind.get(kind, ())
            if bisect_right(instants, at) - bisect_right(instants, at - bounds.window) >= bound_of(kind, bounds):
                return kind
        return None


def kinds(about: Subject) -> tuple[Kind, ...]:
    """The kinds of an alert about this: of its subject, if it has one, and of all."""
    of_all: Kind = (about.detector, None)
    return (of_all,) if about.subject is None else ((about.detector, about.subject), of_all)
