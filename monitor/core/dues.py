"""What comes next for a session, and when: pure arithmetic over its deadlines.

All instants are log time. The order of `DueKind` is the order in which things that are due at one instant
happen: absolute before idle, both before the rest.
"""

from collections.abc import Sequence
from enum import IntEnum

import msgspec

from monitor.core.instants import NEVER, EventMillis, LogMillis, Millis
from monitor.core.session import (
    ABSOLUTE_SET,
    IDLE_SET,
    LAST_ACTIVITY,
    NOTHING_ASIDE,
    OBSERVED_ABSOLUTE,
    OBSERVED_IDLE,
    START,
    STATE_COLUMN,
    Session,
    State,
    Warned,
)


class DueKind(IntEnum):
    """What a session may be waiting for."""

    ABSOLUTE = 0
    IDLE = 1
    REPLAN = 2
    OBSERVED_ABSOLUTE = 3
    OBSERVED_IDLE = 4
    WARN_ABSOLUTE = 5
    WARN_IDLE = 6
    FORGET = 7

    @property
    def rank(self) -> int:
        """The part of the order that holds across sessions."""
        return min(self.value, 2)


class Due(msgspec.Struct, frozen=True, gc=False):
    """One thing a session waits for."""

    when: LogMillis
    kind: DueKind


class Graces(msgspec.Struct, gc=False):
    """What defers idle strikes on one partition."""

    lateness: Millis
    quiet_until: LogMillis = 0
    floor: LogMillis = 0
    """The furthest watermark that an earlier, shorter `lateness` may have given: nothing new speaks of less."""
    sources: dict[str, EventMillis] = {}
    """Announced sources -> how far each has spoken."""


def strike_of_absolute(deadline: Millis, set_at: LogMillis, lateness: Millis) -> LogMillis:
    """The log time at which an absolute deadline strikes."""
    return deadline if deadline > set_at else set_at + lateness


def strike_of_idle(
    session: Session, deadline: Millis, set_at: LogMillis, graces: Graces, now: LogMillis
) -> LogMillis:
    """The log time at which an idle deadline strikes, seen from `now`.

    Graces are looked at only when `lateness` is over: until then they may come and go, and a timer that
    rings in vain costs less than a watermark that must ask every session.
    """
    strike = max(deadline, set_at) + graces.lateness
    if now < strike:
        return strike
    strike = max(strike, graces.quiet_until)
    if session.source is not None:
        spoken = graces.sources.get(session.source)
        if spoken is not None and spoken < deadline:
            strike = max(strike, deadline + graces.lateness + session.plan.source_grace)
    return strike


def waits_for_source(session: Session, graces: Graces, now: LogMillis) -> bool:
    """Whether an idle deadline has passed, on trial or not, that its source has not spoken up to yet."""
    spoken = graces.sources.get(session.source) if session.source is not None else None
    if spoken is None:
        return False
    plan = session.common.plan
    last: int = session.last_activity
    deadline = last + min(plan.idle.ms, plan.observed_idle.ms)
    return deadline <= now and spoken < last + max(
        limit.ms for limit in (plan.idle, plan.observed_idle) if limit.ms < NEVER
    )


def effective(deadline: Millis, set_at: LogMillis, graces: Graces) -> Millis:
    """The instant a strike speaks of: the deadline, or the instant of its cause where it was long past."""
    if deadline > set_at:
        return deadline
    return deadline if deadline > max(set_at - graces.lateness, graces.floor) else set_at


def next_warning(
    deadline: Millis, limit: Millis, leads: tuple[Millis, ...], warned: Warned | None, now: LogMillis
) -> Millis:
    """When the next warning of this deadline is due (maybe in the past), or NEVER."""
    if now >= deadline or deadline >= NEVER:
        return NEVER
    below = warned.lead if warned is not None and warned.deadline == deadline else NEVER
    return deadline - max((lead for lead in leads if lead < limit and lead < below), default=deadline - NEVER)


def due_lead(deadline: Millis, limit: Millis, leads: tuple[Millis, ...], now: LogMillis) -> Millis:
    """The shortest lead that is due at `now`. There must be one."""
    return min(lead for lead in leads if lead < limit and deadline - lead <= now)


def soonest(sessions: Sequence[Session]) -> list[Millis]:
    """For each session of one partition an instant before which nothing comes due for it, nor is anything deferred; 0 where
    that takes a closer look.

    Much quicker than `next_due`, for a recovery, which arms all sessions at once: one that rings too soon is armed again.
    """  # fmt: skip
    if not sessions:
        return []
    columns = sessions[0].columns
    last, start, idle_set, absolute_set = columns[LAST_ACTIVITY], columns[START], columns[IDLE_SET], columns[ABSOLUTE_SET]
    states = columns[STATE_COLUMN]
    found: list[Millis] = []
    take, known = found.append, None
    for session in sessions:
        if session.aside is not NOTHING_ASIDE:
            take(0)
            continue
        if session.common is not known:
            known = session.common
            plan = known.plan
            for_idle, for_absolute, valid_until = plan.idle.ms, plan.absolute.ms, plan.valid_until
            lead = plan.warn_before[0] if plan.warn_before else 0
        row = session.row
        idle, absolute = last[row] + for_idle, start[row] + for_absolute
        if idle <= idle_set[row] or absolute <= absolute_set[row] or states[row]:
            take(0)
            continue
        first = (idle if idle < absolute else absolute) - lead  # noqa: FURB136
        take(first if first < valid_until else valid_until)  # noqa: FURB136
    return found


def next_due(session: Session, graces: Graces, now: LogMillis) -> Due:
    """The first thing this session waits for, seen from log time `now`."""
    if session.state is not State.LIVE:
        end = session.end
        return Due(end.forget_after if end is not None else NEVER, DueKind.FORGET)
    plan = session.plan
    lateness = graces.lateness
    absolute = session.absolute_deadline
    idle = session.idle_deadline
    when = strike_of_absolute(absolute, session.absolute_set_at, lateness)
    kind = DueKind.ABSOLUTE
    at = strike_of_idle(session, idle, session.idle_set_at, graces, now)
    if at < when:
        when, kind = at, DueKind.IDLE
    if plan.valid_until < when:
        when, kind = plan.valid_until, DueKind.REPLAN
    trial = session.trial
    if trial is not None and not session.observed & OBSERVED_ABSOLUTE:
        at = strike_of_absolute(trial.absolute, trial.absolute_set_at, lateness)
        if at < when:
            when, kind = at, DueKind.OBSERVED_ABSOLUTE
    if trial is not None and not session.observed & OBSERVED_IDLE:
        at = strike_of_idle(session, trial.idle, trial.idle_set_at, graces, now)
        if at < when:
            when, kind = at, DueKind.OBSERVED_IDLE
    if plan.warn_before:
        at = next_warning(absolute, session.absolute_limit.ms, plan.warn_before, session.absolute_warned, now)
        if at < when:
            when, kind = at, DueKind.WARN_ABSOLUTE
        at = next_warning(idle, plan.idle.ms, plan.warn_before, session.idle_warned, now)
        if at < when:
            when, kind = at, DueKind.WARN_IDLE
    return Due(when, kind)


def undecided(session: Session, graces: Graces, now: LogMillis) -> tuple[Millis, bool]:
    """The earliest instant that a strike of an enforced limit would speak of, and whether the strike is deferred.

    Deferred: it comes later than `lateness` after that instant, or is overdue; so the watermark must wait for it.
    """
    lateness = graces.lateness
    idle = session.idle_deadline
    absolute = session.absolute_deadline
    of_idle = effective(idle, session.idle_set_at, graces)
    of_absolute = effective(absolute, session.absolute_set_at, graces)
    waits = []
    for instant, strike in (
        (of_idle, strike_of_idle(session, idle, session.idle_set_at, graces, now)),
        (of_absolute, strike_of_absolute(absolute, session.absolute_set_at, lateness)),
    ):
        # A strike that is due already happens at the next record: until then it is undecided.
        if strike > instant + lateness or strike <= now:
            waits.append(instant)
    return (min(waits), True) if waits else (min(of_idle, of_absolute), False)
