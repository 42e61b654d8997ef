"""Bringing every session up to date with controls: where they are, and the short way for those that are like most."""

from collections.abc import Sequence
from typing import Final

import msgspec

from monitor.core.commands import CommandType
from monitor.core.controls import Control, ControlType
from monitor.core.instants import NEVER, LogMillis, Millis
from monitor.core.plan import Policy
from monitor.core.reasons import ORDERABLE, Reason
from monitor.core.session import (
    APPLIED,
    CONTROLS,
    DIRTY_COLUMN,
    NOTHING_ASIDE,
    START,
    STATE_COLUMN,
    TIMER,
    Aside,
    Common,
    Dirty,
    End,
    Rows,
    Session,
    State,
    shared,
)
from monitor.core.timers import RANK_BITS


class Passed(msgspec.Struct, frozen=True, gc=False):
    """A record that was advanced to while a sweep was not over."""

    now: LogMillis
    offset: int
    quiet_until: LogMillis


class Sweep(msgspec.Struct, frozen=True):
    """Controls that have taken effect, and where: what every session is to be brought up to date with."""

    controls: tuple[Control, ...]
    controls_to: int
    log_time: LogMillis
    offset: int
    passed: list[Passed]
    """What came since: a session that the sweep reaches late lives through it, as if it had been first."""


class Met(msgspec.Struct, frozen=True, gc=False):
    """What a control means to the sessions that have one `Common`."""

    before: Common
    matches: bool
    """Whether its target matches in all that they have in common."""
    end: End
    after: Common
    """What those have in common that it revokes."""


_MOST_MET: Final = 4096


def reason_of(control: Control) -> Reason:
    """The reason that a revocation gives for itself; else, that an administrator wanted it."""
    return Reason(control.reason) if control.reason in ORDERABLE else Reason.ADMIN_REVOKED


class Shortcut:
    """What one control does to sessions that are like most: by column, a microsecond each.

    It takes those that the control does not meet, and those that it revokes and that have nothing aside. All others
    are left for the long way (`Partition._catch_up`), which comes to the same.
    """

    def __init__(self, sweep: Sweep, policy: Policy, rows: Rows) -> None:
        """`sweep` has one control, and that is no policy: `policy` is the one that rules there."""
        (self.control,) = sweep.controls
        self._sweep = sweep
        self._rows = rows
        target = self.control.target
        self._forget_after: Millis = self.control.cutoff + policy.timing.credential_lifetime
        self._named = None if target.subject is None else target.subject.encode()
        self._alone = target.session_id
        self._in_common = msgspec.structs.replace(target, subject=None, session_id=None)
        self._met: dict[int, Met] = {}

    def take(self, sessions: Sequence[Session], now: LogMillis, dirty: list[Session]) -> tuple[list[Session], list[Session]]:
        """Those that were revoked, and those that are left for the long way. What changed is marked in `dirty`."""
        control, sweep, columns = self.control, self._sweep, self._rows.columns
        starts, reached, applied = columns[START], columns[CONTROLS], columns[APPLIED]
        states, timers, levels = columns[STATE_COLUMN], columns[TIMER], columns[DIRTY_COLUMN]
        revokes = control.type is ControlType.REVOKE
        cutoff = control.cutoff if revokes else NEVER
        final = State.REVOKED if revokes else State.EXPIRED  # whoever stands there, or beyond, is not met
        # What rings by then is looked at then; and whose end is to be forgotten already lives through more than its end.
        latest = self._forget_after << RANK_BITS if revokes and self._forget_after > now else 0
        named, alone, to, swept_at = self._named, self._alone, sweep.controls_to, sweep.offset
        revoked: list[Session] = []
        left: list[Session] = []
        known, matches = None, False
        for session in sessions:
            common = session.common
            if common is not known:
                if common.columns is not columns:
                    continue  # forgotten since the sweep began
                known = common
                met = self._met.get(id(common)) or self._meet(common)
                matches, end, after = met.matches, met.end, met.after
            row = session.row
            if reached[row] >= to:
                continue
            if (
                matches
                and states[row] < final
                and starts[row] < cutoff
                and (named is None or named == session.named)
                and (alone is None or alone == session.session_id)
            ):
                if session.aside is not NOTHING_ASIDE or not 0 < timers[row] <= latest:  # who has ended has that aside
                    left.append(session)
                    continue
                states[row] = State.REVOKED
                session.aside = Aside(cutoff=cutoff, end=end)
                session.common = after
                if levels[row] == Dirty.NOTHING:
                    dirty.append(session)
                levels[row] = Dirty.CHANGED
                revoked.append(session)
            reached[row] = to
            applied[row] = max(applied[row], swept_at)
        return revoked, left

    def _meet(self, common: Common) -> Met:
        control, sweep = self.control, self._sweep
        end = End(
            CommandType.REVOKE, reason_of(control), control.cutoff, control.cutoff, self._forget_after, sweep.offset,
            sweep.log_time, None, None, common.plan.policy, control.id,
        )  # fmt: skip
        after = common if common.seen is None else shared(msgspec.structs.replace(common, seen=None))
        # An unlock meets nobody.
        matches = control.type is not ControlType.UNLOCK and self._in_common.matches("", common.profile)
        if len(self._met) >= _MOST_MET:
            self._met.clear()
        met = self._met[id(common)] = Met(common, matches, end, after)
        return met


def shortcut(sweep: Sweep, policy: Policy, rows: Rows) -> Shortcut | None:
    """The short way of this sweep, where it has one: of a single control that is no policy."""
    if len(sweep.controls) != 1 or sweep.controls[0].type is ControlType.POLICY:
        return None
    return Shortcut(sweep, policy, rows)
