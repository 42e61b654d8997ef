"""Back-to-back sessions: when they join, when together they are too long, and what does not join."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.instants import HOUR, MINUTE, NEVER, SECOND
from monitor.core.plan import Limit, Plan
from monitor.detect.cap_evasion import judge, next_look
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.principal import Keep, decode, encode, nobody
from monitor.detect.settings import CapEvasion, Detector
from monitor.policy.compiled import compile_policy
from tests.detect.test_detect_principal import Story, T

TOLD = CapEvasion()
GAP = TOLD.gap
POLICY = """
version: 1
defaults: {idle: 30m, absolute: 12h}
rules:
  - {name: restricted, when: {classification: {at_least: restricted}}, absolute: 4h}
  - {name: agents, when: {workload: [agent-run]}, absolute: none}
"""
PLANS = compile_policy(POLICY).plan


def about(workload: str | None = "console") -> Subject:
    return Subject(Detector.CAP_EVASION, "alice", workload=workload)


def look(story: Story, at: int, *, told=TOLD, exempt=nobody, plans=PLANS):
    return judge(story.who, T + at, told, plans, exempt)


def upcoming(story: Story, at: int, *, told=TOLD, plans=PLANS, exempt=nobody) -> int:
    return next_look(story.who, T + at, told, plans, exempt) - T


def chain(*pieces: tuple[int, int], story: Story | None = None, **attributes) -> Story:
    """Sessions from ... to, one after the other."""
    story = Story() if story is None else story
    for start, end in pieces:
        story.open(f"s-{start // MINUTE}", start, **attributes).end(f"s-{start // MINUTE}", end)
    return story


def test_at_the_limit_it_is_silent_beyond_it_it_fires_and_when_nothing_can_join_it_clears() -> None:
    story = chain((0, 5 * HOUR), (5 * HOUR + GAP, 10 * HOUR)).open("last", 10 * HOUR + 1)
    assert look(story, 12 * HOUR) == []
    assert upcoming(story, 11 * HOUR) == upcoming(story, 12 * HOUR) == 12 * HOUR + 1
    (found,) = look(story, 12 * HOUR + 1)
    assert isinstance(found, Finding)
    assert (found.about, found.at, found.sessions) == (about(), T + 12 * HOUR + 1, ("s-0", "s-305", "last"))
    assert found.summary == "3 console sessions, no more than 5m apart, last 12h1ms together; one may last 12h"
    assert (found.expected["absolute_ms"], found.seen["length_ms"], found.seen["sessions"]) == (12 * HOUR, 12 * HOUR + 1, 3)
    story.end("last", 13 * HOUR)
    story.who = decode(encode(story.who))
    assert upcoming(story, 13 * HOUR) == 13 * HOUR + GAP + 1
    assert isinstance(look(story, 13 * HOUR + GAP)[0], Finding), "one more may still join"
    assert look(story, 13 * HOUR + GAP + 1) == [Cleared(about(), T + 13 * HOUR + GAP + 1)]
    assert look(story, 13 * HOUR + GAP + 2) == []


@pytest.mark.parametrize(("gap", "joined"), [(GAP, True), (GAP + 1, False)])
def test_a_pause_longer_than_the_gap_parts_them(gap: int, joined: bool) -> None:
    story = chain((0, 6 * HOUR)).open("b", 6 * HOUR + gap)
    assert bool(look(story, 12 * HOUR + 1)) == joined


def test_one_session_is_never_joined_with_itself() -> None:
    story = Story().open("a", 0).end("a", 12 * HOUR, "absolute_timeout").reauthenticate("a", 12 * HOUR + 1)
    assert look(story, 20 * HOUR) == []
    story.end("a", 24 * HOUR + 1, "absolute_timeout").open("b", 24 * HOUR + 2)
    assert isinstance(look(story, 24 * HOUR + 2)[0], Finding), "but it is as old as its last authentication when another follows"


def test_a_reauthentication_begins_anew() -> None:
    story = Story().open("a", 0).reauthenticate("a", 11 * HOUR).end("a", 22 * HOUR).open("b", 22 * HOUR + 1)
    assert look(story, 23 * HOUR) == []
    assert look(story, 23 * HOUR + 1) != []


def test_overlapping_sessions_are_as_long_as_their_union() -> None:
    story = Story().open("a", 0).open("b", HOUR).end("a", 11 * HOUR).end("b", 12 * HOUR)
    assert look(story, 12 * HOUR) == []
    longer = Story().open("a", 0).open("b", HOUR).end("a", 11 * HOUR).end("b", 12 * HOUR + 1)
    (found,) = look(longer, 12 * HOUR + 1)
    assert found.seen["length_ms"] == 12 * HOUR + 1


def test_a_live_session_is_not_older_than_its_deadline_though_word_of_its_end_is_on_its_way() -> None:
    story = Story().open("a", 0).open("b", HOUR).end("b", 2 * HOUR)
    assert look(story, 12 * HOUR + 3 * SECOND) == []
    assert upcoming(story, 12 * HOUR + 1) == NEVER - T, "by time alone it gets no longer"


def test_where_the_client_idled_out_it_paused_longer_than_the_gap_before_it_came_back() -> None:
    story = Story().open("a", 0).end("a", 6 * HOUR, "idle_timeout", used=6 * HOUR - 30 * MINUTE).open("b", 6 * HOUR + MINUTE)
    assert look(story, 13 * HOUR) == []
    abandoned = Story().open("a", 0).open("b", 6 * HOUR - 29 * MINUTE)
    abandoned.end("a", 6 * HOUR, "idle_timeout", used=6 * HOUR - 30 * MINUTE)
    assert look(abandoned, 13 * HOUR) != [], "who leaves one for the next has not paused"


def test_other_workloads_are_other_logical_sessions() -> None:
    story = chain((0, 6 * HOUR)).open("b", 6 * HOUR, workload="batch")
    assert look(story, 13 * HOUR) == []
    story = chain((0, 6 * HOUR), workload=None).open("b", 6 * HOUR, workload=None)
    (found,) = look(story, 13 * HOUR)
    assert found.about == about(None)
    assert found.summary.startswith("2 sessions,")


def test_two_workloads_are_two_findings() -> None:
    story = chain((0, 6 * HOUR)).open("b", 6 * HOUR)
    story.open("c", 2 * HOUR, workload="batch").open("d", 7 * HOUR, workload="batch").end("c", 7 * HOUR)
    assert [found.about.workload for found in look(story, 13 * HOUR)] == ["console"]
    assert [found.about.workload for found in look(story, 14 * HOUR + 1)] == ["batch", "console"]


def test_each_limit_is_asked_about_by_itself() -> None:
    """Four hours of restricted data are too long, though a looser session stands before them; one hour in a long day is not."""
    strict = {"classification": "restricted"}
    story = chain((0, HOUR))
    chain((HOUR, 3 * HOUR), story=story, **strict)
    story.open("b", 3 * HOUR, **strict)
    assert look(story, 5 * HOUR) == []
    (found,) = look(story, 5 * HOUR + 1)
    assert (found.expected["absolute_ms"], found.seen["length_ms"], found.seen["sessions"]) == (4 * HOUR, 4 * HOUR + 1, 2)
    day = chain((0, 5 * HOUR))
    chain((5 * HOUR, 6 * HOUR), story=day, **strict).open("c", 6 * HOUR)
    assert look(day, 12 * HOUR) == []
    (found,) = look(day, 12 * HOUR + 1)
    assert (found.expected["absolute_ms"], found.seen["sessions"]) == (12 * HOUR, 3)


def test_without_a_limit_there_is_nothing_to_evade() -> None:
    story = chain((0, 30 * HOUR), workload="agent-run").open("b", 30 * HOUR, workload="agent-run")
    assert look(story, 99 * HOUR) == []
    assert upcoming(story, 99 * HOUR) == NEVER - T


def test_factor_and_parts_are_what_they_say() -> None:
    story = chain((0, 6 * HOUR)).open("b", 6 * HOUR)
    looser = CapEvasion(factor=1.5)
    assert look(story, 18 * HOUR, told=looser) == []
    assert look(story, 18 * HOUR + 1, told=looser) == [], "b is over then"
    assert upcoming(story, 18 * HOUR + 1, told=looser) == NEVER - T
    story.end("b", 12 * HOUR).open("c", 12 * HOUR)
    assert upcoming(story, 12 * HOUR, told=looser) == 18 * HOUR + 1
    assert look(story, 18 * HOUR, told=looser) == []
    assert look(story, 18 * HOUR + 1, told=looser) != []
    story = chain((0, 6 * HOUR)).open("b", 6 * HOUR)
    assert look(story, 13 * HOUR, told=CapEvasion(parts=3)) == []
    assert upcoming(story, 12 * HOUR, told=CapEvasion(parts=3)) == NEVER - T
    assert look(story, 13 * HOUR, told=CapEvasion(parts=2)) != []


def test_the_exempt_do_not_join_and_the_disabled_detector_clears() -> None:
    story = chain((0, 6 * HOUR), route="/health").open("b", 6 * HOUR)
    assert look(story, 13 * HOUR, exempt=lambda a: a.route == "/health") == []
    assert isinstance(look(story, 13 * HOUR)[0], Finding)
    assert isinstance(look(story, 14 * HOUR, told=CapEvasion(enabled=False))[0], Cleared)


def test_many_short_ones_join_in_bounded_state() -> None:
    story = Story()
    for number in range(800):
        story.open(f"s-{number}", number * MINUTE).end(f"s-{number}", number * MINUTE + 50 * SECOND)
        assert bool(look(story, number * MINUTE + 50 * SECOND)) == (number >= 720), number
    (found,) = look(story, 800 * MINUTE)
    assert (found.seen["sessions"], found.seen["length_ms"]) == (800, 799 * MINUTE + 50 * SECOND)
    assert found.sessions[-1] == "s-799"
    assert len(encode(story.who)) < 1000


def test_spans_of_different_routes_join_through_each_other() -> None:
    story = chain((0, 4 * HOUR), route="/a")
    chain((4 * HOUR + GAP, 8 * HOUR), story=story, route="/b")
    story.open("c", 8 * HOUR + GAP, route="/c").open("d", 9 * HOUR, route="/c")
    assert len(story.who.spans) == 2
    (found,) = look(story, 12 * HOUR + 1)
    assert (found.seen["sessions"], found.sessions) == (4, ("s-0", "s-245", "c", "d"))


def test_the_end_of_an_exception_is_looked_at() -> None:
    until = T + 10 * HOUR

    def plans(_, at):
        early = at < until
        return Plan("v", Limit(1, ""), Limit((99 if early else 8) * HOUR, ""), valid_until=until if early else NEVER)

    story = chain((0, 3 * HOUR)).open("b", 3 * HOUR)
    assert upcoming(story, 4 * HOUR, plans=plans) == 10 * HOUR
    assert look(story, 10 * HOUR - 1, plans=plans) == []
    assert look(story, 10 * HOUR, plans=plans) != []


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), min_size=1, max_size=25)


@given(spans, st.integers(0, 3))
def test_it_is_the_union_that_a_naive_merger_gives(told: list[tuple[int, int]], gap: int) -> None:
    """Every minute in which a session is held, or that lies in a gap between two, belongs to the last run."""
    settings = CapEvasion(gap=gap * MINUTE, factor=1.0)
    story = Story(keep=Keep(HOUR, gap * MINUTE))
    events = sorted(
        [(start, 1, n) for n, (start, _) in enumerate(told)] + [(start + length, 2, n) for n, (start, length) in enumerate(told)]
    )
    for minute, what, number in events:
        if what == 1:
            story.open(f"s-{number}", minute * MINUTE)
        else:
            story.end(f"s-{number}", minute * MINUTE)
    now = max(start + length for start, length in told)
    merged: list[list[int]] = []
    for start, end in sorted((start, start + length) for start, length in told):
        if merged and start <= merged[-1][1] + gap:
            merged[-1][1] = max(merged[-1][1], end)
            merged[-1][2] += 1
        else:
            merged.append([start, end, 1])
    start, end, parts = merged[-1]

    def plans(*_):
        return Plan("v", Limit(1, ""), Limit(10 * MINUTE, ""))

    found = look(story, now * MINUTE, told=settings, plans=plans)
    assert bool(found) == (parts >= 2 and end - start > 10)
    if found:
        assert (found[0].seen["sessions"], found[0].seen["length_ms"]) == (parts, (end - start) * MINUTE)
