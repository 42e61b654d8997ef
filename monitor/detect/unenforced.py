"""`unenforced`: a gateway lets ended sessions pass."""

from bisect import bisect_right, insort
from collections.abc import Callable
from typing import Final, Self

import msgspec

from monitor.core.events import Attributes
from monitor.core.instants import LogMillis, Millis
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.detect.enforcement import Ledger
from monitor.detect.finding import MOST_SESSIONS, Cleared, Finding, Subject
from monitor.detect.settings import Detector, Unenforced
from monitor.detect.words import many, rounded
from monitor.policy.durations import format_duration

MOST_LATE: Final = 1000
"""Late activities of one gateway that are held: of more the newest."""
MOST_ENDS: Final = 100_000
"""Ended sessions of which `Ends` knows when: of more those that ended last."""

_ENDINGS: Final = frozenset({LifecycleType.EXPIRED, LifecycleType.REVOKED, LifecycleType.CLOSED})
_BEGINNINGS: Final = frozenset({LifecycleType.OPENED, LifecycleType.REAUTHENTICATED, LifecycleType.REINSTATED})


class Ends:
    """When sessions ended: from when on their gateways could know of it."""

    def __init__(self) -> None:
        """None has ended."""
        self._ends: dict[str, LogMillis] = {}

    def take(self, record: Lifecycle) -> None:
        """A lifecycle record; those of one session in their order."""
        if record.type in _BEGINNINGS:
            self._ends.pop(record.session_id, None)
        elif record.type in _ENDINGS and not record.observe and record.session_id not in self._ends:
            # A deadline may have been decided long after it, where a source or the monitor was away.
            self._ends[record.session_id] = max(record.at, record.log_time)
            if len(self._ends) > MOST_ENDS:
                del self._ends[next(iter(self._ends))]

    def of(self, record: Lifecycle) -> LogMillis | None:
        """When the session of this record ended: as the record itself says (its `deadline`), or as far as known."""
        return self._ends.get(record.session_id) if record.deadline is None else record.deadline

    def to_bytes(self) -> bytes:
        """Everything that `from_bytes` needs."""
        return _encode(self._ends)

    @classmethod
    def from_bytes(cls, written: bytes) -> Self:
        """As it was when it was written. Raises msgspec.DecodeError."""
        found = cls()
        found._ends = _decode_ends(written)
        return found


class Late(msgspec.Struct, array_like=True):
    """One late activity."""

    told: LogMillis
    at: Millis
    """By the gateway's clock, or earlier."""
    ended: LogMillis
    session_id: str
    id: str
    """Of its lifecycle record."""
    covered: bool = False
    """It came after the gateway's receipt."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_ends: Final = msgspec.msgpack.Decoder(dict[str, LogMillis]).decode
_decode: Final = msgspec.msgpack.Decoder(tuple[str, list[Late]]).decode


class Passes:
    """What one gateway has let pass lately, and what may turn out so once its receipts are read.

    Told of the same records in whatever order, and however often, it comes to the same. A record counts while it was
    told less than `window` ago.
    """

    __slots__ = ("_late", "_order", "gateway")

    def __init__(self, gateway: str) -> None:
        """Nothing yet. `gateway` is the `source` of its events."""
        self.gateway = gateway
        self._late: dict[str, Late] = {}
        self._order: list[tuple[LogMillis, str]] = []

    def take(self, record: Lifecycle, ended: LogMillis | None, exempt: Callable[[Attributes], bool]) -> bool:
        """A record from this gateway; whether it is one more late activity. Where it is not known when the session ended, nothing can be said."""
        if record.type is not LifecycleType.LATE_ACTIVITY or ended is None or exempt(record.attributes):
            return False
        return self._hold(Late(record.log_time, record.at, ended, record.session_id, record.id))

    def merge(self, other: "Passes") -> None:
        """Take in what another partition knows of the same gateway."""
        for late in other.held():
            self._hold(msgspec.structs.replace(late))

    def held(self) -> list[Late]:
        """All that is held, in the order in which it was told."""
        return [self._late[id_] for _, id_ in self._order]

    def judge(self, now: LogMillis, ledger: Ledger, settings: Unenforced) -> Finding | Cleared:
        """Whether it stands out at `now`. O(what is held): once for many records is enough."""
        about = Subject(Detector.UNENFORCED, gateway=self.gateway)
        passed = self._passed(now, ledger, settings)
        if len(passed) < settings.count:
            return Cleared(about, now)
        sessions = list(dict.fromkeys(late.session_id for late in reversed(passed)))
        longest, covered = max(late.at - late.ended for late in passed), sum(late.covered for late in passed)
        return Finding(
            about, now,
            f"gateway {self.gateway} let ended sessions pass: {many(len(passed), 'activity', 'activities')} of {many(len(sessions), 'session')}, up to "
            f"{rounded(longest)} after the end, {covered} of them after its own receipt; none was expected after "
            f"a receipt, or more than {format_duration(settings.past)} after the end",
            expected={"past_ms": settings.past, "fewer_than": settings.count, "window_ms": settings.window},
            seen={"activities": len(passed), "after_receipt": covered, "longest_ms": longest, "sessions": len(sessions)},
            sessions=tuple(sessions[:MOST_SESSIONS]),
        )  # fmt: skip

    def next_look(self, now: LogMillis, ledger: Ledger, settings: Unenforced) -> Millis | None:
        """When it ceases to stand out if nothing more comes; None: it does not stand out."""
        passed = self._passed(now, ledger, settings)
        return passed[-settings.count].told + settings.window if len(passed) >= settings.count else None

    def forget(self, now: LogMillis, settings: Unenforced) -> bool:
        """Let go of what no longer counts at `now`; whether nothing is left, and the whole may go."""
        count = bisect_right(self._order, now - settings.window, key=lambda one: one[0])
        for _, id_ in self._order[:count]:
            del self._late[id_]
        del self._order[:count]
        return not self._order

    def to_bytes(self) -> bytes:
        """Everything that `from_bytes` needs."""
        return _encode((self.gateway, self.held()))

    @classmethod
    def from_bytes(cls, written: bytes) -> Self:
        """As it was when it was written. Raises msgspec.DecodeError."""
        gateway, late = _decode(written)
        found = cls(gateway)
        for one in late:
            found._hold(one)
        return found

    def _hold(self, late: Late) -> bool:
        if late.id in self._late:
            self._late[late.id].covered |= late.covered
            return False
        self._late[late.id] = late
        insort(self._order, (late.told, late.id))
        if len(self._order) <= MOST_LATE:
            return True
        _, gone = self._order.pop(0)
        del self._late[gone]
        return gone != late.id

    def _passed(self, now: LogMillis, ledger: Ledger, settings: Unenforced) -> list[Late]:
        """Those that count at `now`, in the order in which they were told."""
        found = []
        for late in self.held():
            if not late.covered:
                since = ledger.since(self.gateway, late.session_id, late.ended)
                late.covered = since is not None and late.at > since
            if now - late.told < settings.window and (late.covered or late.at - late.ended > settings.past):
                found.append(late)
        return found
