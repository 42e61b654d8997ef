"""The decisions of one partition: the whole of DESIGN section 6 as a function of its log.

The order within `begin` and after it is the correctness argument; README.md beside this file states it.
Complexity: O(1) per touch, O(log n) per thing that comes due.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import compress, islice
from typing import Final

import msgspec

from monitor.core import dues
from monitor.core.commands import Command, CommandType
from monitor.core.controls import Control, ControlType
from monitor.core.dues import DueKind, Graces
from monitor.core.effects import Effect, Forgotten, Notice, Refusal, RefusalReason, Revoked
from monitor.core.errors import InvariantError
from monitor.core.events import ActivityKind, Attributes, Event, EventType, Principal, SourceAlive, Tick
from monitor.core.instants import MINUTE, NEVER, SECOND, LogMillis, Millis
from monitor.core.lifecycle import LifecycleType
from monitor.core.plan import Limit, Policy
from monitor.core.reasons import Reason
from monitor.core.scribe import Scribe, allows_reauth
from monitor.core.session import (
    OBSERVED_ABSOLUTE,
    OBSERVED_IDLE,
    Dirty,
    End,
    Move,
    Rows,
    Session,
    State,
    Trial,
    Warned,
)
from monitor.core.standing import ControlLog, Standing
from monitor.core.sweeps import Passed, Shortcut, Sweep, reason_of, shortcut
from monitor.core.timers import Timers

GAP: Final = 3 * SECOND
"""More than this between append times means that nobody was there to tick."""

MOST_SOURCES: Final = 256
"""Announced sources of one partition; one more takes the place of the one that has been silent longest."""
MOST_LATE_SOURCES: Final = 32
"""Sources whose late activity on one session is told apart within a minute."""
PASSED_OVER: Final = 20
"""So much less does a session cost that no control meets than one that is met."""


class Position(msgspec.Struct, frozen=True):
    """A partition's own state right before an offset: with the sessions, all that a replay needs."""

    offset: int
    log_time: LogMillis = 0
    last_append: LogMillis = 0
    controls_to: int = -1
    quiet_until: LogMillis = 0
    policy_since: LogMillis = 0
    """The log time since which its policy rules."""
    sources: dict[str, Millis] = {}
    floor: LogMillis = 0


class Partition:
    """The sessions of one partition, and what is decided about them.

    For each record, in offset order: `begin`, then one of `apply`, `tick`, `alive`. What they decide is
    appended to `effects`, which the caller drains. Sessions that changed stand in `dirty`.
    """

    def __init__(self, number: int, position: Position, controls: ControlLog) -> None:
        """Start right before `position.offset`. Raises InvariantError where no policy rules there."""
        policy = controls.ruling_at(position.controls_to)
        self.number = number
        self.controls = controls
        self.sessions: dict[str, Session] = {}
        self.rows = Rows()
        self.timers = Timers()
        self.effects: list[Effect] = []
        self._scribe = Scribe(number, write=self.effects.append)
        self.dirty: list[Session] = []
        self.notices: Counter[Notice] = Counter()
        self.standing = Standing(policy)
        for control in controls.between(-1, position.controls_to):
            self.standing.take(control, controls.policy_at(control.offset))
        self.graces = Graces(policy.timing.lateness, position.quiet_until, position.floor, dict(position.sources))
        self.offset = position.offset
        self.log_time = self._scribe.log_time = position.log_time
        self.last_append = position.last_append
        self.controls_to = position.controls_to
        self.policy_since = position.policy_since
        self._sweep: Sweep | None = None
        self._sweeping: Iterator[Session] | None = None
        self._shortcut: Shortcut | None = None
        self._held: dict[str, Session] = {}
        """Sessions with an undecided deadline that the watermark must not pass ..."""
        self._waiting: dict[str, Session] = {}
        """... and sessions whose idle strike waits for their source to speak."""

    # --- the log's side ------------------------------------------------------------------------------

    def begin(self, offset: int, appended: LogMillis) -> None:
        """Advance to a record's append time: everything due by then happens, at offset - 1."""
        self.offset = offset + 1
        if self.last_append and appended - self.last_append > GAP:
            quiet = appended + self.standing.policy.timing.outage_grace
            self.graces.quiet_until = max(self.graces.quiet_until, quiet)
            self.notices[Notice.GAP] += 1
        self.last_append = appended
        now = max(appended, self.log_time)
        self._ring(now, offset - 1)
        self.log_time = self._scribe.log_time = now
        if self._sweep is not None:
            passed = self._sweep.passed
            if len(passed) < 2 or (passed[-2].now, passed[-2].quiet_until) != (now, self.graces.quiet_until):
                passed.append(Passed(now, offset - 1, self.graces.quiet_until))
            else:
                passed[-1] = Passed(now, offset - 1, self.graces.quiet_until)

    def apply(self, event: Event, offset: int) -> Refusal | None:
        """One access event. A refusal goes to dead letters; nothing of such an event was applied."""
        session = self.sessions.get(event.session_id)
        if session is None:
            self._open(event, offset)
            return None
        if offset <= session.applied_offset:
            return None
        if self._sweep is not None:
            self._catch_up(session, self._sweep)
            self._ring_one(session, self.log_time, offset - 1)
            if session.state is State.FORGOTTEN:
                self._open(event, offset)
                return None
        refusal = self._mismatch(session, event, offset)
        if refusal is None:
            session.applied_offset = offset
            self._mark(session)
            self._take_in(session, event, offset)
            session.seen = None
        return refusal

    def tick(self, tick: Tick, offset: int) -> None:
        """Let the controls up to `tick.controls_to` take effect here; the caller has read that far, and swept."""
        if tick.controls_to <= self.controls_to:
            return
        if self._sweep is not None:
            raise InvariantError(f"partition {self.number}: controls came before the last were swept")
        controls = tuple(self.controls.between(self.controls_to, tick.controls_to))
        self.controls_to = tick.controls_to
        if not controls:
            return
        for control in controls:
            self.standing.take(control, self.controls.policy_at(control.offset))
            if control.type is ControlType.POLICY:
                self.policy_since = self.log_time
                graces, lateness = self.graces, self.standing.policy.timing.lateness
                if lateness > graces.lateness:
                    graces.floor = max(graces.floor, self.log_time - graces.lateness)
                graces.lateness = lateness
        self._sweep = Sweep(controls, tick.controls_to, self.log_time, offset, [])
        policy = self.controls.policy_at(controls[-1].offset) or self.standing.policy
        self._shortcut = shortcut(self._sweep, policy, self.rows)
        self._sweeping = None

    def alive(self, event: SourceAlive) -> None:
        """A source has spoken up to an instant, or withdraws; the caller has swept."""
        sources = self.graces.sources
        if event.final:
            sources.pop(event.source, None)
        else:
            if event.source not in sources and len(sources) >= MOST_SOURCES:
                del sources[min(sources, key=lambda name: (sources[name], name))]
            sources[event.source] = max(event.time, sources.get(event.source, 0))
        for session in [s for s in self._waiting.values() if s.source == event.source]:
            self._arm(session)

    # --- the owner's side ----------------------------------------------------------------------------

    def sweep(self, most: int) -> bool:
        """Bring about `most` sessions up to date with the controls; whether every session is. Those to be passed over count little."""
        sweep = self._sweep
        if sweep is None:
            return True
        if self._sweeping is None:
            # Not at the tick: to name all takes milliseconds, and the ticks of all partitions come in one turn. Whoever has been
            # opened since is up to date.
            self._sweeping = iter(list(self.sessions.values()))
        for _ in range(PASSED_OVER):
            some = [*islice(self._sweeping, most)]
            if self._bring_up(some, sweep) or len(some) < most:
                break
        if len(some) < most:
            self._sweep = self._shortcut = None
        return self._sweep is None

    def _bring_up(self, some: list[Session], sweep: Sweep) -> bool:
        """Bring these up to date with the controls; whether that meant more than to pass them over."""
        left = some
        revoked: list[Session] = []
        if self._shortcut is not None:
            revoked, left = self._shortcut.take(some, self.log_time, self.dirty)
            if revoked:
                self.effects.append(Revoked(tuple(revoked), self.number, self._shortcut.control, self.log_time))
            for session in revoked if self._held or self._waiting else ():
                self._held.pop(session.session_id, None)
                self._waiting.pop(session.session_id, None)
        for session in left:
            self._catch_up(session, sweep)
        return bool(revoked or left)

    @property
    def swept(self) -> bool:
        """Whether every session is up to date with the controls."""
        return self._sweep is None

    def position(self) -> Position:
        """The partition's own state right before the next offset. Only when `swept`."""
        return Position(
            self.offset, self.log_time, self.last_append, self.controls_to, self.graces.quiet_until,
            self.policy_since, dict(self.graces.sources), self.graces.floor,
        )  # fmt: skip

    def next_due(self, now: LogMillis) -> LogMillis:
        """The earliest log time at which something is due, exact up to `now`: when a tick is wanted."""
        while (when := self.timers.next(now)) <= now:
            rung = self.timers.ring(when)
            if rung is None:
                continue
            session = rung[1]
            due = dues.next_due(session, self.graces, self.log_time)
            self.timers.arm(session, due.when, due.kind.rank)
            if due.when <= when:
                return when
        return when

    def watermark(self) -> LogMillis:
        """Every deadline up to this instant has been decided. Meaningless unless `swept`."""
        decided = self.log_time - self.graces.lateness
        for session_id, session in list(self._held.items()):
            instant, deferred = dues.undecided(session, self.graces, self.log_time)
            if not deferred or session.state is not State.LIVE:
                del self._held[session_id]
                self._arm(session)  # a touch of the hot way rescued it, its timer still waits for the end of the grace
            else:
                decided = min(decided, instant - 1)
        return decided

    def adopt(self, sessions: Sequence[Session]) -> None:
        """Take in recovered sessions; one that was forgotten before, but not yet buried, is forgotten again."""
        now = self.log_time
        instants = dues.soonest(sessions)
        later = [when > now for when in instants]
        self.timers.arm_all([*compress(sessions, later)], [*compress(instants, later)])
        held = self.sessions
        for session, alone in zip(sessions, later, strict=True):
            if alone:
                held[session.session_id] = session
            else:
                self._adopt(session)

    def _adopt(self, session: Session) -> None:
        end = session.end
        if end is not None and end.forget_after <= self.log_time and session.applied_offset < self.offset:
            self.effects.append(Forgotten(session.session_id, self.offset - 1))
            return
        self.sessions[session.session_id] = session
        self._arm(session)

    def settle(self, session: Session, end: End) -> None:
        """A command of this session's epoch stands on the topic that the replay did not derive: it holds."""
        session.applied_offset = max(session.applied_offset, end.offset)
        session.move(Move.REVOKE if end.type is CommandType.REVOKE else Move.EXPIRE)
        session.end, session.seen = end, None
        session.cutoff = max(session.cutoff, end.cutoff)
        self._mark(session)
        self._arm(session)

    def restate(self, session: Session) -> Command | None:
        """The last order about this session once more, with the same id; None where there was none."""
        end = session.end
        if end is not None:
            return self._scribe.ending(session, end)
        if session.lifted is not None:
            return self._reinstate(session, session.lifted, session.applied_offset)
        return None

    # --- what comes due ------------------------------------------------------------------------------

    def _ring(self, to: LogMillis, offset: int) -> None:
        ahead: list[tuple[Session, dues.Due]] = []
        while (rung := self.timers.ring(to)) is not None:
            when, session = rung
            if self._sweep is not None:
                self._catch_up(session, self._sweep)
                if session.state is State.FORGOTTEN:
                    continue
            due = dues.next_due(session, self.graces, to)
            if due.when <= when:
                if session.applied_offset > offset:
                    ahead.append((session, due))  # a replay has not reached it yet: look again at the next record
                    continue
                self._happen(session, due, to, offset)
            if session.state is not State.FORGOTTEN:
                self._arm(session, to)
        for session, due in ahead:
            self.timers.arm(session, due.when, due.kind.rank)
            _keep(self._held, session, session.state is State.LIVE)  # the watermark looks whether it need wait

    def _ring_one(self, session: Session, to: LogMillis, offset: int) -> None:
        while session.state is not State.FORGOTTEN:
            due = dues.next_due(session, self.graces, to)
            if due.when > to:
                break
            self._happen(session, due, to, offset)
        if session.state is not State.FORGOTTEN:
            self._arm(session)

    def _happen(self, session: Session, due: dues.Due, to: LogMillis, offset: int) -> None:
        kind = due.kind
        session.applied_offset = max(session.applied_offset, offset)
        self._mark(session)
        if kind is DueKind.FORGET:
            session.move(Move.FORGET)
            session.timer = 0
            del self.sessions[session.session_id]
            self.rows.give_back(session)
            self._held.pop(session.session_id, None)
            self._waiting.pop(session.session_id, None)
            self.effects.append(Forgotten(session.session_id, offset))
        elif kind is DueKind.REPLAN:
            self._replan(session, session.plan.valid_until)
        elif kind in {DueKind.ABSOLUTE, DueKind.IDLE}:
            self._strike(session, kind, due.when, offset)
        elif kind in {DueKind.WARN_ABSOLUTE, DueKind.WARN_IDLE}:
            self._warn(session, kind, due.when, to, offset)
        else:
            self._observe(session, kind, offset)

    def _strike(self, session: Session, kind: DueKind, due: LogMillis, offset: int) -> None:
        if kind is DueKind.ABSOLUTE:
            reason, limit = Reason.ABSOLUTE_TIMEOUT, session.absolute_limit
            at = dues.effective(session.absolute_deadline, session.absolute_set_at, self.graces)
            cutoff = session.start
        else:
            reason, limit = Reason.IDLE_TIMEOUT, session.plan.idle
            cutoff = at = dues.effective(session.idle_deadline, session.idle_set_at, self.graces)
        self._end(session, CommandType.EXPIRE, reason, at, cutoff, offset, due, limit=limit)

    def _observe(self, session: Session, kind: DueKind, offset: int) -> None:
        plan, trial = session.plan, session.trial
        if trial is None:
            raise InvariantError(f"session {session.session_id!r} has no rule on trial")
        if kind is DueKind.OBSERVED_ABSOLUTE:
            session.observed |= OBSERVED_ABSOLUTE
            limit, reason = plan.observed_absolute, Reason.ABSOLUTE_TIMEOUT
            at = dues.effective(trial.absolute, trial.absolute_set_at, self.graces)
        else:
            session.observed |= OBSERVED_IDLE
            limit, reason = plan.observed_idle, Reason.IDLE_TIMEOUT
            at = dues.effective(trial.idle, trial.idle_set_at, self.graces)
        self._scribe.tell(session, LifecycleType.EXPIRED, at, offset, reason=reason, limit=limit, observe=True)

    def _warn(self, session: Session, kind: DueKind, due: LogMillis, to: LogMillis, offset: int) -> None:
        plan = session.plan
        if kind is DueKind.WARN_ABSOLUTE:
            reason, limit, deadline = Reason.ABSOLUTE_TIMEOUT, session.absolute_limit, session.absolute_deadline
        else:
            reason, limit, deadline = Reason.IDLE_TIMEOUT, plan.idle, session.idle_deadline
        lead = dues.due_lead(deadline, limit.ms, plan.warn_before, to)
        warned = Warned(deadline, lead)
        if kind is DueKind.WARN_ABSOLUTE:
            session.absolute_warned = warned
        else:
            session.idle_warned = warned
        command = self._scribe.order(
            session, CommandType.WARN, reason, deadline, deadline, offset, due, limit=limit, lead=lead,
            reauth=self._scribe.reauth(session, allowed=True), forget_after=deadline,
        )  # fmt: skip
        self._scribe.tell(session, LifecycleType.WARNED, deadline - lead, offset, command=command, deadline=deadline)

    # --- what events do ------------------------------------------------------------------------------

    def _open(self, event: Event, offset: int) -> None:
        attributes = Attributes(
            event.subject, event.principal or Principal.USER, event.roles or (), event.classification,
            event.workload, event.route, event.tenant, event.client_ip, event.user_agent,
        )  # fmt: skip
        now = self.log_time
        start = event.time
        if event.auth_time is not None:
            if event.auth_time <= event.appended + self.graces.lateness:
                start = event.auth_time
            else:
                self.notices[Notice.REAUTHENTICATION_IGNORED] += 1
        plan = self.standing.policy.plan(attributes, now)
        session = Session.begin(
            self.rows, event.session_id, attributes, plan, event.source, opened_at=event.time, start=start,
            last_activity=event.time, idle_set_at=now, absolute_set_at=now, planned_at=now,
            controls_to=self.controls_to, applied_offset=offset,
        )  # fmt: skip
        session.expires = event.expires or 0
        if event.type is not EventType.CLOSED:
            session.tally(kind_of(event, session))
        self.sessions[event.session_id] = session
        self._settle_trial(session, now)
        self._mark(session)
        implicit = event.type is not EventType.OPENED
        if implicit:
            self.notices[Notice.OPENED_IMPLICITLY] += 1
        self._scribe.tell(session, LifecycleType.OPENED, event.time, offset, event=event, implicit=implicit)
        if not self._meet_standing(session, offset) and event.type is EventType.CLOSED:
            self._close(session, event, offset)
        self._arm(session)

    def _mismatch(self, session: Session, event: Event, offset: int) -> Refusal | None:
        for name in ("subject", "tenant"):
            known, said = getattr(session.attributes, name), getattr(event, name)
            if known is not None and said is not None and known != said:
                detail = f"session {session.session_id!r} belongs to another {name}"
                return Refusal(event, offset, RefusalReason.SUBJECT_MISMATCH, detail)
        return None

    def _take_in(self, session: Session, event: Event, offset: int) -> None:
        """An event of a session that is known, in the order: re-authentication, attributes, close or activity."""
        if event.expires is not None and event.expires > session.expires:
            session.expires = event.expires
        kind, counts = kind_of(event, session), event.type is not EventType.CLOSED
        if not self._reauthenticate(session, event, offset):
            if session.state is not State.LIVE:
                self._arrive_late(session, event, offset)
                return
            if counts:  # also where what it says meets a standing control: it came while the session lived
                session.tally(kind)
            if event.source is not None and event.source != session.source:
                session.source = event.source
                self._arm(session)  # what it waits for may be another's word now
            attributes = self._merged(session.attributes, event, ratchet=True)
            if attributes != session.attributes:
                if self._change(session, attributes, event, offset):
                    return
            elif self._meet_standing(session, offset):  # a policy may have let a revocation stand longer
                return
        elif counts:
            session.tally(kind)
        if not counts:
            self._close(session, event, offset)
            self._arm(session)
        elif kind & session.plan.counts:
            self._touch(session, event.time)

    def _arrive_late(self, session: Session, event: Event, offset: int) -> None:
        """Activity after the end changes nothing, but says that some gateway did not enforce."""
        if event.type is EventType.CLOSED:
            return
        self.notices[Notice.LATE_ACTIVITY] += 1
        source, minute = event.source or "", self.log_time // MINUTE
        minutes = session.late_minutes or {}
        if source not in minutes and len(minutes) >= MOST_LATE_SOURCES:
            source = ""
        if minutes.get(source) != minute:
            session.late_minutes = {name: m for name, m in minutes.items() if m == minute} | {source: minute}
            end = session.end
            self._scribe.tell(
                session, LifecycleType.LATE_ACTIVITY, event.time, offset, event=event,
                reason=end.reason if end is not None else None,
            )  # fmt: skip

    def _touch(self, session: Session, time: Millis) -> None:
        if time <= session.last_activity:
            return
        if time <= session.idle_deadline:
            session.last_activity = time
            self._absorb(session)
            session.idle_set_at = self.log_time
            self._settle_trial(session, self.log_time)
            self._arm(session)  # the warnings of the new deadline may come before what it is armed for
        else:
            session.kept_first = min(session.kept_first, time)
            session.kept_last = max(session.kept_last, time)

    def _absorb(self, session: Session) -> None:
        """Let the kept events count if the first of them lies within the idle deadline by now."""
        if session.kept_first <= session.idle_deadline:
            session.last_activity = max(session.last_activity, session.kept_last)
            session.kept_first, session.kept_last = NEVER, 0

    def _reauthenticate(self, session: Session, event: Event, offset: int) -> bool:
        """Begin the next epoch if this event proves an authentication that counts."""
        if session.state is State.REVOKED:
            return False
        at = event.auth_time
        if at is None:
            if event.type is not EventType.REAUTHENTICATED:
                return False
            at = event.time
        ended = session.end if session.state is not State.LIVE else None
        if at <= session.start or (ended is not None and at <= ended.cutoff):
            return False
        attributes = self._merged(session.attributes, event, ratchet=False)
        policy = self.standing.policy
        # The strength is asked for by what the session has touched, not by what it names now.
        asked = policy.plan(self._merged(session.attributes, event, ratchet=True), self.log_time).acr_values
        if (
            at > event.appended + self.graces.lateness
            or (asked and event.acr not in asked)
            or self.standing.lock(session.session_id, attributes, self.log_time)
            or self.standing.revocation(session.session_id, attributes, at - 1, self.log_time)
        ):
            self.notices[Notice.REAUTHENTICATION_IGNORED] += 1
            return False
        now = self.log_time
        plan = policy.plan(attributes, now)
        session.move(Move.REAUTHENTICATE)
        session.epoch += 1
        session.attributes = attributes
        session.follow(plan, plan.absolute)
        session.start, session.last_activity = at, max(at, event.time)
        session.idle_set_at = session.absolute_set_at = session.planned_at = now
        session.kept_first, session.kept_last = NEVER, 0
        session.observed, session.trial = 0, None
        session.idle_warned = session.absolute_warned = None
        self._settle_trial(session, now)
        session.end = None
        session.lifted = ended.reason if ended is not None else None
        if event.source is not None:
            session.source = event.source
        self._scribe.tell(session, LifecycleType.REAUTHENTICATED, at, offset, event=event)
        if ended is not None:
            command = self._reinstate(session, ended.reason, offset)
            self._scribe.tell(session, LifecycleType.REINSTATED, at, offset, event=event, command=command)
        self._arm(session)
        return True

    def _reinstate(self, session: Session, lifted: Reason, offset: int) -> Command:
        at = session.start
        forget = max(session.expires, at + self.standing.policy.timing.credential_lifetime)
        return self._scribe.order(
            session, CommandType.REINSTATE, lifted, at, session.cutoff, offset, self.log_time,
            reauth=self._scribe.reauth(session, allowed=True), forget_after=forget,
        )  # fmt: skip

    def _merged(self, known: Attributes, event: Event, *, ratchet: bool) -> Attributes:
        said = event.classification
        classification = known.classification
        if said is not None and said != classification:
            rank = self.standing.policy.rank
            if not ratchet or classification is None or rank(said) > rank(classification):
                classification = said
        return Attributes(
            known.subject if event.subject is None else event.subject,
            event.principal or known.principal,
            known.roles if event.roles is None else event.roles,
            classification,
            event.workload or known.workload,
            event.route or known.route,
            known.tenant if event.tenant is None else event.tenant,
            event.client_ip or known.client_ip,
            event.user_agent or known.user_agent,
        )

    def _change(self, session: Session, attributes: Attributes, event: Event, offset: int) -> bool:
        """Take in new attributes and re-plan at once; whether a standing control then ended the session."""
        before, plan = session.attributes, session.plan
        session.attributes = attributes
        first_known = any(
            not getattr(before, name) and getattr(attributes, name)
            for name in ("subject", "roles", "classification", "workload", "route", "tenant")
        )
        self._replan(session, self.log_time, first_known=first_known)
        told = any(
            getattr(before, name) != getattr(attributes, name)
            for name in ("subject", "principal", "roles", "classification", "workload", "tenant")
        )
        if told or (plan.idle, plan.absolute) != (session.plan.idle, session.plan.absolute):
            self._scribe.tell(session, LifecycleType.ATTRIBUTES_CHANGED, event.time, offset, event=event)
        return self._meet_standing(session, offset)

    def _close(self, session: Session, event: Event, offset: int) -> None:
        at = max(event.time, session.start)
        self._end(session, CommandType.EXPIRE, Reason.CLOSED, at, at, offset, self.log_time, event=event)

    # --- what controls do ----------------------------------------------------------------------------

    def _catch_up(self, session: Session, sweep: Sweep) -> None:
        """Bring one session up to date with a sweep that has not reached it yet."""
        if session.controls_to >= sweep.controls_to or session.state is State.FORGOTTEN:
            return
        for control in sweep.controls:
            if control.offset > session.controls_to:
                self._meet(session, control, sweep)
        session.controls_to = sweep.controls_to
        session.applied_offset = max(session.applied_offset, sweep.offset)
        self._live_through(session, sweep)

    def _live_through(self, session: Session, sweep: Sweep) -> None:
        """Let happen what would have happened to this session since the sweep began, where it would have."""
        now = self.log_time
        if not sweep.passed:
            return
        first = msgspec.structs.replace(self.graces, quiet_until=0)
        if dues.next_due(session, first, sweep.passed[0].now).when > sweep.passed[-1].now:
            return
        for passed in sweep.passed:
            if session.applied_offset > passed.offset:
                continue
            graces = msgspec.structs.replace(self.graces, quiet_until=passed.quiet_until)
            while session.session_id in self.sessions:
                due = dues.next_due(session, graces, passed.now)
                if due.when > passed.now:
                    break
                self.log_time = self._scribe.log_time = passed.now
                self._happen(session, due, passed.now, passed.offset)
        self.log_time = self._scribe.log_time = now

    def _meet(self, session: Session, control: Control, sweep: Sweep) -> None:
        if control.type is ControlType.POLICY:
            session.seen = None
            if session.state is State.LIVE:
                before = (session.plan.idle, session.absolute_limit, session.trial)
                self._replan(session, sweep.log_time, policy=self.controls.policy_at(control.offset))
                if before != (session.plan.idle, session.absolute_limit, session.trial):
                    self._mark(session)
            return
        if control.type is ControlType.REVOKE:
            meets = session.start < control.cutoff and session.state is not State.REVOKED
        else:
            in_force = control.type is ControlType.LOCK and sweep.log_time <= control.expires
            meets = in_force and session.state is State.LIVE
        if meets and control.target.matches(session.session_id, session.attributes):
            policy = self.controls.policy_at(control.offset)
            self._obey(session, control, sweep.offset, sweep.log_time, policy or self.standing.policy)
            self._arm(session)

    def _meet_standing(self, session: Session, offset: int) -> bool:
        """End a session that a standing control meets; whether one did."""
        standing = self.standing
        if standing.quiet:
            return False
        control = standing.revocation(
            session.session_id, session.attributes, session.start, self.log_time
        ) or standing.lock(session.session_id, session.attributes, self.log_time)
        if control is None:
            return False
        self._obey(session, control, offset, self.log_time, standing.policy)
        self._arm(session)
        return True

    def _obey(self, session: Session, control: Control, offset: int, now: LogMillis, policy: Policy) -> None:
        session.applied_offset = max(session.applied_offset, offset)
        self._mark(session)
        if control.type is ControlType.REVOKE:
            at = control.cutoff
            self._end(session, CommandType.REVOKE, reason_of(control), at, at, offset, now, control=control, policy=policy)
        else:
            at = control.appended if session.start <= control.appended else now
            self._end(session, CommandType.EXPIRE, Reason.LOCKED, at, at, offset, now, control=control, policy=policy)

    # --- plans, ends, words --------------------------------------------------------------------------

    def _replan(
        self, session: Session, cause: LogMillis, *, first_known: bool = False, policy: Policy | None = None
    ) -> None:
        """Make the plan anew. `cause` is the log time of what made it necessary."""
        session.planned_at = cause
        plan = (policy or self.standing.policy).plan(session.attributes, cause)
        if plan.valid_until <= cause:
            raise InvariantError(f"policy {plan.policy} made a plan that ended at {plan.valid_until}, before it began")
        idle, absolute = session.idle_deadline, session.absolute_deadline
        sooner = session.start + plan.absolute.ms < absolute or first_known
        session.follow(plan, plan.absolute if sooner else session.absolute_limit)
        self._absorb(session)
        if session.idle_deadline != idle:
            session.idle_set_at = cause
        if session.absolute_deadline != absolute:
            session.absolute_set_at = cause
        self._settle_trial(session, cause)
        self._arm(session)

    def _settle_trial(self, session: Session, at: LogMillis) -> None:
        """Note what the rules on trial would give, and since when."""
        plan, before = session.plan, session.trial
        if plan.observed_idle.ms >= NEVER and plan.observed_absolute.ms >= NEVER:
            session.trial = None
            return
        idle = session.last_activity + plan.observed_idle.ms
        absolute = session.start + plan.observed_absolute.ms
        session.trial = Trial(
            idle, before.idle_set_at if before is not None and before.idle == idle else at,
            absolute, before.absolute_set_at if before is not None and before.absolute == absolute else at,
        )  # fmt: skip

    def _end(
        self, session: Session, command: CommandType, reason: Reason, at: Millis, cutoff: Millis, offset: int,
        due: LogMillis, *, limit: Limit | None = None, control: Control | None = None, event: Event | None = None,
        policy: Policy | None = None,
    ) -> None:  # fmt: skip
        session.move(Move.REVOKE if command is CommandType.REVOKE else Move.EXPIRE)
        session.seen = None
        earlier = session.end.forget_after if session.end is not None else 0
        lifetime = (policy or self.standing.policy).timing.credential_lifetime
        forget = max(session.expires, at + lifetime, earlier)
        session.cutoff = max(session.cutoff, cutoff)
        order = self._scribe.order(
            session, command, reason, at, cutoff, offset, due, limit=limit, forget_after=forget,
            control_id=control.id if control is not None else "",
            reauth=self._scribe.reauth(session, allowed=allows_reauth(command, reason)),
        )  # fmt: skip
        session.end = End(
            command, reason, at, cutoff, forget, offset, due, order.limit_ms, order.rule, order.policy,
            order.control_id,
        )  # fmt: skip
        told = LifecycleType.EXPIRED
        if command is CommandType.REVOKE:
            told = LifecycleType.REVOKED
        elif reason is Reason.CLOSED:
            told = LifecycleType.CLOSED
        self._scribe.tell(session, told, at, offset, reason=reason, limit=limit, command=order, control=control, event=event)

    def _mark(self, session: Session) -> None:
        if session.dirty == Dirty.NOTHING:
            self.dirty.append(session)
        session.dirty = Dirty.CHANGED

    def _arm(self, session: Session, now: LogMillis | None = None) -> None:
        """Arm its timer for what comes next, and hold the watermark where a strike is deferred."""
        now = self.log_time if now is None else now
        due = dues.next_due(session, self.graces, now)
        self.timers.arm(session, due.when, due.kind.rank)
        live = session.state is State.LIVE
        _keep(self._held, session, live and dues.undecided(session, self.graces, now)[1])
        _keep(self._waiting, session, live and dues.waits_for_source(session, self.graces, now))


def _keep(among: dict[str, Session], session: Session, wanted: bool) -> None:
    if wanted:
        among[session.session_id] = session
    else:
        among.pop(session.session_id, None)


def kind_of(event: Event, session: Session) -> ActivityKind:
    """The kind of an activity: the one it names, or the one that its principal makes likely."""
    if event.activity is not None:
        return event.activity
    return ActivityKind.AGENT if (event.principal or session.attributes.principal) is Principal.SERVICE else ActivityKind.HUMAN
