"""Timers for millions of sessions: one entry per session, lazily re-armed.

A touch never moves a timer. An entry rings at the earliest instant at which something could have been due
when it was armed; whoever hears it ring looks at the session, and arms it again if nothing is due yet.
Entries stand in buckets of about a second; the buckets that log time has reached are a heap, so that
entries ring in the order (instant, rank, session id). Arming is O(1), ringing O(log n) of one bucket.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from monitor.core.instants import NEVER, LogMillis, Millis
from monitor.core.session import TIMER, Session

WIDTH_BITS: Final = 10
RANK_BITS: Final = 2
RANK_MASK: Final = (1 << RANK_BITS) - 1


class Timers:
    """Sessions by the instant at which they are to be looked at."""

    __slots__ = ("_buckets", "_horizon", "_near", "_numbers", "armed")

    def __init__(self) -> None:
        """Nothing is armed."""
        self._buckets: dict[int, list[Session]] = {}
        self._numbers: list[int] = []
        """The numbers of the buckets, as a heap."""
        self._near: list[tuple[int, str, int, Session]] = []
        """The third member tells a session that was forgotten from the one that came back under its id."""
        self._horizon = -1
        self.armed = 0
        """Entries held, stale ones included."""

    def arm(self, session: Session, when: Millis, rank: int) -> None:
        """Let it ring at `when` at the latest. An earlier entry stands, and is looked at when it rings."""
        key = when << RANK_BITS | rank
        if when >= NEVER or 0 < session.timer <= key:
            return
        session.timer = key
        self.armed += 1
        bucket = when >> WIDTH_BITS
        if bucket <= self._horizon:
            heappush(self._near, (key, session.session_id, id(session), session))
        else:
            entries = self._buckets.get(bucket)
            if entries is None:
                entries = self._buckets[bucket] = []
                heappush(self._numbers, bucket)
            entries.append(session)

    def arm_all(self, sessions: Sequence[Session], instants: Sequence[Millis]) -> None:
        """As `arm` with rank 0, for sessions of one partition of which none is armed; in a third of the time."""
        if not sessions:
            return
        column, buckets, armed = sessions[0].columns[TIMER], self._buckets, 0
        for session, when in zip(sessions, instants, strict=True):
            if when >= NEVER:
                continue
            bucket = when >> WIDTH_BITS
            entries = buckets.get(bucket)
            if entries is None:
                self.arm(session, when, 0)
                continue
            column[session.row] = when << RANK_BITS
            armed += 1
            entries.append(session)
        self.armed += armed

    def ring(self, to: LogMillis) -> tuple[LogMillis, Session] | None:
        """Take out the first session that is armed at or before `to`, with its instant, or None."""
        self._reach(to >> WIDTH_BITS)
        near = self._near
        while near and near[0][0] >> RANK_BITS <= to:
            key, _, _, session = heappop(near)
            self.armed -= 1
            if session.timer == key:
                session.timer = 0
                return key >> RANK_BITS, session
        return None

    def next(self, now: LogMillis) -> Millis:
        """The earliest instant at which something may ring; exact for instants up to `now`."""
        self._reach(now >> WIDTH_BITS)
        near = self._near
        while near and near[0][3].timer != near[0][0]:
            heappop(near)
            self.armed -= 1
        if near:
            return near[0][0] >> RANK_BITS
        return self._numbers[0] << WIDTH_BITS if self._numbers else NEVER

    def _reach(self, bucket: int) -> None:
        """Turn every bucket up to this one into heap entries."""
        if bucket <= self._horizon:
            return
        self._horizon = bucket
        due = []
        while self._numbers and self._numbers[0] <= bucket:
            due.append(heappop(self._numbers))
        for number in due:
            entries = self._buckets.pop(number)
            fresh = [
                (session.timer, session.session_id, id(session), session)
                for session in entries
                if session.timer >> (RANK_BITS + WIDTH_BITS) == number
            ]
            self.armed -= len(entries) - len(fresh)
            self._near.extend(fresh)
        if due:
            heapify(self._near)
