"""A session lived through: from what a client does to what the monitor writes of it.

Theory of operation: a `Script` says what the client would do if nothing ended its session. `Course` goes through its
stretches of activity in order and lets the plan's limits strike between them, by DESIGN section 6: idle at the last
counting activity + its limit, absolute at the epoch's start + its limit. It shares nothing with the engine but words.
"""

from hashlib import blake2b
from typing import Final
from zlib import crc32

import msgspec

from monitor.bench.labelled.records import Commanded, Entry, Mismatched, What
from monitor.core.events import ActivityKind, Attributes
from monitor.core.instants import NEVER, SECOND, LogMillis, Millis
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.core.plan import Limit, Plan
from monitor.core.reasons import Reason
from monitor.detect.living import Living
from monitor.wire.partitioner import partition_for

LATENESS: Final[Millis] = 2 * SECOND
"""How long the monitor waits for the last activity before idle strikes: the policy's default."""
SOON: Final[Millis] = 5 * SECOND
"""Nobody is back sooner after an end: the command has to reach a gateway, and a person has to log in."""
_PLACE_BITS: Final = 20
_KINDS: Final = {kind: place for place, kind in enumerate(ActivityKind)}


class Stretch(msgspec.Struct, frozen=True):
    """Events of one kind at a steady pace: `count` of them, the first at `begins`, one each `step`."""

    begins: Millis
    step: Millis
    """Shorter than the idle limit."""
    count: int = 1
    kind: ActivityKind = ActivityKind.HUMAN
    renews: bool = False
    """Its first event brings a new authentication, before any limit has struck."""

    @property
    def ends(self) -> Millis:
        """The instant of the last."""
        return self.begins + self.step * (self.count - 1)

    def by(self, at: Millis) -> int:
        """How many have come by then."""
        return 0 if at < self.begins else min(self.count, (at - self.begins) // self.step + 1)


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What a client does with one session."""

    session_id: str
    attributes: Attributes
    stretches: tuple[Stretch, ...]
    """Of activity that counts, in order, without overlap. The first event opens the session."""
    keepalives: tuple[Stretch, ...] = ()
    """Beside them. A session that has any doesn't return."""
    changes: tuple[tuple[Millis, Attributes], ...] = ()
    """In order. They leave the limits as they are: another address, another user agent."""
    closes: Millis | None = None
    """When the client closes it, if it still lives; at its last activity where a login has put that off until later."""
    returns: bool = False
    """Whether activity after an end re-authenticates and goes on; else it is lost."""
    late: tuple[Millis, ...] = ()
    """Activity that a gateway lets pass after the end: how long after the end was decided. A minute apart at least."""
    mismatches: tuple[tuple[Millis, str], ...] = ()
    """When an event names whom."""
    source: str
    """The gateway."""
    lag: Millis = 50
    """From the time that its source gives an event to its append: the way, and a clock that lies behind."""

    @property
    def opened(self) -> Millis:
        """The time of its first event."""
        return self.stretches[0].begins


class Places:
    """Where records stand: the offset grows with log time alone, so that no record's place depends on others."""

    def __init__(self, begins: LogMillis, partitions: int) -> None:
        """Offset 0 is about `begins`."""
        self._begins, self._partitions = begins, partitions

    def partition(self, session_id: str) -> int:
        """The session's own."""
        return partition_for(session_id.encode(), self._partitions)

    def offset(self, at: LogMillis, session_id: str | None = None) -> int:
        """What a session writes at this log time; without one, the end of all that was written before it."""
        low = 0 if session_id is None else crc32(session_id.encode()) >> (32 - _PLACE_BITS) | 1
        return max(0, at - self._begins) << _PLACE_BITS | low


class Course:
    """How it went. `entries` are in the order of their append times."""

    def __init__(self, script: Script, plan: Plan, places: Places, struck_after: Millis = 0) -> None:
        """`struck_after` is how long the monitor takes from due to done."""
        self.script = script
        self._plan, self._places, self._struck_after = plan, places, struck_after
        self._partition = places.partition(script.session_id)
        self._epochs: list[list[Millis]] = [[script.opened, NEVER]]
        """When each began and ended."""
        self._kept: list[Stretch] = []
        self._last = script.opened
        self._ended: LogMillis = 0
        """The log time of the last end."""
        self.entries: list[Entry] = []
        self._tell(LifecycleType.OPENED, script.opened, script.opened + script.lag, source=script.source)
        self._live()
        self._tell_changes()
        self.entries.sort(key=_appended)

    def living(self, at: Millis) -> Living | None:
        """The session as it is at this instant; None: it does not live then."""
        epoch = self._epoch(at)
        if epoch is None:
            return None
        script = self.script
        return Living(
            script.session_id, epoch, self._attributes(at), script.opened, self._epochs[epoch][0],
            self._last_activity(epoch, at), self._counts(at),
        )  # fmt: skip

    # --- the limits ------------------------------------------------------------------------------------

    def _live(self) -> None:
        for stretch in self.script.stretches:
            if not self._take(stretch):
                break
        else:
            at, reason = self._deadline()
            closes = self.script.closes
            if closes is not None and (closes := max(closes, self._last)) < at:
                self._end(closes, closes + self.script.lag, LifecycleType.CLOSED, Reason.CLOSED)
            else:
                self._expire(at, reason)
        for after in self.script.late:
            # The gateway saw it a moment before it was appended.
            self._tell(LifecycleType.LATE_ACTIVITY, self._ended + after - 20, self._ended + after, source=self.script.source)

    def _take(self, stretch: Stretch) -> bool:
        """Let a stretch happen; False: the session has ended before it was over, and the client does not return."""
        while True:
            at, reason = self._deadline()
            if stretch.begins > at or (stretch.begins == at and reason is Reason.ABSOLUTE_TIMEOUT):
                self._expire(at, reason)
                if not self.script.returns:
                    return False
                stretch = msgspec.structs.replace(stretch, begins=max(stretch.begins, at + SOON))
                self._authenticated(stretch.begins, LifecycleType.REAUTHENTICATED, LifecycleType.REINSTATED)
            elif stretch.renews:
                self._epochs[-1][1] = stretch.begins
                self._authenticated(stretch.begins, LifecycleType.REAUTHENTICATED)
            stretch = msgspec.structs.replace(stretch, renews=False)
            count = stretch.by(self._epochs[-1][0] + self._plan.absolute.ms - 1)
            self._kept.append(msgspec.structs.replace(stretch, count=count))
            self._last = self._kept[-1].ends
            if count == stretch.count:
                return True
            stretch = msgspec.structs.replace(stretch, begins=stretch.begins + count * stretch.step, count=stretch.count - count)

    def _deadline(self) -> tuple[Millis, Reason]:
        idle, absolute = self._last + self._plan.idle.ms, self._epochs[-1][0] + self._plan.absolute.ms
        return (absolute, Reason.ABSOLUTE_TIMEOUT) if absolute <= idle else (idle, Reason.IDLE_TIMEOUT)

    def _expire(self, at: Millis, reason: Reason) -> None:
        absolute = reason is Reason.ABSOLUTE_TIMEOUT
        decided = at + self._struck_after + (0 if absolute else LATENESS)
        self._end(at, decided, LifecycleType.EXPIRED, reason, self._plan.absolute if absolute else self._plan.idle)

    def _end(self, at: Millis, decided: LogMillis, told: LifecycleType, reason: Reason, limit: Limit | None = None) -> None:
        self._epochs[-1][1] = at
        self._ended = max(decided, self._epochs[-1][0] + self.script.lag)
        self._tell(told, at, self._ended, reason=reason, limit=limit)
        name = self.script.session_id
        self._add(self._ended, Commanded(self._partition, self._places.offset(self._ended, name), self._ended, name))

    def _authenticated(self, at: Millis, *tells: LifecycleType) -> None:
        self._epochs.append([at, NEVER])
        self._last = at
        for told in tells:
            self._tell(told, at, at + self.script.lag, source=self.script.source)

    # --- the words -------------------------------------------------------------------------------------

    def _tell_changes(self) -> None:
        lag, attributes = self.script.lag, self.script.attributes
        for at, _ in self.script.changes:
            if self._epoch(at) is not None:
                self._tell(LifecycleType.ATTRIBUTES_CHANGED, at, at + lag, source=self.script.source)
        for at, named in self.script.mismatches:
            self._add(at + lag, Mismatched(self.script.session_id, attributes.subject or "", named, at))

    def _tell(
        self, told: LifecycleType, at: Millis, log_time: LogMillis, *, reason: Reason | None = None, limit: Limit | None = None,
        source: str | None = None,
    ) -> None:  # fmt: skip
        epoch = self._epoch(at)
        epoch = len(self._epochs) - 1 if epoch is None else epoch
        name = self.script.session_id
        ended = told in {LifecycleType.EXPIRED, LifecycleType.CLOSED}
        self._add(
            log_time,
            Lifecycle(
                told, name, epoch, at, log_time, self._partition, self._places.offset(log_time, name), self._attributes(at),
                self._epochs[epoch][0], self.script.opened, self._last_activity(epoch, at), self._counts(at), reason,
                None if limit is None else limit.rule, None if limit is None else limit.ms, self._plan.policy,
                _hashed(name, epoch, told) if ended else None, source=source,
            ),
        )  # fmt: skip

    def _add(self, at: LogMillis, what: What) -> None:
        self.entries.append(Entry(at, what))

    # --- how it stood ----------------------------------------------------------------------------------

    def _epoch(self, at: Millis) -> int | None:
        """The epoch in which it lives at this instant."""
        for epoch in range(len(self._epochs) - 1, -1, -1):
            begins, ends = self._epochs[epoch]
            if begins <= at:
                return epoch if at < ends else None
        return None

    def _attributes(self, at: Millis) -> Attributes:
        found = self.script.attributes
        for changed, attributes in self.script.changes:
            if changed > at:
                break
            found = attributes
        return found

    def _last_activity(self, epoch: int, at: Millis) -> Millis:
        for stretch in reversed(self._kept):
            if count := stretch.by(at):
                return max(self._epochs[epoch][0], stretch.begins + (count - 1) * stretch.step)
        return self._epochs[epoch][0]

    def _counts(self, at: Millis) -> tuple[int, int, int, int]:
        found = [0, 0, 0, 0]
        # The first event is told of before it is taken.
        for stretch in self._kept or self.script.stretches[:1]:
            found[_KINDS[stretch.kind]] += stretch.by(at)
        until = min(at, self._epochs[-1][1])
        for stretch in self.script.keepalives:
            found[_KINDS[stretch.kind]] += stretch.by(until)
        human, agent, inflight, keepalive = found
        return human, agent, inflight, keepalive


def _appended(entry: Entry) -> LogMillis:
    return entry.at


def _hashed(name: str, epoch: int, told: LifecycleType) -> str:
    return blake2b(f"{name}/{epoch}/{told.value}".encode(), digest_size=16).hexdigest()
