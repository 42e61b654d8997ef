"""`Principal`: what detection knows of one principal, from session-lifecycle. Between two records it is bytes: `encode`, `decode`.

It is told of records in the order of their partition. Nothing counts twice: a record at or below the offset that was applied changes nothing,
and neither does a copy, which a worker's replay may write at any later offset. A copy tells of what the session has been through already
(epoch, end, offset of the access event); and where the session is no longer known, its access event lies at or below those of
the forgotten sessions of the same partition (`floors`).

Bounds: `MOST_SESSIONS` sessions, `MOST_SPANS` spans of former ones, `LATELY` names, a `Window`, and a floor for each partition of
access-events. What does not fit is left out, so that a principal may seem to have done less than it has, never more.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from monitor.core.events import Attributes
from monitor.core.events import Principal as Kind
from monitor.core.instants import DAY, Millis
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.core.reasons import Reason
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.settings import Detector, Settings
from monitor.detect.windows import Window

MOST_SESSIONS: Final = 128
"""Live ones, and those that ended no longer ago than `gap`. Of more live ones the oldest are known, and the newest."""
MOST_SPANS: Final = 8
"""Of more the shortest goes."""
SPAN_NAMES: Final = 4
"""Sessions of a span that are named: the last of them."""
LATELY: Final = 8
"""Sessions that timed out and are named: the last of them."""
FORGET_LIVE: Final[Millis] = 30 * DAY
"""A session of which no end was heard for so long after its epoch began is as good as ended: session-lifecycle is kept no longer."""

Exempt: TypeAlias = Callable[[Attributes], bool]
"""Whether sessions with these attributes are not to be looked at."""


def nobody(_: Attributes) -> bool:
    """No exemption."""
    return False


class Keep(msgspec.Struct, frozen=True):
    """For how long what is kept."""

    window: Millis
    """Of timeouts."""
    gap: Millis
    """Between sessions that belong together."""

    @classmethod
    def of(cls, settings: Settings) -> "Keep":
        """As the detectors need it."""
        return cls(settings.timeout_churn.window, settings.cap_evasion.gap)


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """What plans and exemptions ask of a session, but for its subject."""

    kind: Kind | None = None
    roles: tuple[str, ...] = ()
    classification: str | None = None
    workload: str | None = None
    route: str | None = None
    tenant: str | None = None

    def attributes(self, subject: str | None) -> Attributes:
        """As plans and exemptions want it."""
        return Attributes(subject, self.kind, self.roles, self.classification, self.workload, self.route, self.tenant)


class Known(msgspec.Struct, array_like=True):
    """One session."""

    session_id: str
    profile: int
    """Its place in `Principal.profiles`."""
    partition: int
    offset: int
    """Of the access event that its last record came of."""
    opened_at: Millis
    lead: Millis = 0
    """How long after that its epoch began; negative where the principal had authenticated before."""
    epoch: int = 0
    rank: int = 0
    """0: live; 1: expired or closed; 2: revoked. Within an epoch it only rises."""
    ended: Millis = 0
    """When it was used last, for one that idled out: nobody held it open after that."""

    @property
    def started_at(self) -> Millis:
        """When its epoch began."""
        return self.opened_at + self.lead

    @property
    def begun(self) -> Millis:
        """A re-authentication begins anew: what was before it does not make it older."""
        return self.opened_at + max(0, self.lead) if self.epoch else self.opened_at


class Span(msgspec.Struct, array_like=True):
    """Former sessions of one profile, with no more than `gap` between them."""

    profile: int
    start: Millis
    end: Millis
    parts: int
    names: list[str]


class Principal(msgspec.Struct, array_like=True):
    """All that is known of it. `subject` is None where that is not known; then it is one session, of which only timeouts are kept."""

    subject: str | None
    session_id: str | None = None
    """Where the subject is not known."""
    applied: int = -1
    """The offset on session-lifecycle up to which records have been taken."""
    floors: dict[int, int] = {}
    """By partition of access-events: the last offset of sessions that are no longer known."""
    profiles: list[Profile] = []
    latest: int = -1
    """The profile that was heard of last."""
    sessions: list[Known] = []
    spans: list[Span] = []
    timeouts: Window = msgspec.field(default_factory=Window)
    lately: list[str] = []
    told: tuple[int, int] | None = None
    """The profile and the number of timeouts with which it is counted in its cohort (`timeout_churn.Rates`)."""
    standing_out: list[tuple[str, str | None]] = []
    """What was found and not cleared: detector and workload."""

    # --- records ---------------------------------------------------------------------------------------

    def take(self, record: Lifecycle, offset: int, keep: Keep, exempt: Exempt = nobody) -> bool:
        """One record of this principal, at its offset on session-lifecycle; whether it told anything new.

        Timeouts of sessions that are `exempt` do not count. O(sessions held).
        """
        if offset <= self.applied:
            return False
        self.applied = offset
        rank = _RANKS.get(record.type)
        if rank is None or record.observe:
            return False
        if self.subject is None:
            return self._take_alone(record, rank, keep, exempt)
        known = self._known(record.session_id)
        if not self._is_new(record, rank, known):
            return False
        profile = self._place(record.attributes)
        if known is None:
            self._make_room(keep)
            known = Known(record.session_id, profile, record.partition, record.offset, record.opened_at)
            self.sessions.append(known)
            lived = True
        else:
            lived = known.rank == 0 or record.epoch > known.epoch
        known.profile, known.partition, known.offset = profile, record.partition, record.offset
        known.epoch, known.rank, known.lead = record.epoch, rank, record.started_at - known.opened_at
        self.latest = profile
        if rank == 0:
            known.ended = 0
        elif lived:
            known.ended = max(known.begun, _left(record))
            self._time_out(record, keep, exempt)
        self.trim(record.log_time, keep)
        return True

    def _known(self, session_id: str) -> Known | None:
        for one in self.sessions:
            if one.session_id == session_id:
                return one
        return None

    def _is_new(self, record: Lifecycle, rank: int, known: Known | None) -> bool:
        if known is None:
            return record.offset > self.floors.get(record.partition, -1)
        if (record.epoch, rank) == (known.epoch, known.rank):
            return rank == 0 and record.offset > known.offset  # what one event tells of it twice is the same
        return record.offset >= known.offset and (record.epoch, rank) > (known.epoch, known.rank)

    def _take_alone(self, record: Lifecycle, rank: int, keep: Keep, exempt: Exempt) -> bool:
        """A session whose subject is not known: nobody to compare it with, so its ends are all that is kept."""
        if rank == 0 or record.offset <= self.floors.get(record.partition, -1):
            return False
        self.floors[record.partition] = record.offset
        self.latest = self._place(record.attributes)
        self._time_out(record, keep, exempt)
        self.trim(record.log_time, keep)
        return True

    def _time_out(self, record: Lifecycle, keep: Keep, exempt: Exempt) -> None:
        if record.type is not LifecycleType.EXPIRED or record.reason not in _TIMEOUTS or exempt(record.attributes):
            return
        self.timeouts.add(record.at, keep.window)
        self.lately = [*(name for name in self.lately if name != record.session_id), record.session_id][-LATELY:]

    # --- what is let go --------------------------------------------------------------------------------

    def trim(self, now: Millis, keep: Keep) -> None:
        """Let go of what no detector asks for any more at `now`."""
        if self.lately:
            self.timeouts.trim(now, keep.window)
            if not self.timeouts:
                self.lately = []
        edge, oldest = now - keep.gap, now - FORGET_LIVE
        for one in self.sessions:
            if one.ended < edge if one.rank else one.started_at < oldest:
                self._let_go(now, keep)
                break
        for span in self.spans:
            if span.end < edge:
                self.spans = self._joinable(now, keep)
                break
        if len(self.profiles) > 1:
            self._drop_profiles()

    def _let_go(self, now: Millis, keep: Keep) -> None:
        staying = []
        for one in self.sessions:
            if one.rank and one.ended + keep.gap < now:
                self._fold(one, keep)
            elif not one.rank and one.started_at < now - FORGET_LIVE:
                self._sink(one)
            else:
                staying.append(one)
        self.sessions = staying

    def _make_room(self, keep: Keep) -> None:
        if len(self.sessions) < MOST_SESSIONS:
            return
        ended = [one for one in self.sessions if one.rank]
        if ended:
            gone = min(ended, key=lambda one: one.ended)
            self._fold(gone, keep)
        else:
            gone = max(self.sessions, key=lambda one: (one.opened_at, one.session_id))
            self._sink(gone)
        self.sessions = [one for one in self.sessions if one is not gone]

    def _sink(self, gone: Known) -> None:
        self.floors[gone.partition] = max(gone.offset, self.floors.get(gone.partition, -1))

    def _fold(self, gone: Known, keep: Keep) -> None:
        """Make an ended session part of a span."""
        self._sink(gone)
        span = Span(gone.profile, gone.begun, gone.ended, 1, [gone.session_id])
        apart = []
        for other in self.spans:
            if other.profile == span.profile and other.start - keep.gap <= span.end and span.start <= other.end + keep.gap:
                earlier, later = sorted((span, other), key=lambda one: (one.end, one.start))
                names = [*earlier.names, *later.names][-SPAN_NAMES:]
                span = Span(span.profile, min(span.start, other.start), later.end, span.parts + other.parts, names)
            else:
                apart.append(other)
        self.spans = [*apart, span]
        if len(self.spans) > MOST_SPANS:
            self.spans.remove(min(self.spans, key=lambda one: (one.end - one.start, one.end)))

    def _joinable(self, now: Millis, keep: Keep) -> list[Span]:
        """The spans that something may still join: those of which the last, or what it is joined to, ended no longer ago than `gap`."""
        staying: list[Span] = []
        for workload in {self.profiles[span.profile].workload for span in self.spans}:
            # From the newest back: `reach` is how far back a span has to end to be part of what still goes on.
            mine = [one.begun for one in self.sessions if self.profiles[one.profile].workload == workload]
            reach = min([now, *mine]) - keep.gap
            ours = sorted((s for s in self.spans if self.profiles[s.profile].workload == workload), key=lambda s: -s.end)
            for span in ours:
                if span.end >= reach:
                    reach = min(reach, span.start - keep.gap)
                    staying.append(span)
        return sorted(staying, key=lambda one: (one.start, one.end))

    # --- profiles --------------------------------------------------------------------------------------

    def _place(self, attributes: Attributes) -> int:
        a = attributes
        profile = Profile(a.principal, a.roles, a.classification, a.workload, a.route, a.tenant)
        if profile in self.profiles:
            return self.profiles.index(profile)
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def _drop_profiles(self) -> None:
        """Those that nothing names."""
        named = {one.profile for one in self.sessions} | {one.profile for one in self.spans} | {self.latest}
        if self.told is not None:
            named.add(self.told[0])
        named.discard(-1)
        if len(named) == len(self.profiles):
            return
        places = {old: new for new, old in enumerate(sorted(named))}
        self.profiles = [self.profiles[old] for old in sorted(named)]
        for one in self.sessions:
            one.profile = places[one.profile]
        for span in self.spans:
            span.profile = places[span.profile]
        self.latest = places.get(self.latest, -1)
        if self.told is not None:
            self.told = places[self.told[0]], self.told[1]

    def profile(self, place: int) -> Profile:
        """The profile at this place; that of nothing known for -1."""
        return self.profiles[place] if place >= 0 else _UNKNOWN

    @property
    def attributes(self) -> Attributes:
        """Of what was heard of last."""
        return self.profile(self.latest).attributes(self.subject)

    @property
    def lives(self) -> bool:
        """Whether it has a live session."""
        return any(not one.rank for one in self.sessions)

    # --- what is found ---------------------------------------------------------------------------------

    def about(self, detector: Detector, workload: str | None = None) -> Subject:
        """What an alert of this principal speaks of."""
        return Subject(detector, self.subject, self.session_id, workload=workload)

    def note(self, about: Subject, finding: Finding | None, now: Millis) -> Finding | Cleared | None:
        """Remember whether it stands out; `Cleared` once, where it did and no longer does."""
        if finding is None and not self.standing_out:
            return None
        name = about.detector.value, about.workload
        if finding is not None:
            if name not in self.standing_out:
                self.standing_out = sorted([*self.standing_out, name], key=repr)
            return finding
        if name not in self.standing_out:
            return None
        self.standing_out = [other for other in self.standing_out if other != name]
        return Cleared(about, now)

    def stands_out(self, detector: Detector, workload: str | None = None) -> bool:
        """Whether that was found, and not cleared."""
        return bool(self.standing_out) and (detector.value, workload) in self.standing_out

    def fades_at(self, keep: Keep) -> Millis:
        """The first instant at which nothing is left of it, if no record comes: then `trim`, judge once more, and drop it if `empty`."""
        instants = [one.ended + keep.gap + 1 if one.rank else one.started_at + FORGET_LIVE + 1 for one in self.sessions]
        instants.extend(span.end + keep.gap + 1 for span in self.spans)
        if self.timeouts:
            instants.append(self.timeouts.below(1, keep.window))
        return max(instants, default=0)

    @property
    def empty(self) -> bool:
        """Nothing is left that counts: whoever holds it may drop it, and begin anew with the next record."""
        return not (self.sessions or self.spans or self.timeouts or self.standing_out or self.told)


def encode(principal: Principal) -> bytes:
    """Its state: what stands in the changelog, and how it is held between two records."""
    # Not the encoder's own bytes, which were cut to size where they lie: of 200,000 of them each costs 280 bytes more.
    room = bytearray()
    _encode_into(principal, room)
    return bytes(room)


def decode(state: bytes) -> Principal:
    """The principal of these bytes. Raises msgspec.DecodeError for others."""
    return _decode(state)


def principal_of(record: Lifecycle) -> Principal:
    """The principal of this record, of which nothing is known yet."""
    subject = record.attributes.subject
    return Principal(subject) if subject is not None else Principal(None, record.session_id)


def _left(record: Lifecycle) -> Millis:
    """When it was let go of: an idle session was left at its last activity, not when that was noticed."""
    idle = record.type is LifecycleType.EXPIRED and record.reason == Reason.IDLE_TIMEOUT
    return min(record.at, record.last_activity) if idle else record.at


_UNKNOWN: Final = Profile()
_TIMEOUTS: Final = frozenset({Reason.IDLE_TIMEOUT, Reason.ABSOLUTE_TIMEOUT})
_RANKS: Final = {
    LifecycleType.OPENED: 0,
    LifecycleType.ATTRIBUTES_CHANGED: 0,
    LifecycleType.WARNED: 0,
    LifecycleType.REAUTHENTICATED: 0,
    LifecycleType.REINSTATED: 0,
    LifecycleType.EXPIRED: 1,
    LifecycleType.CLOSED: 1,
    LifecycleType.REVOKED: 2,
}
"""How a session stands after a record. Late activity says nothing of that."""
_encode_into: Final = msgspec.msgpack.Encoder().encode_into
_decode: Final = msgspec.msgpack.Decoder(Principal).decode
