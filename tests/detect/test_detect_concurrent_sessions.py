"""Too many sessions at once: the bound, which of them are too many, and what is not counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.instants import HOUR, NEVER
from monitor.core.plan import Limit, Plan
from monitor.detect.concurrent_sessions import Crowd, crowd, judge, next_look
from monitor.detect.finding import MOST_SESSIONS, Cleared, Finding, Subject
from monitor.detect.principal import MOST_SESSIONS as MOST_KNOWN
from monitor.detect.principal import decode, encode, nobody
from monitor.detect.settings import ConcurrentSessions, Detector
from monitor.policy.compiled import compile_policy
from monitor.policy.rules import OnExceed
from tests.detect.test_detect_principal import Story, T

TOLD = ConcurrentSessions()
ABOUT = Subject(Detector.CONCURRENT_SESSIONS, "alice")
POLICY = """
version: 1
defaults: {idle: 30m, absolute: 12h}
rules:
  - {name: staff, when: {roles: [analyst]}, concurrent: 3}
  - {name: admins, when: {roles: [admin]}, concurrent: 2, on_exceed: end_oldest}
"""
PLANS = compile_policy(POLICY).plan


def look(story: Story, at: int, exempt=nobody, plans=PLANS, told=TOLD):
    return judge(story.who, T + at, told, plans, exempt)


def staff(*instants: int) -> Story:
    story = Story()
    for at in instants:
        story.open(f"s-{at}", at, roles=("analyst",))
    return story


def test_as_many_as_are_allowed_are_silent_one_more_fires_and_an_end_clears() -> None:
    story = staff(1, 2, 3)
    assert look(story, 3) is None
    story.open("s-0", 4, roles=("analyst",))
    found = look(story, 4)
    assert isinstance(found, Finding)
    assert (found.about, found.at, found.sessions) == (ABOUT, T + 4, ("s-1", "s-2", "s-3", "s-0"))
    assert found.summary == "4 live sessions at once, 3 are allowed"
    assert (found.expected["concurrent"], found.expected["on_exceed"], found.seen["sessions"]) == (3, "alert", 4)
    assert (found.seen["oldest"], found.seen["newest"]) == ("s-1", "s-0")
    assert isinstance(look(story, HOUR), Finding), "time alone changes nothing"
    story.end("s-2", HOUR + 1)
    story.who = decode(encode(story.who))
    assert look(story, HOUR + 1) == Cleared(ABOUT, T + HOUR + 1)
    assert look(story, HOUR + 2) is None
    story.reauthenticate("s-2", HOUR + 3)
    assert isinstance(look(story, HOUR + 3), Finding)


def test_the_strictest_plan_among_them_bounds_those_that_are_bounded() -> None:
    story = staff(1, 2).open("free", 3).open("a", 4, roles=("admin",))
    found = look(story, 4)
    assert (found.expected["concurrent"], found.expected["on_exceed"], found.seen["sessions"]) == (2, "end_oldest", 3)
    assert found.sessions == ("s-1", "s-2", "a"), "a session that no rule bounds is none of them"
    assert look(Story().open("a", 0).open("b", 1).open("c", 2), 3) is None


def test_the_severest_of_the_strictest_plans_says_what_follows() -> None:
    def plans(attributes, _):
        exceed = {"alert": "alert", "newest": "end_newest", "oldest": "end_oldest"}[attributes.workload]
        return Plan("v", Limit(1, ""), Limit(1, ""), concurrent=1, on_exceed=exceed)

    story = Story().open("a", 0, workload="alert").open("b", 1, workload="oldest")
    assert look(story, 2, plans=plans).expected["on_exceed"] == "end_oldest"
    assert look(story.open("c", 3, workload="newest"), 4, plans=plans).expected["on_exceed"] == "end_newest"


@pytest.mark.parametrize(
    ("on_exceed", "ended"), [("alert", ()), ("end_oldest", ("a", "b")), ("end_newest", ("c", "d"))]
)
def test_so_many_are_to_end_that_the_rest_is_allowed(on_exceed: str, ended: tuple[str, ...]) -> None:
    def plans(attributes, _):
        return Plan("v", Limit(1, ""), Limit(1, ""), concurrent=2, on_exceed=on_exceed)

    story = Story().open("a", 0).open("b", 1).open("d", 3).open("c", 2)
    found = crowd(story.who, T + 4, plans, nobody)
    assert found is not None
    assert found.to_end == ended
    assert Crowd(("a", "b"), (1, 2), 2, OnExceed.END_OLDEST, "v").to_end == ()


def test_the_exempt_are_not_counted_and_the_disabled_detector_sees_nothing() -> None:
    story = staff(1, 2, 3).open("x", 4, roles=("analyst",), workload="batch")
    assert look(story, 4, exempt=lambda a: a.workload == "batch") is None
    assert look(story, 4) is not None
    assert isinstance(look(story, 5, told=ConcurrentSessions(enabled=False)), Cleared)


def test_of_too_many_to_be_named_the_oldest_and_the_newest_are() -> None:
    story = staff(*range(1, 41))
    found = look(story, 50)
    assert len(found.sessions) == MOST_SESSIONS
    assert (found.sessions[0], found.sessions[-1], found.seen["sessions"]) == ("s-1", "s-40", 40)
    story = staff(*range(1, MOST_KNOWN + 20))
    assert look(story, 500).seen["newest"] == f"s-{MOST_KNOWN + 19}"


def test_the_end_of_an_exception_is_looked_at() -> None:
    until = T + HOUR

    def plans(_, at):
        return Plan("v", Limit(1, ""), Limit(1, ""), concurrent=5 if at < until else 1, valid_until=until if at < until else NEVER)

    story = staff(1, 2)
    assert next_look(story.who, T + 2, plans) == until
    assert look(story, HOUR - 1, plans=plans) is None
    assert isinstance(look(story, HOUR, plans=plans), Finding)
    assert next_look(story.who, until, plans) == NEVER
    assert next_look(staff(1).who, T + 2, plans) == NEVER


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=60))
def test_it_fires_exactly_while_there_are_more(steps: list[tuple[int, bool]]) -> None:
    story, live = Story(), set()
    for at, (number, opens) in enumerate(steps):
        name = f"s-{number}"
        if opens and name not in live:
            story.open(name, at, roles=("analyst",)) if name not in story.last else story.reauthenticate(name, at)
            live.add(name)
        elif not opens and name in live:
            story.end(name, at, "idle_timeout")
            live.discard(name)
        assert isinstance(look(story, at), Finding) == (len(live) > 3)
