"""A labelled session's course, held against one that looks at every single event."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from monitor.bench.labelled.course import LATENESS, SOON, Course, Places, Script, Stretch
from monitor.bench.labelled.policy import Limits
from monitor.bench.labelled.records import Commanded, Mismatched
from monitor.core.events import ActivityKind, Attributes, Principal
from monitor.core.instants import HOUR, MINUTE, SECOND
from monitor.core.lifecycle import Lifecycle, LifecycleType

T = 1_793_577_600_000
ALICE = Attributes("alice", Principal.USER, ("analyst",), "internal", "console", client_ip="10.0.0.1", user_agent="one")
PLAN = Limits().of(ALICE)
IDLE, ABSOLUTE = 30 * MINUTE, 12 * HOUR
PLACES = Places(T, 8)


def course(*stretches: Stretch, plan=PLAN, **more) -> Course:
    return Course(Script(session_id="s-1", attributes=ALICE, stretches=stretches, source="g", **more), plan, PLACES)


def told(one: Course) -> list[tuple[str, int, int]]:
    return [(e.what.type.value, e.what.at - T, e.what.epoch) for e in one.entries if isinstance(e.what, Lifecycle)]


def test_the_policy_says_what_the_tests_take_it_to_say() -> None:
    assert (PLAN.idle.ms, PLAN.absolute.ms) == (IDLE, ABSOLUTE)


def test_left_alone_it_ends_at_its_idle_deadline_and_is_told_of_after_the_lateness() -> None:
    one = course(Stretch(T, MINUTE, 3))
    (opened, ended), (command,) = (
        [e for e in one.entries if isinstance(e.what, kind)] for kind in (Lifecycle, Commanded)
    )  # fmt: skip
    assert (opened.at, opened.what.counts, opened.what.last_activity) == (T + 50, (1, 0, 0, 0), T)
    end = ended.what
    assert (end.type, end.reason, end.rule, end.limit_ms) == (LifecycleType.EXPIRED, "idle_timeout", "people", IDLE)
    assert (end.at, ended.at, end.last_activity, end.counts) == (T + 2 * MINUTE + IDLE, end.at + LATENESS, T + 2 * MINUTE, (3, 0, 0, 0))
    assert (command.what.session_id, command.what.partition, command.at) == ("s-1", end.partition, ended.at)


def test_activity_at_the_deadline_rescues_and_after_it_does_not() -> None:
    assert told(course(Stretch(T, SECOND), Stretch(T + IDLE, SECOND)))[1:] == [("session.expired", 2 * IDLE, 0)]
    assert told(course(Stretch(T, SECOND), Stretch(T + IDLE + 1, SECOND)))[1:] == [("session.expired", IDLE, 0)]


def test_a_session_is_closed_before_its_deadline_or_not_at_all() -> None:
    ends = [told(course(Stretch(T, SECOND), closes=T + IDLE + late))[-1] for late in (-1, 0)]
    assert ends == [("session.closed", IDLE - 1, 0), ("session.expired", IDLE, 0)]


def test_who_comes_back_too_soon_logs_in_first() -> None:
    one = course(Stretch(T, SECOND), Stretch(T + IDLE + 1, SECOND), returns=True)
    back = IDLE + SOON
    assert told(one)[1:] == [
        ("session.expired", IDLE, 0), ("session.reauthenticated", back, 1), ("session.reinstated", back, 1), ("session.expired", back + IDLE, 1),
    ]  # fmt: skip
    assert [one.living(T + at) is None for at in (IDLE - 1, IDLE, back - 1, back, back + IDLE)] == [False, True, True, False, True]


def test_nothing_outlives_the_absolute_limit() -> None:
    busy = Stretch(T, MINUTE, 2000)
    assert told(course(busy))[1:] == [("session.expired", ABSOLUTE, 0)]
    again = told(course(busy, returns=True))
    assert [what for what in again if what[0] == "session.expired"][:2] == [("session.expired", ABSOLUTE, 0), ("session.expired", 2 * ABSOLUTE + SOON, 1)]


def test_a_new_authentication_in_time_moves_the_absolute_limit() -> None:
    one = course(Stretch(T, MINUTE, 600), Stretch(T + 600 * MINUTE, MINUTE, 600, renews=True))
    assert told(one)[1:] == [("session.reauthenticated", 600 * MINUTE, 1), ("session.expired", 1199 * MINUTE + IDLE, 1)]
    living = one.living(T + 601 * MINUTE)
    assert (living.epoch, living.opened_at, living.started_at, living.counts) == (1, T, T + 600 * MINUTE, (602, 0, 0, 0))


def test_keepalives_are_counted_and_extend_nothing() -> None:
    one = course(Stretch(T, SECOND), keepalives=(Stretch(T + MINUTE, MINUTE, 90, ActivityKind.KEEPALIVE),))
    end = one.entries[-1].what if isinstance(one.entries[-1].what, Lifecycle) else one.entries[-2].what
    assert (end.at, end.counts) == (T + IDLE, (1, 0, 0, 30))


def test_changes_are_told_while_it_lives() -> None:
    moved = msgspec.structs.replace(ALICE, client_ip="10.9.9.9")
    one = course(Stretch(T, SECOND), changes=((T + MINUTE, moved), (T + 2 * IDLE, ALICE)))
    assert [(at, e.what.attributes.client_ip) for e in one.entries if isinstance(e.what, Lifecycle) for at in [e.what.at - T]] == [
        (0, "10.0.0.1"), (MINUTE, "10.9.9.9"), (IDLE, "10.9.9.9"),
    ]  # fmt: skip


def test_what_comes_late_and_what_names_another_stands_where_it_was_put() -> None:
    one = course(Stretch(T, SECOND), closes=T + MINUTE, late=(40, 90_000), mismatches=((T + SECOND, "mallory"),))
    late = [e for e in one.entries if isinstance(e.what, Lifecycle) and e.what.type is LifecycleType.LATE_ACTIVITY]
    assert [e.at - T for e in late] == [MINUTE + 50 + 40, MINUTE + 50 + 90_000]
    assert [e.what for e in one.entries if isinstance(e.what, Mismatched)] == [Mismatched("s-1", "alice", "mallory", T + SECOND)]


# --- a naive course: every event by itself, one after the other ------------------------------------------------------


def naive(script: Script) -> list[tuple[str, int, int, int, int]]:
    """(type, at, epoch, last activity, events so far) of ends and of new authentications."""
    found, epoch, start, last, seen = [], 0, script.opened, script.opened, 0
    for stretch in script.stretches:
        shift = 0
        for number in range(stretch.count):
            at = stretch.begins + number * stretch.step + shift
            ends = min(last + IDLE, start + ABSOLUTE)
            if at > ends or at == start + ABSOLUTE:
                found.append(("session.expired", ends, epoch, last, seen))
                if not script.returns:
                    return found
                if at < ends + SOON:
                    shift += ends + SOON - at
                    at = ends + SOON
                epoch, start = epoch + 1, at
                found.append(("session.reauthenticated", at, epoch, at, seen))
            last, seen = at, seen + 1
    ends = min(last + IDLE, start + ABSOLUTE)
    if script.closes is not None and max(script.closes, last) < ends:
        found.append(("session.closed", max(script.closes, last), epoch, last, seen))
    else:
        found.append(("session.expired", ends, epoch, last, seen))
    return found


@st.composite
def scripts(draw) -> Script:
    at, stretches = T, []
    for _ in range(draw(st.integers(1, 8))):
        stretches.append(Stretch(at, draw(st.integers(1, 25)) * MINUTE, draw(st.integers(1, 60))))
        at = stretches[-1].ends + draw(st.one_of(st.sampled_from([IDLE - 1, IDLE, IDLE + 1, IDLE + MINUTE]), st.integers(MINUTE, 3 * HOUR)))
    closes = draw(st.none() | st.integers(stretches[-1].ends, stretches[-1].ends + 2 * IDLE))
    return Script(session_id="s-1", attributes=ALICE, stretches=tuple(stretches), closes=closes, returns=draw(st.booleans()), source="g")


@given(scripts(), st.integers(0, 3 * 24 * HOUR))
def test_every_course_is_the_naive_one(script, after) -> None:
    one = Course(script, PLAN, PLACES, 7)
    records = [e.what for e in one.entries if isinstance(e.what, Lifecycle)]
    expected = naive(script)
    ends = [(r.type.value, r.at, r.epoch, r.last_activity, sum(r.counts)) for r in records if r.type in {LifecycleType.EXPIRED, LifecycleType.CLOSED}]
    assert ends == [what for what in expected if what[0] != "session.reauthenticated"]
    begun = [(r.at, r.epoch) for r in records if r.type is LifecycleType.REAUTHENTICATED]
    assert begun == [what[1:3] for what in expected if what[0] == "session.reauthenticated"]
    assert [e.at for e in one.entries] == sorted(e.at for e in one.entries)
    # It lives between a beginning and the end that follows it, and at no other time.
    borders = sorted([T, *(what[1] for what in expected)])
    inside = sum(1 for border in borders if border <= T + after) % 2 == 1
    assert (one.living(T + after) is not None) == inside
