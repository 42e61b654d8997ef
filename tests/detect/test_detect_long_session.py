"""`long_session` at its boundaries: one below it is silent, at it it fires, and with the session's end it is over."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.events import Attributes
from monitor.core.instants import DAY, HOUR, MINUTE, NEVER, SECOND
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.detect.cohorts import Cohorts
from monitor.detect.finding import Cleared
from monitor.detect.living import Living
from monitor.detect.long_session import about, judge, learn, next_look, over
from monitor.detect.settings import LongSession
from monitor.policy import compile_policy
from monitor.policy.rules import When
from monitor.testing import Driver

T = 1_795_500_000_000
ALICE = Attributes(subject="alice", roles=("analyst",), workload="inference", classification="restricted", tenant="acme")
POLICY = compile_policy("version: 1\ndefaults: {idle: 30m, absolute: 12h}\n")
USUAL = LongSession(minimum=10, known_for=0)


def living(attributes: Attributes = ALICE, *, abnormal_after: int | None = None) -> Living:
    return Living("s-1", 1, attributes, opened_at=T, started_at=T + MINUTE, last_activity=T + MINUTE, abnormal_after=abnormal_after)


def cohorts(ages=(2 * HOUR,) * 20, attributes: Attributes = ALICE) -> Cohorts:
    one = Cohorts()
    for age in ages:
        one.add(attributes, age, T)
    return one


def look(one: Living, age: int, known: Cohorts, settings_: LongSession = USUAL):
    return judge(one, T + age, known, settings_, POLICY.rank)


def first(one: Living, known: Cohorts, settings_: LongSession = USUAL, now: int = T) -> int | None:
    """The age at which it becomes long."""
    at = next_look(one, now, known, settings_, POLICY.rank)
    return None if at is None else at - T


def silent_before_and_long_from(age: int, one: Living, known: Cohorts, settings_: LongSession = USUAL) -> None:
    assert look(one, age - 1, known, settings_) is None
    assert look(one, age, known, settings_) is not None
    assert look(one, age + DAY, known, settings_) is not None


def test_at_three_times_what_its_cohort_reaches() -> None:
    known = cohorts()
    age = first(living(), known)
    assert age == pytest.approx(6 * HOUR, rel=0.011)
    silent_before_and_long_from(age, living(), known)


def test_at_the_age_that_its_rule_calls_abnormal_where_that_comes_first() -> None:
    for known in (Cohorts(), cohorts()):
        assert first(living(abnormal_after=5 * HOUR), known) == 5 * HOUR
        silent_before_and_long_from(5 * HOUR, living(abnormal_after=5 * HOUR), known)
    for later in (7 * HOUR, NEVER):
        assert first(living(abnormal_after=later), cohorts()) == first(living(), cohorts())
    assert first(living(abnormal_after=NEVER), Cohorts()) is None


def test_no_younger_session_than_at_least_is_long_whoever_says_so() -> None:
    for one, known in ((living(), cohorts([MINUTE] * 20)), (living(), cohorts([0] * 20)), (living(abnormal_after=MINUTE), Cohorts())):
        assert first(one, known) == HOUR
        silent_before_and_long_from(HOUR, one, known)
    assert first(living(abnormal_after=MINUTE), Cohorts(), LongSession(at_least=SECOND)) == MINUTE


def test_of_too_few_ends_nothing_follows() -> None:
    assert (look(living(), 7 * HOUR, cohorts([2 * HOUR] * 9)), first(living(), cohorts([2 * HOUR] * 9))) == (None, None)
    assert look(living(), 7 * HOUR, cohorts([2 * HOUR] * 10)) is not None
    assert look(living(), 10 * DAY, Cohorts()) is None


def test_a_wider_cohort_speaks_where_the_own_is_too_small() -> None:
    other = Attributes(subject="bob", roles=("admin",), workload="inference", classification="restricted")
    known = cohorts([4 * HOUR] * 10, other)
    for _ in range(9):
        known.add(ALICE, HOUR, T)
    found = look(living(), 13 * HOUR, known)
    assert found.cohort == {"width": "workload_classification", "workload": "inference", "classification": "restricted"}
    assert found.expected["sample"] == round(19 * 2 ** (-13 / 168))


def test_what_has_faded_says_nothing_any_more() -> None:
    known = cohorts([2 * HOUR] * 19)
    assert look(living(), 7 * DAY - HOUR, known) is not None
    assert look(living(), 8 * DAY, known) is None


def test_on_its_first_day_a_cohort_knows_only_sessions_that_were_short() -> None:
    settings_ = msgspec.structs.replace(USUAL, known_for=DAY)
    known, workday = cohorts([10 * MINUTE] * 20), living()
    assert look(workday, 8 * HOUR, known, settings_) is None
    # It is looked at again when the cohort has something to say.
    assert first(workday, known, settings_) == first(workday, known, settings_, now=T + DAY - 1) == DAY
    assert look(workday, DAY - 1, known, settings_) is None
    assert look(workday, DAY, known, settings_) is not None
    assert first(workday, known, settings_, now=T + DAY) == HOUR
    # What a rule says holds from the first day on.
    assert first(living(abnormal_after=2 * HOUR), known, settings_) == 2 * HOUR
    silent_before_and_long_from(2 * HOUR, living(abnormal_after=2 * HOUR), known, settings_)
    late = msgspec.structs.replace(workday, opened_at=T + DAY - MINUTE)
    assert next_look(late, T, known, settings_, POLICY.rank) == late.opened_at + HOUR


def test_it_explains_itself() -> None:
    known = cohorts([2 * HOUR + 50 * SECOND] * 10)
    found = look(living(), 7 * HOUR + 30 * SECOND, known)
    limit = first(living(), known)
    assert found.expected == {
        "limit_ms": limit, "quantile": 0.99, "quantile_ms": pytest.approx(2 * HOUR + 50 * SECOND, rel=0.01), "factor": 3.0, "sample": 10, "at_least_ms": HOUR,
    }  # fmt: skip
    assert found.seen == {"age_ms": 7 * HOUR + 30 * SECOND, "epoch": 1, "sessions": 1}
    assert found.cohort == {"width": "roles_workload_classification", "roles": ("analyst",), "workload": "inference", "classification": "restricted"}
    assert (found.about, found.at, found.sessions) == (about("s-1", ALICE), T + 7 * HOUR + 30 * SECOND, ("s-1",))
    assert found.summary == "session s-1 has lived for 7h; of 10 like it that ended, 99 % were no older than 2h, and it is long from 6h on"
    by_rule = look(living(abnormal_after=90 * MINUTE), 2 * HOUR, known)
    assert by_rule.expected == {"limit_ms": 90 * MINUTE, "abnormal_after_ms": 90 * MINUTE, "at_least_ms": HOUR}
    assert by_rule.cohort == {}
    assert by_rule.summary == "session s-1 has lived for 2h; its rule says that 1h30m is abnormal"


def test_it_is_one_thing_however_often_it_is_seen() -> None:
    known = cohorts()
    moved = msgspec.structs.replace(ALICE, roles=("admin",), workload="batch", classification="public")
    prints = {look(one, age, known).about.fingerprint for one in (living(), living(moved)) for age in (7 * HOUR, 9 * HOUR)}
    assert prints == {about("s-1", ALICE).fingerprint}
    assert about("s-2", ALICE).fingerprint not in prints


def test_who_is_exempt_is_neither_looked_at_nor_learnt_from() -> None:
    settings_ = msgspec.structs.replace(USUAL, exempt=(When(subject=("svc-*", "alice")), When(at_least="secret")))
    assert look(living(), 30 * HOUR, cohorts(), settings_) is None
    assert first(living(), cohorts(), settings_) is None
    bob = msgspec.structs.replace(ALICE, subject="bob")
    assert look(living(bob), 30 * HOUR, cohorts(), settings_) is not None
    known = Cohorts()
    assert [learn(ended(attributes=one), known, settings_, POLICY.rank) for one in (ALICE, bob)] == [False, True]
    assert learn(ended(LifecycleType.OPENED, attributes=bob), known, settings_, POLICY.rank) is False
    assert known.find(bob, T, 1).sample == 1
    restricted = msgspec.structs.replace(USUAL, exempt=(When(at_least="restricted"),))
    assert look(living(), 30 * HOUR, cohorts(), restricted) is None


def test_when_it_is_off_it_is_silent() -> None:
    off = msgspec.structs.replace(USUAL, enabled=False)
    assert (look(living(), 30 * HOUR, cohorts(), off), first(living(), cohorts(), off)) == (None, None)


def ended(type_=LifecycleType.EXPIRED, **said) -> Lifecycle:
    told = {
        "session_id": "s-1", "epoch": 1, "at": T + 8 * HOUR, "log_time": T + 8 * HOUR + 2000, "partition": 0, "offset": 7, "attributes": ALICE,
        "started_at": T, "opened_at": T, "last_activity": T + MINUTE, "counts": (3, 0, 0, 0), "reason": "idle_timeout",
    }  # fmt: skip
    return Lifecycle(type=type_, **told | said)


@pytest.mark.parametrize("type_", LifecycleType)
def test_with_the_end_it_is_over(type_) -> None:
    ends = type_ in {LifecycleType.EXPIRED, LifecycleType.REVOKED, LifecycleType.CLOSED}
    assert over(ended(type_)) == (Cleared(about("s-1", ALICE), T + 8 * HOUR + 2000) if ends else None)
    # Also with one from which nothing is learnt, but not with what a rule on trial would have ended.
    assert (over(ended(type_, reason="admin_revoked", counts=(0, 0, 0, 0))) is not None) is ends
    assert over(ended(type_, observe=True)) is None


AGES = st.lists(st.integers(0, 2 * DAY), max_size=30)


@settings(max_examples=300)
@given(AGES, st.none() | st.integers(0, 3 * DAY), st.integers(0, 20), st.sampled_from([0.5, 0.9, 0.99]), st.floats(0.5, 5), st.integers(0, DAY))
def test_the_next_look_is_the_first_instant_that_it_is_long(ages, abnormal_after, minimum, quantile, factor, at_least) -> None:
    settings_ = LongSession(minimum=minimum, known_for=0, quantile=quantile, factor=factor, at_least=at_least, fades=10_000 * DAY)
    known, one = Cohorts(fades=10_000 * DAY), living(abnormal_after=abnormal_after)
    for age in ages:
        known.add(ALICE, age, T)
    age = first(one, known, settings_)
    if age is None:
        assert look(one, 90 * DAY, known, settings_) is None
        return
    assert age >= at_least
    silent_before_and_long_from(age, one, known, settings_)


def test_a_runaway_agent_in_virtual_time() -> None:
    driver = Driver("version: 1\ndefaults: {idle: 10s, absolute: none}\n", now=T)
    settings_ = LongSession(minimum=20, known_for=0, at_least=30 * SECOND)
    known, told = Cohorts(), 0
    looks: list[tuple[int, bool]] = []
    cleared: list[Cleared] = []

    def event(session_id: str, type_: str, at: int) -> None:
        said = {"type": f"session.{type_}", "session_id": session_id, "subject": session_id, "principal": "service", "workload": "agent-run"}
        driver.append(said, T + at)

    for second in range(90):
        at = second * SECOND
        if second < 25:
            event(f"healthy-{second}", "opened", at)
        event("runaway", "activity", at)
        if second == 80:
            event("runaway", "closed", at + 500)
        for record in driver.lifecycle[told:]:
            learn(record, known, settings_, POLICY.rank)
            if record.session_id == "runaway" and (end := over(record)) is not None:
                cleared.append(end)
        told = len(driver.lifecycle)
        session = driver.sessions["runaway"]
        one = Living("runaway", 0, session.attributes, session.opened_at, session.start, session.last_activity)
        if not cleared:
            looks.append((second, judge(one, T + at, known, settings_, POLICY.rank) is not None))
    # Ten seconds of idling is what all others lived for: 31 s is more than three times that, and more than 30 s.
    assert [second for second, long in looks if long] == list(range(31, 80))
    assert cleared == [Cleared(about("runaway", driver.sessions["runaway"].attributes), T + 80 * SECOND + 500)]
