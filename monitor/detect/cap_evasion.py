"""`cap_evasion`: sessions of one principal and workload that follow each other so closely that together they outlive their absolute limit.

The spans of sessions are merged where no more than `gap` lies between them. Each absolute limit among them is asked about by itself: with
it are compared the sessions that have it, or a shorter one. So an hour in a stricter session does not make a working day too long, and an hour in
a looser one hides nothing.

What a session covers: from its opening, or from its last re-authentication, which is what the limit asks for; to its end, or where it idled
out to its last activity; a live one to now, and not beyond its own deadline.
"""

from collections.abc import Iterable

import msgspec

from monitor.core.instants import NEVER, Millis
from monitor.core.plan import Plan
from monitor.detect.finding import MOST_SESSIONS, Cleared, Finding
from monitor.detect.living import Plans
from monitor.detect.principal import Exempt, Principal
from monitor.detect.settings import CapEvasion, Detector
from monitor.policy.durations import format_duration
from monitor.wire.times import format_time


class Stretch(msgspec.Struct, frozen=True):
    """What one session, or several former ones, cover."""

    start: Millis
    end: Millis
    reach: Millis
    """How far it gets if no record comes: a live one to its deadline."""
    limit: Millis
    parts: int
    names: tuple[str, ...]


class Logical(msgspec.Struct, frozen=True):
    """Stretches joined into one: the last, which may still go on."""

    start: Millis
    end: Millis
    reach: Millis
    limit: Millis
    """The longest absolute limit among its parts."""
    parts: int
    names: tuple[str, ...]

    def longer(self, told: CapEvasion) -> bool:
        """Whether it has outlived the limit."""
        return self.parts >= told.parts and self.end - self.start > told.factor * self.limit


def judge(who: Principal, now: Millis, told: CapEvasion, plans: Plans, exempt: Exempt) -> list[Finding | Cleared]:
    """For each workload whether its sessions together are too long at `now`."""
    if not who.standing_out and (not told.enabled or _soonest(who, now, told, plans) > now):
        return []
    found: dict[str | None, Logical] = {}
    if told.enabled:
        for workload, stretches in _stretches(who, now, plans, exempt).items():
            logical = next((one for one in _logical(stretches, now, told) if one.longer(told)), None)
            if logical is not None:
                found[workload] = logical
    stood = {workload for name, workload in who.standing_out if name == Detector.CAP_EVASION.value}
    answers = []
    for workload in sorted(stood | set(found), key=repr):
        logical = found.get(workload)
        finding = None if logical is None else _finding(who, workload, logical, now, told)
        answer = who.note(who.about(Detector.CAP_EVASION, workload), finding, now)
        if answer is not None:
            answers.append(answer)
    return answers


def next_look(who: Principal, now: Millis, told: CapEvasion, plans: Plans, exempt: Exempt) -> Millis:
    """When time alone may make its sessions too long together, or leaves them so far behind that no more can join them.

    Where all of them together, whatever lies between, are not too long yet, it is when they will be: that may be too soon.
    """
    if not told.enabled:
        return NEVER
    soonest = _soonest(who, now, told, plans)
    if soonest > now:
        return soonest
    instants = [NEVER]
    for stretches in _stretches(who, now, plans, exempt).values():
        for logical in _logical(stretches, now, told):
            if logical.longer(told):
                instants.append(logical.reach + told.gap + 1)
            elif logical.parts >= told.parts:
                too_long = logical.start + int(told.factor * logical.limit) + 1
                instants.append(too_long if too_long <= logical.reach else NEVER)
    live = {one.profile for one in who.sessions if not one.rank}
    instants.extend(plans(who.profile(place).attributes(who.subject), now).valid_until for place in live)
    return min(instant for instant in instants if instant > now)


def _soonest(who: Principal, now: Millis, told: CapEvasion, plans: Plans) -> Millis:
    """No sooner than this is anything too long, or a plan made anew: a bound that costs little, and mostly suffices."""
    parts, start, places = len(who.sessions), NEVER, set()
    for one in who.sessions:
        start = min(start, one.begun)
        places.add(one.profile)
    for span in who.spans:
        parts += span.parts
        start = min(start, span.start)
        places.add(span.profile)
    if parts < told.parts:
        return NEVER
    soonest = NEVER
    for place in places:
        plan = plans(who.profile(place).attributes(who.subject), now)
        soonest = min(soonest, plan.valid_until, start + int(told.factor * plan.absolute.ms) + 1)
    return soonest


def _stretches(who: Principal, now: Millis, plans: Plans, exempt: Exempt) -> dict[str | None, list[Stretch]]:
    """By workload, those that have a limit; each profile's plan is asked for once."""
    asked: dict[int, Plan | None] = {}
    for place in {one.profile for one in who.sessions} | {span.profile for span in who.spans}:
        attributes = who.profile(place).attributes(who.subject)
        asked[place] = None if exempt(attributes) else plans(attributes, now)
    found: dict[str | None, list[Stretch]] = {}

    def put(place: int, limit: Millis, stretch: Stretch) -> None:
        if limit < NEVER:
            found.setdefault(who.profile(place).workload, []).append(stretch)

    for one in who.sessions:
        plan = asked[one.profile]
        if plan is not None:
            limit = plan.absolute.ms
            reach = one.ended if one.rank else max(one.begun, one.started_at + limit)
            end = one.ended if one.rank else max(one.begun, min(now, reach))
            put(one.profile, limit, Stretch(one.begun, end, reach, limit, 1, (one.session_id,)))
    for span in who.spans:
        plan = asked[span.profile]
        if plan is not None:
            limit = plan.absolute.ms
            put(span.profile, limit, Stretch(span.start, span.end, span.end, limit, span.parts, tuple(span.names)))
    return found


def _logical(stretches: list[Stretch], now: Millis, told: CapEvasion) -> Iterable[Logical]:
    """The one that goes on, or may still be joined, for each limit, the shortest first."""
    if sum(stretch.parts for stretch in stretches) < told.parts:
        return
    for limit in sorted({stretch.limit for stretch in stretches}):
        last = _last([stretch for stretch in stretches if stretch.limit <= limit], limit, told.gap)
        if last.end + told.gap >= now:
            yield last


def _last(stretches: list[Stretch], limit: Millis, gap: Millis) -> Logical:
    """From the end back, until a gap is too wide. O(n log n)."""
    ordered = sorted(stretches, key=lambda one: (-one.end, one.start))
    start = ordered[0].start
    joined = []
    for stretch in ordered:
        if stretch.end + gap < start:
            break
        start = min(start, stretch.start)
        joined.append(stretch)
    joined.sort(key=lambda one: (one.start, one.end))
    names = tuple(name for stretch in joined for name in stretch.names)
    return Logical(
        start, ordered[0].end, max(stretch.reach for stretch in joined), limit,
        sum(stretch.parts for stretch in joined), names[-MOST_SESSIONS:],
    )  # fmt: skip


def _finding(who: Principal, workload: str | None, logical: Logical, now: Millis, told: CapEvasion) -> Finding:
    length = logical.end - logical.start
    what = "sessions" if workload is None else f"{workload} sessions"
    return Finding(
        who.about(Detector.CAP_EVASION, workload), now,
        f"{logical.parts} {what}, no more than {format_duration(told.gap)} apart, last {format_duration(length)} together; "
        f"one may last {format_duration(logical.limit)}",
        {"absolute_ms": logical.limit, "factor": told.factor, "gap_ms": told.gap},
        {
            "length_ms": length, "sessions": logical.parts, "start": format_time(logical.start),
            "end": format_time(logical.end),
        },
        logical.names,
    )  # fmt: skip
