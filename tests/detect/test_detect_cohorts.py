"""Cohorts, held against a list of all ends; and which ends count, in the words of the real engine."""

from math import isclose

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.errors import InvariantError
from monitor.core.events import Attributes
from monitor.core.instants import DAY, HOUR, MINUTE, SECOND
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.core.reasons import Reason
from monitor.detect.cohorts import ENDS, HALF_LIVES, KEPT, MOST, Cohorts, Width, age_at_end, key_of
from monitor.testing import Driver

T = 1_795_500_000_000
ANALYST = Attributes(roles=("analyst",), workload="inference", classification="restricted")
ADMIN = Attributes(roles=("admin", "analyst"), workload="inference", classification="restricted")
BATCH = Attributes(roles=("analyst",), workload="batch", classification="restricted")
PUBLIC = Attributes(roles=("analyst",), workload="inference", classification="public")


def cohorts(*ends, **made) -> Cohorts:
    one = Cohorts(**made)
    for attributes, age, at in ends:
        one.add(attributes, age, at)
    return one


def ended(type_=LifecycleType.EXPIRED, **said) -> Lifecycle:
    told = {
        "session_id": "s-1", "epoch": 0, "at": T + HOUR, "log_time": T + HOUR + 2000, "partition": 0, "offset": 7, "attributes": ANALYST,
        "started_at": T, "opened_at": T, "last_activity": T + MINUTE, "counts": (3, 0, 0, 0), "reason": Reason.IDLE_TIMEOUT.value,
    }  # fmt: skip
    return Lifecycle(type=type_, **told | said)


def known(one: Cohorts) -> dict[bytes, bytes | None]:
    """All that it knows, as the changelog would have it."""
    return {msgspec.json.encode(key): cohort.to_bytes() for key, cohort in one.items()}


# --- which ends count ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", LifecycleType)
def test_ends_count_and_nothing_else(type_) -> None:
    one = Cohorts()
    counts = type_ in {LifecycleType.EXPIRED, LifecycleType.REVOKED, LifecycleType.CLOSED}
    assert one.take(ended(type_)) is counts
    assert len(one) == (4 if counts else 0)


def test_the_age_is_that_at_the_end_not_the_span_of_use() -> None:
    assert age_at_end(ended()) == HOUR
    # Of the whole session, in whatever epoch it ends.
    assert age_at_end(ended(epoch=2, started_at=T + 40 * MINUTE)) == HOUR
    assert age_at_end(ended(at=T - 5)) == 0


@pytest.mark.parametrize("reason", Reason)
def test_an_imposed_end_tells_nothing(reason) -> None:
    imposed = {Reason.ADMIN_REVOKED, Reason.LOCKED, Reason.CONCURRENCY_LIMIT, Reason.RISK}
    assert Cohorts().take(ended(LifecycleType.REVOKED, reason=reason.value)) is (reason not in imposed)


def test_rules_on_trial_end_nothing() -> None:
    assert not Cohorts().take(ended(observe=True))


def test_in_the_words_of_the_engine() -> None:
    driver = Driver("version: 1\ndefaults: {idle: 30m, absolute: 12h}\n", now=T)

    def append(type_: str, session_id: str, at: int) -> None:
        driver.append({"type": f"session.{type_}", "session_id": session_id, "subject": "alice"}, T + at)

    def revoke(reason: str, at: int) -> None:
        driver.control({"type": "control.revoke", "id": f"c-{at}", "target": {"subject": "alice"}, "reason": reason, "by": "idp"}, T + at)
        driver.tick(T + at)

    append("closed", "never-seen-before", 0)
    append("opened", "idle", 0)
    append("opened", "left", 0)
    append("activity", "idle", 5 * MINUTE)
    append("closed", "left", 20 * MINUTE)
    # Without a gap, which would defer the strike.
    for second in range(34 * 60, 36 * 60, 2):
        driver.tick(T + second * SECOND)
    append("opened", "idp", 36 * MINUTE)
    revoke("idp_signal", 37 * MINUTE)
    append("opened", "admin", 38 * MINUTE)
    revoke("an incident", 39 * MINUTE)
    ends = [record for record in driver.lifecycle if record.type in ENDS]
    revoked = {record.session_id for record in ends if record.type is LifecycleType.REVOKED}
    assert revoked == {"never-seen-before", "idle", "left", "idp", "admin"}
    ages = [(record.session_id, age) for record in ends if (age := age_at_end(record)) is not None]
    # Not the one known by its close alone, nor those revoked when they had reached their limits, nor by an administrator.
    assert ages == [("left", 20 * MINUTE), ("idle", 35 * MINUTE), ("idp", MINUTE)]


# --- which cohort is asked ----------------------------------------------------------------------------------------


def test_a_cohort_with_too_few_is_widened_step_by_step() -> None:
    ends = [(ANALYST, HOUR, T)] * 3 + [(ADMIN, 2 * HOUR, T)] * 2 + [(BATCH, 3 * HOUR, T)] * 2 + [(PUBLIC, 4 * HOUR, T)] * 2
    one = cohorts(*ends)

    def asked(minimum: int) -> tuple | None:
        found = one.find(ANALYST, T, minimum)
        return found and (found.sample, found.told)

    exact = {"width": "roles_workload_classification", "roles": ("analyst",), "workload": "inference", "classification": "restricted"}
    workload = {"width": "workload_classification", "workload": "inference", "classification": "restricted"}
    classification = {"width": "classification", "classification": "restricted"}
    everybody = {"width": "everybody"}
    told = {3: (3, exact), 4: (5, workload), 5: (5, workload), 6: (7, classification), 7: (7, classification), 8: (9, everybody), 9: (9, everybody)}
    for minimum, wanted in told.items():
        assert asked(minimum) == wanted
    assert asked(10) is None
    assert [width.value for width in Width] == [member["width"] for member in (exact, workload, classification, everybody)]


def test_the_cohort_is_the_whole_tuple_and_what_is_unknown_is_a_value() -> None:
    one = cohorts((ADMIN, HOUR, T), (Attributes(), 2 * HOUR, T))
    assert one.find(ANALYST, T, 1).told["width"] == "workload_classification"
    nobody = one.find(Attributes(), T, 1)
    assert (nobody.told, nobody.sample) == ({"width": "roles_workload_classification", "roles": (), "workload": None, "classification": None}, 1)
    assert one.find(Attributes(classification="restricted"), T, 1).told == {"width": "classification", "classification": "restricted"}
    assert Cohorts().find(Attributes(), T, 1) is None


def test_a_cohort_says_nothing_before_it_has_been_known_for_long_enough() -> None:
    one = cohorts((PUBLIC, MINUTE, T), (ANALYST, MINUTE, T + HOUR), (ANALYST, MINUTE, T + 2 * HOUR), (ANALYST, MINUTE, T + 30 * MINUTE))

    def asked(at: int) -> tuple:
        found = one.find(ANALYST, T + at, 3, DAY)
        return found and found.told["width"], one.matures(ANALYST, T + at, 3, DAY)

    everybody, exact = T + DAY, T + DAY + 30 * MINUTE
    assert asked(2 * HOUR) == asked(DAY - 1) == (None, everybody)
    assert asked(DAY) == asked(DAY + 30 * MINUTE - 1) == ("everybody", exact)
    assert asked(DAY + 30 * MINUTE) == ("roles_workload_classification", None)
    assert one.matures(ANALYST, T + 2 * HOUR, 5, DAY) is None


# --- ageing -------------------------------------------------------------------------------------------------------


def test_what_is_old_fades_by_half_lives_and_then_too_little_is_left() -> None:
    one = cohorts(*[(ANALYST, HOUR, T)] * 400, fades=7 * DAY)
    everybody = one.find(ANALYST, T, 1).cohort
    assert [round(everybody.count(T + weeks * 7 * DAY), 6) for weeks in (0, 1, 2, 3)] == [400, 200, 100, 50]
    assert one.find(ANALYST, T + 7 * DAY, 200).sample == 200
    assert one.find(ANALYST, T + 7 * DAY + HOUR, 200) is None
    # A look at an instant before the newest end adds nothing to it.
    assert one.find(ANALYST, T - DAY, 1).sample == 400


def test_new_habits_outweigh_old_ones() -> None:
    one = cohorts(*[(ANALYST, HOUR, T)] * 100, *[(ANALYST, 8 * HOUR, T + 28 * DAY)] * 10, fades=7 * DAY)
    # 100 have become 6.25 beside 10.
    cohort = one.find(ANALYST, T + 28 * DAY, 16).cohort
    assert cohort.quantile(0.38) == pytest.approx(HOUR, rel=0.011)
    assert cohort.quantile(0.39) == pytest.approx(8 * HOUR, rel=0.011)


def test_each_end_counts_for_the_next_question() -> None:
    one = cohorts((ANALYST, HOUR, T))
    for age in (2 * HOUR, 3 * HOUR):
        one.add(ANALYST, age, T)
        found = one.find(ANALYST, T, 1)
        assert (found.sample, found.cohort.quantile(1.0)) == (age // HOUR, pytest.approx(age, rel=0.011))


def test_a_last_end_that_is_almost_a_sample_is_one() -> None:
    one = cohorts(*[(ANALYST, HOUR, T + second * SECOND) for second in range(5)])
    assert one.find(ANALYST, T + MINUTE, 5).sample == 5


def test_another_half_life_holds_from_then_on() -> None:
    one = cohorts(*[(ANALYST, HOUR, T)] * 400, (PUBLIC, HOUR, T + DAY), fades=7 * DAY)
    before = {key: cohort.count(T + DAY) for key, cohort in one.items()}
    list(one.changes())
    one.fade_by(7 * DAY)
    assert list(one.changes()) == []
    one.fade_by(DAY)
    assert len(dict(one.changes())) == len(one)
    assert one.find(PUBLIC, T + DAY, 1).cohort.count(T + 2 * DAY) == pytest.approx(0.5)
    everybody = dict(one.items())[()]
    assert everybody.count(T + DAY) == pytest.approx(before[()])
    assert everybody.count(T + 3 * DAY) == pytest.approx(before[()] / 4)


# --- held against a list ------------------------------------------------------------------------------------------

FADES = st.sampled_from([1, SECOND, HOUR, 7 * DAY])
WORDS = st.sampled_from([None, "inference", "batch"])
ATTRIBUTES = st.builds(Attributes, roles=st.sampled_from([(), ("admin",), ("admin", "analyst")]), workload=WORDS, classification=WORDS)


@st.composite
def histories(draw):
    """A half-life, and ends whose times spread over several landmarks, each in one of three partitions."""
    fades = draw(FADES)
    span = draw(st.sampled_from([0, 1, 5, HALF_LIVES, 3 * HALF_LIVES])) * fades
    ends = st.tuples(ATTRIBUTES, st.integers(0, 30 * DAY), st.integers(T, T + span), st.integers(0, 2))
    return fades, draw(st.lists(ends, max_size=40)), T + span


def alike(one: Cohorts, other: Cohorts, now: int) -> None:
    assert one.newest == other.newest
    some, others = dict(one.items()), dict(other.items())
    assert some.keys() == others.keys()
    for key, cohort in some.items():
        assert (cohort.oldest, cohort.newest, cohort.landmark) == (others[key].oldest, others[key].newest, others[key].landmark)
        assert isclose(cohort.count(now), others[key].count(now), rel_tol=1e-9, abs_tol=1e-9)
        for share in (0.31, 0.77, 0.993):
            # Rounding may move a rank that lies on the edge of two by one of them.
            near = [others[key].quantile(share + nudge) for nudge in (-1e-9, 0, 1e-9)]
            assert cohort.quantile(share) in near


@settings(max_examples=120)
@given(histories(), st.permutations(range(3)), st.randoms(use_true_random=False))
def test_the_order_of_feeding_and_merging_changes_nothing(history, order, dice) -> None:
    fades, ends, now = history
    whole = cohorts(*[end[:3] for end in ends], fades=fades)
    shuffled = ends[:]
    dice.shuffle(shuffled)
    parts = [cohorts(*[end[:3] for end in shuffled if end[3] == number], fades=fades) for number in range(3)]
    before = [known(part) for part in parts]
    alike(Cohorts.merged([parts[number] for number in order], fades), whole, now)
    assert [known(part) for part in parts] == before
    parts[order[1]].merge(parts[order[2]])
    parts[order[0]].merge(parts[order[1]])
    alike(parts[order[0]], whole, now)


@settings(max_examples=120)
@given(histories(), ATTRIBUTES, st.sampled_from([0.1, 0.5, 0.9, 0.99]), st.integers(1, 6), st.integers(0, 3))
def test_it_says_what_a_list_of_all_ends_says(history, attributes, share, minimum, later) -> None:
    fades, ends, now = history
    now += later * fades
    found = cohorts(*[end[:3] for end in ends], fades=fades).find(attributes, now, minimum)
    for members in range(4):
        weighted = sorted(
            (age, 2.0 ** ((at - now) / fades)) for other, age, at, _ in ends if key_of(other)[members:] == key_of(attributes)[members:]
        )  # fmt: skip
        total = sum(weight for _, weight in weighted)
        if isclose(total % 1, 0.5, abs_tol=1e-6):
            return  # rounding decides
        if round(total) >= minimum:
            break
    else:
        assert found is None
        return
    assert (found.key, found.sample) == (key_of(attributes)[members:], round(total))
    told = found.cohort.quantile(share)
    near = [quantile_of(weighted, share + nudge) for nudge in (-1e-9, 0, 1e-9)]
    assert any(abs(told - true) <= 0.01 * true * (1 + 1e-9) for true in near)


def quantile_of(weighted, share: float) -> int:
    seen, total = 0.0, sum(weight for _, weight in weighted)
    for age, weight in weighted:
        seen += weight
        if seen >= share * total:
            return age
    return weighted[-1][0]


# --- bounds and bytes ---------------------------------------------------------------------------------------------


def test_the_least_used_go_first_and_are_counted() -> None:
    one = Cohorts(most=40)
    for _ in range(3):
        one.add(ANALYST, HOUR, T)
    for number in range(1000):
        one.add(Attributes(roles=("guest",), workload=f"made-up-{number}", classification="public"), MINUTE, T + number)
        assert len(one) <= 40
    assert one.find(ANALYST, T, 3).told["width"] == "roles_workload_classification"
    # What all have in common stays, and so does what is known of it.
    assert one.find(PUBLIC, T, 1000).told == {"width": "classification", "classification": "public"}
    assert one.find(PUBLIC, T, 1003).told == {"width": "everybody"}
    assert one.dropped == 2000 + 5 - len(one)


def test_what_was_much_used_long_ago_goes_before_what_is_used_now() -> None:
    one = Cohorts(fades=DAY, most=8)
    for _ in range(50):
        one.add(BATCH, HOUR, T)
    for _ in range(2):
        one.add(PUBLIC, HOUR, T + 2 * HALF_LIVES * DAY)
    one.add(Attributes(roles=("x",)), HOUR, T + 2 * HALF_LIVES * DAY)
    assert one.dropped == 10 - int(8 * KEPT)
    assert one.find(PUBLIC, T + 2 * HALF_LIVES * DAY, 2).told["width"] == "roles_workload_classification"
    assert key_of(BATCH) not in dict(one.items())


def test_room_is_made_after_a_merge_too() -> None:
    some, others = Cohorts(most=40), Cohorts(most=40)
    for number in range(15):
        some.add(Attributes(workload=f"a-{number}"), HOUR, T)
        others.add(Attributes(workload=f"b-{number}"), HOUR, T)
    some.merge(others)
    assert len(some) == int(40 * KEPT)
    assert some.find(Attributes(), T, 30).told["width"] == "classification"


def test_memory_is_bounded_whatever_the_ages_are() -> None:
    assert MOST == 512
    one = Cohorts()
    for power in range(60):
        for nudge in range(0, 100, 7):
            one.add(ANALYST, int(2 ** (power + nudge / 100)), T)
    assert all(len(cohort.to_bytes()) < 10_240 for _, cohort in one.items())


@settings(max_examples=120)
@given(histories(), st.integers(0, 40))
def test_what_was_written_and_read_back_goes_on_to_the_last_bit(history, cut) -> None:
    fades, ends, _ = history
    one = Cohorts(fades=fades)
    changelog: dict[bytes, bytes] = {}
    for attributes, age, at, _ in ends[:cut]:
        one.add(attributes, age, at)
    changelog.update(one.changes())
    assert list(one.changes()) == []
    again = Cohorts(fades=fades)
    for key, stored in changelog.items():
        again.load(key, stored)
    assert (known(again), again.newest) == (known(one), one.newest)
    assert list(again.changes()) == []
    for attributes, age, at, _ in ends[cut:]:
        one.add(attributes, age, at)
        again.add(attributes, age, at)
    assert known(again) == known(one)
    assert sorted(again.changes()) == sorted(one.changes())


def test_changes_are_those_since_the_last_question_and_name_what_is_gone() -> None:
    one = cohorts((ANALYST, HOUR, T), most=8)
    assert set(dict(one.changes())) == {b'[["analyst"],"inference","restricted"]', b'["inference","restricted"]', b'["restricted"]', b"[]"}
    one.add(PUBLIC, HOUR, T)
    assert len(dict(one.changes())) == 4
    one.add(Attributes(), HOUR, T)
    changes = dict(one.changes())
    gone = {key for key, stored in changes.items() if stored is None}
    assert len(gone) == one.dropped > 0
    again = Cohorts(most=8)
    again.load(b'["restricted"]', cohorts((ANALYST, HOUR, T)).find(ANALYST, T, 1).cohort.to_bytes())
    again.load(b'["restricted"]', None)
    assert len(again) == 0


def test_a_record_of_another_half_life_is_read_with_ours() -> None:
    one = cohorts(*[(ANALYST, HOUR, T)] * 8, fades=7 * DAY)
    again = Cohorts(fades=DAY)
    for key, stored in one.changes():
        again.load(key, stored)
    assert [round(again.find(ANALYST, T + days * DAY, 1).cohort.count(T + days * DAY), 6) for days in (0, 1, 2)] == [8, 4, 2]
    assert len(dict(again.changes())) == 4


@pytest.mark.parametrize(
    ("key", "stored"),
    [(b"[]", b""), (b"[]", b"\x95\x01\x02\x03\x04\xc4\x01x"), (b"{", None), (b'[["a"],"b","c","d"]', None), (b"[1]", None), (b"\xff", None)],
)
def test_records_that_are_none_are_refused(key, stored) -> None:
    with pytest.raises(InvariantError, match=r"cohort|sketch"):
        Cohorts().load(key, stored)


def test_only_what_fades_alike_merges() -> None:
    one = Cohorts(DAY)
    with pytest.raises(ValueError, match="halve in"):
        one.merge(cohorts((ANALYST, HOUR, T), fades=HOUR))
    assert len(one) == 0
