"""`long_session`: a session that lives longer than its like have, judged while it lives."""

from math import ceil

import msgspec

from monitor.core.events import Attributes
from monitor.core.instants import HOUR, MINUTE, NEVER, SECOND, Millis
from monitor.core.lifecycle import Lifecycle
from monitor.detect.cohorts import ENDS, Cohorts, Found, age_at_end
from monitor.detect.exempt import Rank, exempted
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.living import Living
from monitor.detect.settings import Detector, LongSession
from monitor.policy.durations import format_duration


class Bar(msgspec.Struct, frozen=True):
    """The age at which one session is long, and what gave it."""

    age: Millis
    abnormal_after: Millis | None
    """Where the rule's word is the shorter one."""
    quantile: float | None
    """Of the cohort, in milliseconds, where that is the shorter one ..."""
    found: Found | None
    """... and the cohort."""


def judge(living: Living, now: Millis, cohorts: Cohorts, settings: LongSession, rank: Rank) -> Finding | None:
    """It is long at `now`; None: it is not, or not looked at. `rank` is the policy's.

    Its age so far is held against `factor` times its cohort's `quantile`, or its rule's `abnormal_after` where that is
    shorter; and it is at least `at_least`, whichever says so.
    """
    bar = _bar(living, now, cohorts, settings) if _looked_at(living, settings, rank) else None
    age = now - living.opened_at
    if bar is None or age < bar.age:
        return None
    return Finding(
        about=about(living.session_id, living.attributes), at=now, summary=_summary(living.session_id, age, bar, settings),
        expected=_expected(bar, settings), seen={"age_ms": age, "epoch": living.epoch, "sessions": 1},
        sessions=(living.session_id,), cohort={} if bar.found is None else bar.found.told,
    )  # fmt: skip


def next_look(living: Living, now: Millis, cohorts: Cohorts, settings: LongSession, rank: Rank) -> Millis | None:
    """The instant at which to look at it next: not before does `judge` find it long, if nothing changes. It may have passed.

    None: never, as things stand. It changes with the session's attributes, the settings, the policy, and with what cohorts
    learn and forget: where sessions get shorter, it comes earlier, but never before `opened_at` + `at_least`.
    """
    if not _looked_at(living, settings, rank):
        return None
    bar = _bar(living, now, cohorts, settings)
    matures = cohorts.matures(living.attributes, now, settings.minimum, settings.known_for)
    looks = [] if bar is None else [living.opened_at + bar.age]
    if matures is not None:
        looks.append(max(matures, living.opened_at + settings.at_least))
    return min(looks, default=None)


def learn(record: Lifecycle, cohorts: Cohorts, settings: LongSession, rank: Rank) -> bool:
    """Count the end of a session that is not exempt, and say whether it was one. A record that comes again counts again."""
    return age_at_end(record) is not None and not exempted(settings.exempt, record.attributes, rank) and cohorts.take(record)


def over(record: Lifecycle) -> Cleared | None:
    """With its end a session is no longer long; None: the record is not of an end."""
    if record.type not in ENDS or record.observe:
        return None
    return Cleared(about(record.session_id, record.attributes), record.log_time)


def about(session_id: str, attributes: Attributes) -> Subject:
    """Of whom it speaks. Session, subject and tenant stay what they are, but where one first becomes known."""
    return Subject(Detector.LONG_SESSION, subject=attributes.subject, session_id=session_id, tenant=attributes.tenant)


def _looked_at(living: Living, settings: LongSession, rank: Rank) -> bool:
    return settings.enabled and not exempted(settings.exempt, living.attributes, rank)


def _bar(living: Living, now: Millis, cohorts: Cohorts, settings: LongSession) -> Bar | None:
    found = cohorts.find(living.attributes, now, settings.minimum, settings.known_for)
    quantile = None if found is None else found.cohort.quantile(settings.quantile)
    by_rule = living.abnormal_after if living.abnormal_after is not None and living.abnormal_after < NEVER else None
    if quantile is None:
        return None if by_rule is None else Bar(max(by_rule, settings.at_least), by_rule, None, None)
    by_cohort = ceil(quantile * settings.factor)
    if by_rule is not None and by_rule < by_cohort:
        return Bar(max(by_rule, settings.at_least), by_rule, None, None)
    return Bar(max(by_cohort, settings.at_least), None, quantile, found)


def _expected(bar: Bar, settings: LongSession) -> dict[str, object]:
    if bar.found is None:
        return {"limit_ms": bar.age, "abnormal_after_ms": bar.abnormal_after, "at_least_ms": settings.at_least}
    return {
        "limit_ms": bar.age, "quantile": settings.quantile, "quantile_ms": round(bar.quantile or 0), "factor": settings.factor,
        "sample": bar.found.sample, "at_least_ms": settings.at_least,
    }  # fmt: skip


def _summary(session_id: str, age: Millis, bar: Bar, settings: LongSession) -> str:
    seen = f"session {session_id} has lived for {_spoken(age)}; "
    if bar.found is None or bar.quantile is None:
        return f"{seen}its rule says that {_spoken(bar.age)} is abnormal"
    told = f"of {bar.found.sample} like it that ended, {100 * settings.quantile:.4g} % were no older than {_spoken(ceil(bar.quantile))}"
    return f"{seen}{told}, and it is long from {_spoken(bar.age)} on"


def _spoken(duration: Millis) -> str:
    """Rounded down, so that one that has reached another does not read as shorter."""
    unit = MINUTE if duration >= HOUR else SECOND if duration >= MINUTE else 1
    return format_duration(duration // unit * unit)
