"""The decision about a request: a pure function of what is known, what the request says, and the present.

In this order, the first that refuses gives the reason: a lock, a revocation's cut-off, the session's own end, the
absolute limit, no session where one is needed, an unknown present. A refusal that is known to be right stands however
old the view is. The common case costs a look-up for each member that locks use, and one for the session.
"""

from typing import Final

import msgspec

from monitor.core.commands import Reauth
from monitor.core.controls import Control
from monitor.core.events import Attributes
from monitor.core.instants import MINUTE, Millis
from monitor.core.reasons import ORDERABLE, Reason
from monitor.core.scribe import asked_by
from monitor.gateway.commanded import Kind, packed_cutoff, packed_effective_at
from monitor.gateway.controls import Bucket, lock_in, revocation_in
from monitor.gateway.facts import WHOLE_SECOND, Facts, Now, Posture, WithoutSession
from monitor.gateway.verdict import ADMITTED, ADMITTED_STALE, NO_REAUTH, Outcome, Verdict
from monitor.gateway.view import View
from monitor.wire.problem import Refusal


class Settings(msgspec.Struct, frozen=True):
    """How a gateway decides where the view does not say."""

    max_view_age: Millis = MINUTE
    """Above it a view is stale."""
    retry_after: int = 5
    """Seconds, told to clients that were refused for staleness."""
    without_session: WithoutSession = WithoutSession.CHALLENGE


DEFAULTS: Final = Settings()

_REINSTATE: Final = Kind.REINSTATE
_REFUSE: Final = Outcome.REFUSE
_ADMIT_WITHOUT: Final = WithoutSession.ADMIT
"""Looking up an enum's member costs more than the rest of a look-up."""
_WITHOUT: Final = {
    WithoutSession.REFUSE: Verdict(Outcome.REFUSE, Refusal.SESSION_MISSING.value),
    WithoutSession.CHALLENGE: Verdict(Outcome.REFUSE, Refusal.LOGIN_REQUIRED.value, Reauth(allowed=True)),
}


def check(view: View, facts: Facts, now: Now, settings: Settings = DEFAULTS) -> Verdict:
    """The verdict on one request. Never raises; O(1) but for the locks and revocations that stand under its own facts."""
    controls = view.controls
    for fact, table in controls.tables:
        if fact(facts) in table:
            met = True
            break
    else:
        met = controls.broad
    if met and controls.may_meet(facts):
        verdict = _by_controls(view, facts, now, controls.about(facts))
        if verdict is not None:
            return verdict
    session_id = facts.session_id
    if session_id is not None:
        packed = view.commanded.get(session_id)
        if packed is not None:
            verdict = _by_commands(view, facts, now, packed)
            if verdict is not None:
                return verdict
    auth_time = facts.auth_time
    if auth_time is not None and now.wall - auth_time >= view.shortest_absolute:
        verdict = _by_age(view, facts, now)
        if verdict is not None:
            return verdict
    if session_id is None:
        without = facts.without_session or settings.without_session
        if without is not _ADMIT_WITHOUT:
            return _WITHOUT[without]
    if (view.behind or now.monotonic - view.oldest > settings.max_view_age) and view.stale(
        session_id, now.monotonic, settings.max_view_age
    ):
        return _by_posture(view, facts, settings)
    return ADMITTED


def _by_controls(view: View, facts: Facts, now: Now, buckets: list[Bucket]) -> Verdict | None:
    log_time = view.log_time(facts.session_id)
    lock = lock_in(buckets, facts, log_time)
    if lock is not None:
        return _ordered(lock, Reason.LOCKED.value, lock.appended)
    if _believable(view, facts, now) and facts.auth_time is not None:
        # Of a whole second its start: it may have been before the revocation.
        lifetime = view.timing.credential_lifetime
        revocation = revocation_in(buckets, facts, facts.auth_time, log_time, lifetime)
        if revocation is not None:
            reason = revocation.reason if revocation.reason in ORDERABLE else Reason.ADMIN_REVOKED.value
            return _ordered(revocation, reason, revocation.cutoff)
    return None


def _ordered(control: Control, reason: str, effective_at: Millis) -> Verdict:
    return Verdict(Outcome.REFUSE, reason, NO_REAUTH, effective_at, control_id=control.id)


def _by_commands(view: View, facts: Facts, now: Now, packed: int) -> Verdict | None:
    shared, cutoff = view.commanded.shared(packed), packed_cutoff(packed)
    auth_time = facts.auth_time
    if auth_time is not None and facts.whole_second:
        auth_time += WHOLE_SECOND
    if shared.kind is _REINSTATE:
        # It lives; but what was authenticated before its end stays out. Who does not say when passes, as in any live session.
        passes = auth_time is None or auth_time > cutoff
    elif auth_time is None or auth_time <= cutoff or not shared.reauth.allowed:
        passes = False
    else:
        accepted = shared.reauth.acr_values
        passes = (not accepted or facts.acr in accepted) and _believable(view, facts, now)
    if passes:
        return None
    return Verdict(
        _REFUSE, shared.reason, shared.reauth, packed_effective_at(packed), shared.rule, commanded=True
    )


def _believable(view: View, facts: Facts, now: Now) -> bool:
    """Whether `auth_time` is not in the future, by more than clocks may differ: such a one is as good as none."""
    return facts.auth_time is None or facts.auth_time <= now.wall + view.timing.lateness


def _by_age(view: View, facts: Facts, now: Now) -> Verdict | None:
    absolute, policy, auth_time = view.absolute, view.policy, facts.latest_auth_time
    if absolute is None or policy is None or auth_time is None:
        return None
    limit = absolute.limit(facts, now.wall)
    if now.wall < auth_time + limit.ms:
        return None
    # What the monitor would ask of this session: here the unknown is read strictly, as in its plan.
    plan = policy.plan(
        Attributes(
            facts.subject, facts.principal, tuple(sorted(set(facts.roles or ()))), facts.classification, facts.workload,
            facts.route, facts.tenant, facts.client_ip,
        ),
        now.wall,
    )  # fmt: skip
    return Verdict(Outcome.REFUSE, Reason.ABSOLUTE_TIMEOUT.value, asked_by(plan), auth_time + limit.ms, limit.rule)


def _by_posture(view: View, facts: Facts, settings: Settings) -> Verdict:
    # What is not loaded yet may be anything: no posture is an excuse for admitting the ended.
    if not view.loaded or (facts.posture or posture_of(view, facts.classification)) is Posture.STRICT:
        return Verdict(Outcome.REFUSE, Refusal.VIEW_STALE.value, stale=True, retry_after=settings.retry_after)
    return ADMITTED_STALE


def posture_of(view: View, classification: str | None) -> Posture:
    """Strict for the highest classification, and where it is unknown; best effort for the rest."""
    policy = view.policy
    if policy is None or classification not in policy.classifications[:-1]:
        return Posture.STRICT
    return Posture.BEST_EFFORT
