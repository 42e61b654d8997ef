"""How a session stands, as its client may know it: from the verdict on a request of this client, and the last warning.

A gateway knows who has ended, not who lives. So `live` says that nothing is known that would refuse a request now, also of an id that
nobody has ever used; and how much time is left is told where it is known, and left out where it is not.
"""

from enum import StrEnum

import msgspec

from monitor.core.commands import Reauth
from monitor.core.instants import NEVER, Millis
from monitor.core.reasons import Reason
from monitor.gateway.api.advice import Advice, Warned
from monitor.gateway.commanded import Kind
from monitor.gateway.enforcer import Enforcer
from monitor.gateway.facts import Facts, Now
from monitor.gateway.verdict import Verdict
from monitor.gateway.view import View
from monitor.wire.problem import Refusal
from monitor.wire.times import Instant


class State(StrEnum):
    """What becomes of a request of this session now."""

    LIVE = "live"
    ENDED = "ended"
    LOCKED = "locked"
    """A lock is in force: no authentication helps until it is lifted."""
    UNKNOWN = "unknown"
    """The gateway has lost touch with the monitor and may not guess."""


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to `GET /v1/sessions/{id}`. What is left out is not known."""

    session_id: str
    state: State
    reason: str | None = None
    """Why it has ended, or is not known."""
    effective_at: Instant | None = None
    """Since when it has ended."""
    reauth: Reauth | None = None
    """Of an ended session: whether, and by what, re-authentication brings it back."""
    ends_at: Instant | None = None
    """The deadline that the monitor last warned of: then it ends, unless something has happened since the warning."""
    ends_for: str | None = None
    """Which limit that is: `idle_timeout`, `absolute_timeout`."""
    ends_by: Instant | None = None
    """It ends by then at the latest: the absolute limit, from when the principal authenticated."""
    time_left_ms: Millis | None = None
    """Up to the earlier of the two."""


class Look(msgspec.Struct, frozen=True):
    """A standing, and what of it is nobody's affair but a feed's."""

    standing: Standing
    commanded: bool = False
    """A command has ended it."""
    reinstated: bool = False
    """A command has brought it back. What lives without one has never ended, or is forgotten."""


class Standings:
    """Answers for sessions by a view that somebody else keeps up."""

    def __init__(self, enforcer: Enforcer, advice: Advice) -> None:
        """Decides as `enforcer` does, and counts nothing."""
        self._enforcer, self._advice = enforcer, advice

    @property
    def ready(self) -> bool:
        """Whether anything is known at all."""
        return self._enforcer.following.view.loaded

    def of(self, facts: Facts) -> Look:
        """How the session of these facts stands. Raises nothing; some microseconds."""
        enforcer, session_id = self._enforcer, facts.session_id or ""
        verdict, now, view = enforcer.look(facts), enforcer.now(), enforcer.following.view
        entry = view.commanded.entry(session_id)
        return Look(
            standing(view, facts, now, verdict, self._advice.of(session_id, now.wall)),
            verdict.commanded, entry is not None and entry.shared.kind is Kind.REINSTATE,
        )  # fmt: skip


def standing(view: View, facts: Facts, now: Now, verdict: Verdict, warned: Warned | None) -> Standing:
    """The verdict and the warning in the words of the API."""
    # What is no Unicode is told back as `?`: it is nobody's id.
    session_id = (facts.session_id or "").encode(errors="replace").decode()
    if not verdict.admitted:
        state = _STATES.get(verdict.reason, State.ENDED)
        since = None if verdict.effective_at is None else Instant(verdict.effective_at)
        return Standing(session_id, state, verdict.reason, since, None if state is State.UNKNOWN else verdict.reauth)
    ends_by = _latest_end(view, facts, now)
    known = [at for at in (ends_by, None if warned is None else warned.effective_at) if at is not None]
    return Standing(
        session_id, State.LIVE,
        ends_at=None if warned is None else Instant(warned.effective_at), ends_for=None if warned is None else warned.reason,
        ends_by=None if ends_by is None else Instant(ends_by),
        time_left_ms=max(0, min(known) - now.wall) if known else None,
    )  # fmt: skip


_STATES = {Reason.LOCKED.value: State.LOCKED, Refusal.VIEW_STALE.value: State.UNKNOWN}


def _latest_end(view: View, facts: Facts, now: Now) -> Millis | None:
    absolute, auth_time = view.absolute, facts.latest_auth_time
    if absolute is None or auth_time is None:
        return None
    limit = absolute.limit(facts, now.wall).ms
    return None if limit >= NEVER else auth_time + limit
