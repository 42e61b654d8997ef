"""`timeout_churn`: a principal that times out again and again. `Rates` says what is usual in its cohort."""

from collections import Counter
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from monitor.core.instants import NEVER, Millis
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.principal import Exempt, Principal, Profile, nobody
from monitor.detect.quantiles import quantile
from monitor.detect.settings import Detector, TimeoutChurn
from monitor.policy.durations import format_duration
from monitor.wire.times import format_time

TYPICAL: Final = 0.75
"""Of a cohort's principals so many have no more timeouts than is typical: up to a quarter may churn without making that usual."""
MOST_COHORTS: Final = 4096
"""Principals of further cohorts are compared with nobody, until one of these is empty."""
MOST_COUNT: Final = 255
"""More timeouts than that count as that many, where what is typical is asked for."""

Cohort: TypeAlias = tuple[tuple[str, ...], str | None, str | None]
"""Roles, workload, classification."""


class Rate(msgspec.Struct, frozen=True):
    """Timeouts of a principal that are typical of its cohort."""

    timeouts: int
    principals: int
    """How many the cohort has."""


Typical: TypeAlias = Callable[[Cohort], Rate | None]
"""What is typical; None where too few are known to say."""


def nothing_known(_: Cohort) -> Rate | None:
    """No cohort says anything."""
    return None


def judge(who: Principal, now: Millis, told: TimeoutChurn, typical: Typical, exempt: Exempt) -> Finding | Cleared | None:
    """Whether it times out too often at `now`. O(1) where it has less than `count` timeouts."""
    if not (who.lately or who.standing_out):
        return None
    about = who.about(Detector.TIMEOUT_CHURN)
    seen = who.timeouts.count(now, told.window) if told.enabled and who.lately else 0
    if seen < told.count or exempt(who.attributes):
        return who.note(about, None, now)
    rate = typical(cohort_of(who.profile(who.latest)))
    finding = _finding(who, about, now, told, seen, rate) if seen >= _needed(told, rate) else None
    return who.note(about, finding, now)


def next_look(who: Principal, told: TimeoutChurn, typical: Typical) -> Millis:
    """When time alone takes it below what stands out, or (for what is typical) leaves it without a timeout; `NEVER` where it has none."""
    if not who.timeouts:
        return NEVER
    if not who.stands_out(Detector.TIMEOUT_CHURN):
        return who.timeouts.below(1, told.window)
    return who.timeouts.below(_needed(told, typical(cohort_of(who.profile(who.latest)))), told.window)


def cohort_of(profile: Profile) -> Cohort:
    """With whom those of this profile are compared."""
    return profile.roles, profile.workload, profile.classification


def _needed(told: TimeoutChurn, rate: Rate | None) -> int:
    usual = 0 if rate is None else -int(-told.factor * rate.timeouts // 1)
    return max(1, told.count, usual)


def _finding(who: Principal, about: Subject, now: Millis, told: TimeoutChurn, seen: int, rate: Rate | None) -> Finding:
    profile, window = who.profile(who.latest), format_duration(told.window)
    needed = _needed(told, rate)
    expected: dict[str, object] = {"timeouts_below": needed, "window_ms": told.window}
    cohort: dict[str, object] = {}
    usual = ""
    if rate is not None:
        cohort = {
            "roles": list(profile.roles), "workload": profile.workload, "classification": profile.classification,
            "principals": rate.principals, "typical_timeouts": rate.timeouts,
        }  # fmt: skip
        usual = f" ({rate.timeouts} are typical of its cohort)"
    newest = who.timeouts.exact[-1]
    return Finding(
        about, now, f"{seen} timeouts within {window}, fewer than {needed} were expected{usual}", expected,
        {"timeouts": seen, "sessions": len(who.lately), "last": format_time(newest)}, tuple(who.lately), cohort,
    )  # fmt: skip


class Rates:
    """How many timeouts the principals of each cohort have. Held in memory: what each is counted with stands in its own state.

    A sum over principals, so neither their order nor the partition they come from matters.
    """

    def __init__(self) -> None:
        """Nobody is counted."""
        self._cohorts: dict[Cohort, Counter[int]] = {}

    def follow(self, who: Principal, now: Millis, told: TimeoutChurn, exempt: Exempt) -> None:
        """Count it as it stands now: while it has a live session, or timeouts within the window. Notes in its state how it is counted."""
        count = min(who.timeouts.count(now, told.window), MOST_COUNT) if who.lately else 0
        counts = (count > 0 or who.lives) and (exempt is nobody or not exempt(who.attributes))
        if counts and who.told == (who.latest, count):
            return
        if who.told is not None:
            self._take_out(cohort_of(who.profile(who.told[0])), who.told[1])
            who.told = None
        if counts and self._put_in(cohort_of(who.profile(who.latest)), count):
            who.told = who.latest, count

    def restore(self, who: Principal) -> None:
        """Count a principal that comes from the changelog, as it was counted when it was written."""
        if who.told is not None and not self._put_in(cohort_of(who.profile(who.told[0])), who.told[1]):
            who.told = None

    def merge(self, other: "Rates") -> None:
        """All that the other has counted as well: of other principals."""
        for cohort, counted in other._cohorts.items():  # noqa: SLF001
            for count, principals in counted.items():
                self._put_in(cohort, count, principals)

    def typical(self, minimum: int, share: float = TYPICAL) -> Typical:
        """What is typical of cohorts that have `minimum` principals."""

        def answer(cohort: Cohort) -> Rate | None:
            counted = self._cohorts.get(cohort)
            if counted is None or counted.total() < max(1, minimum):
                return None
            return Rate(quantile(counted, share) or 0, counted.total())

        return answer

    def _put_in(self, cohort: Cohort, count: int, principals: int = 1) -> bool:
        counted = self._cohorts.get(cohort)
        if counted is None:
            if len(self._cohorts) >= MOST_COHORTS:
                return False
            counted = self._cohorts[cohort] = Counter()
        counted[count] += principals
        return True

    def _take_out(self, cohort: Cohort, count: int) -> None:
        counted = self._cohorts[cohort]
        counted[count] -= 1
        if not counted[count]:
            del counted[count]
        if not counted:
            del self._cohorts[cohort]
