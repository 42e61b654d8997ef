"""`concurrent_sessions`: more live sessions of one subject than its plans allow at once."""

import msgspec

from monitor.core.instants import NEVER, Millis
from monitor.core.plan import Plan
from monitor.detect.finding import MOST_SESSIONS, Cleared, Finding
from monitor.detect.living import Plans
from monitor.detect.principal import Exempt, Known, Principal
from monitor.detect.settings import ConcurrentSessions, Detector
from monitor.policy.rules import SEVERITY, OnExceed
from monitor.wire.times import format_time


class Crowd(msgspec.Struct, frozen=True):
    """The live sessions of one subject that are bounded."""

    sessions: tuple[str, ...]
    """The oldest first."""
    opened_at: tuple[Millis, ...]
    concurrent: int
    """The least that their plans allow."""
    on_exceed: OnExceed
    """The severest of the plans that allow no more than that."""
    policy: str

    @property
    def exceeds(self) -> bool:
        """Whether they are too many."""
        return len(self.sessions) > self.concurrent

    @property
    def to_end(self) -> tuple[str, ...]:
        """Those to be ended, so that the rest is allowed: the oldest or the newest, as `on_exceed` wants; none where it only alerts."""
        excess = len(self.sessions) - self.concurrent
        if excess <= 0 or self.on_exceed is OnExceed.ALERT:
            return ()
        return self.sessions[:excess] if self.on_exceed is OnExceed.END_OLDEST else self.sessions[-excess:]


def crowd(who: Principal, now: Millis, plans: Plans, exempt: Exempt) -> Crowd | None:
    """The live sessions whose plan has a `concurrent`; None where no plan has. A plan is asked once for each profile."""
    bounded: list[tuple[Known, Plan]] = []
    asked: dict[int, Plan | None] = {}
    for one in who.sessions:
        if one.rank:
            continue
        if one.profile not in asked:
            attributes = who.profile(one.profile).attributes(who.subject)
            asked[one.profile] = None if exempt(attributes) else plans(attributes, now)
        plan = asked[one.profile]
        if plan is not None and plan.concurrent is not None:
            bounded.append((one, plan))
    if not bounded:
        return None
    least = min(plan.concurrent for _, plan in bounded if plan.concurrent is not None)
    strictest = [plan for _, plan in bounded if plan.concurrent == least]
    sessions = sorted((one for one, _ in bounded), key=lambda one: (one.opened_at, one.session_id))
    return Crowd(
        tuple(one.session_id for one in sessions), tuple(one.opened_at for one in sessions), least,
        max((OnExceed(plan.on_exceed) for plan in strictest), key=SEVERITY.index), strictest[0].policy,
    )  # fmt: skip


def judge(who: Principal, now: Millis, told: ConcurrentSessions, plans: Plans, exempt: Exempt) -> Finding | Cleared | None:
    """Whether it has too many live sessions at `now`. The finding's `seen` names the oldest and the newest; `expected` says what is to follow."""
    if len(who.sessions) < 2 and not who.standing_out:
        return None
    about = who.about(Detector.CONCURRENT_SESSIONS)
    found = crowd(who, now, plans, exempt) if told.enabled and len(who.sessions) > 1 else None
    if found is None or not found.exceeds:
        return who.note(about, None, now)
    live = len(found.sessions)
    finding = Finding(
        about, now, f"{live} live sessions at once, {found.concurrent} are allowed",
        {"concurrent": found.concurrent, "on_exceed": found.on_exceed.value, "policy": found.policy},
        {
            "sessions": live, "oldest": found.sessions[0], "oldest_opened_at": format_time(found.opened_at[0]),
            "newest": found.sessions[-1], "newest_opened_at": format_time(found.opened_at[-1]),
        },
        _named(found.sessions),
    )  # fmt: skip
    return who.note(about, finding, now)


def next_look(who: Principal, now: Millis, plans: Plans) -> Millis:
    """When an exception that bears on a plan ends; else only a record changes the answer."""
    if len(who.sessions) < 2:
        return NEVER
    live = {one.profile for one in who.sessions if not one.rank}
    return min((plans(who.profile(place).attributes(who.subject), now).valid_until for place in live), default=NEVER)


def _named(sessions: tuple[str, ...]) -> tuple[str, ...]:
    """Of too many to be named, the oldest and the newest."""
    if len(sessions) <= MOST_SESSIONS:
        return sessions
    return sessions[: MOST_SESSIONS // 2] + sessions[-(MOST_SESSIONS - MOST_SESSIONS // 2) :]
