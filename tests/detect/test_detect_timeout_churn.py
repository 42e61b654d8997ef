"""Timeout churn at its boundaries, and what is usual in a cohort."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.instants import HOUR, MINUTE, NEVER
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.principal import Principal, decode, encode, nobody
from monitor.detect.settings import Detector, TimeoutChurn
from monitor.detect.timeout_churn import (
    MOST_COHORTS,
    MOST_COUNT,
    Rate,
    Rates,
    judge,
    next_look,
    nothing_known,
)
from tests.detect.test_detect_principal import Story, T

TOLD = TimeoutChurn(window=HOUR, count=4, factor=3.0, minimum=5)
ABOUT = Subject(Detector.TIMEOUT_CHURN, "alice")


def churn(*instants: int, story: Story | None = None, **attributes) -> Story:
    """A session that times out at each of these."""
    story = Story() if story is None else story
    for at in instants:
        story.open(f"s-{at}", at - 1, **attributes).end(f"s-{at}", at, "idle_timeout")
    return story


def look(story: Story, at: int, typical=nothing_known, exempt=nobody, told=TOLD):
    return judge(story.who, T + at, told, typical, exempt)


def test_one_below_is_silent_at_it_it_fires_and_time_clears_it() -> None:
    story = churn(10, 20, 30)
    assert look(story, 30) is None
    assert next_look(story.who, TOLD, nothing_known) == T + 30 + HOUR, "until its last timeout is old it counts in its cohort"
    churn(40, story=story)
    found = look(story, 40)
    assert isinstance(found, Finding)
    assert (found.about, found.at, found.sessions) == (ABOUT, T + 40, ("s-10", "s-20", "s-30", "s-40"))
    assert found.summary == "4 timeouts within 1h, fewer than 4 were expected"
    assert (found.expected["timeouts_below"], found.seen["timeouts"], found.seen["sessions"], found.cohort) == (4, 4, 4, {})
    edge = next_look(story.who, TOLD, nothing_known)
    assert edge == T + 10 + HOUR
    assert isinstance(look(story, edge - T - 1), Finding)
    assert look(story, edge - T) == Cleared(ABOUT, edge)
    assert look(story, edge - T + 1) is None


def test_timeouts_that_lie_apart_by_the_window_do_not_add_up() -> None:
    late = churn(0, 20, 30, HOUR)
    assert look(late, HOUR) is None
    assert look(churn(1, 20, 30, HOUR), HOUR) is not None


def test_a_session_that_is_reauthenticated_and_times_out_again_churns_by_itself() -> None:
    story = Story().open("a", 0)
    for at in (10, 20, 30):
        story.end("a", at, "absolute_timeout").reauthenticate("a", at + 1)
    assert look(story, 31) is None
    story.end("a", 40, "absolute_timeout")
    assert look(story, 40).sessions == ("a",)


def test_what_is_usual_in_a_cohort_is_asked_beyond_the_count() -> None:
    asked = []

    def typical(cohort):
        asked.append(cohort)
        return Rate(2, 70)

    story = churn(1, 2, 3, roles=("analyst",), classification="internal")
    assert look(story, 3, typical) is None
    assert asked == [], "below the count nobody is asked"
    churn(4, 5, story=story, roles=("analyst",), classification="internal")
    assert look(story, 5, typical) is None
    assert asked == [(("analyst",), "console", "internal")]
    churn(6, story=story, roles=("analyst",), classification="internal")
    found = look(story, 6, typical)
    assert found.summary == "6 timeouts within 1h, fewer than 6 were expected (2 are typical of its cohort)"
    assert found.cohort == {
        "roles": ["analyst"], "workload": "console", "classification": "internal", "principals": 70, "typical_timeouts": 2,
    }  # fmt: skip
    assert next_look(story.who, TOLD, typical) == T + 1 + HOUR
    assert isinstance(look(story, HOUR + 1, typical), Cleared)


def test_a_cohort_that_times_out_less_does_not_lower_the_count() -> None:
    assert look(churn(1, 2, 3), 3, lambda _: Rate(0, 70)) is None
    assert look(churn(1, 2, 3, 4), 4, lambda _: Rate(0, 70)).expected["timeouts_below"] == 4


def test_the_exempt_and_the_disabled_are_silent_and_cleared() -> None:
    story = churn(1, 2, 3, 4)
    assert look(story, 4, exempt=lambda a: a.subject == "alice") is None
    assert look(story, 4) is not None
    assert look(story, 5, exempt=lambda a: a.workload == "console") == Cleared(ABOUT, T + 5)
    assert look(story, 6) is not None
    assert isinstance(look(story, 7, told=msgspec.structs.replace(TOLD, enabled=False)), Cleared)


def test_a_session_without_a_subject_is_named_by_itself() -> None:
    story = Story(None).open("a", 0)
    story.who = Principal(None, "a")
    for at in (10, 20, 30, 40):
        story.end("a", at, "idle_timeout").reauthenticate("a", at + 1)
    assert look(story, 41).about == Subject(Detector.TIMEOUT_CHURN, session_id="a")


def test_nothing_to_look_at_is_never_looked_at() -> None:
    assert next_look(Story().open("a", 0).who, TOLD, nothing_known) == NEVER


COHORT = (("clerk",), "console", "internal")


def principal(name: str, timeouts: int, at: int = 0, **attributes) -> Story:
    return churn(*range(at, at + timeouts), story=Story(name).open("live", at - 2, **attributes), **attributes)


def followed(*stories: Story, at: int = 100) -> Rates:
    rates = Rates()
    for story in stories:
        rates.follow(story.who, T + at, TOLD, nobody)
    return rates


def test_typical_is_what_three_quarters_do_not_exceed() -> None:
    rates = followed(*(principal(f"p-{n}", n) for n in range(8)))
    assert rates.typical(8)(COHORT) == Rate(5, 8)
    assert rates.typical(9)(COHORT) is None, "too few"
    assert rates.typical(8, 0.5)(COHORT) == Rate(3, 8)
    assert rates.typical(1)((("other",), "console", "internal")) is None


def test_each_principal_counts_once_as_it_stands_now() -> None:
    story = principal("p", 2)
    rates = followed(story, story)
    assert rates.typical(1)(COHORT) == Rate(2, 1)
    rates.follow(story.who, T + 1 + HOUR, TOLD, nobody)
    assert rates.typical(1)(COHORT) == Rate(0, 1)
    story.end("live", 2 * HOUR)
    rates.follow(story.who, T + 2 * HOUR, TOLD, nobody)
    assert rates.typical(1)(COHORT) is None, "it has neither a live session nor a timeout"
    assert story.who.told is None


def test_who_changes_its_cohort_leaves_the_old_one() -> None:
    story = principal("p", 2)
    rates = followed(story)
    story.open("next", 50, classification="restricted")
    rates.follow(story.who, T + 50, TOLD, nobody)
    assert rates.typical(1)(COHORT) is None
    assert rates.typical(1)((("clerk",), "console", "restricted")) == Rate(2, 1)
    rates.follow(story.who, T + 51, TOLD, lambda a: a.classification == "restricted")
    assert rates.typical(1)((("clerk",), "console", "restricted")) is None, "the exempt do not count in a cohort"


def test_restored_from_states_it_is_the_same() -> None:
    stories = [principal(f"p-{n}", n) for n in range(6)]
    before, after = followed(*stories), Rates()
    for story in reversed(stories):
        after.restore(decode(encode(story.who)))
    assert [after.typical(6, share)(COHORT) for share in (0.1, 0.5, 0.9)] == [before.typical(6, share)(COHORT) for share in (0.1, 0.5, 0.9)]
    before.follow(stories[5].who, T + 2 * HOUR, TOLD, nobody)
    assert before.typical(1, 1.0)(COHORT) == Rate(4, 6)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(0, 12))
def test_a_merger_is_as_if_one_had_counted_all(counts: list[int], cut: int) -> None:
    stories = [principal(f"p-{n}", count) for n, count in enumerate(counts)]
    one, other = followed(*stories[cut:]), followed(*stories[:cut])
    one.merge(other)
    whole = followed(*(principal(f"q-{n}", count) for n, count in enumerate(counts)))
    for share in (0.25, 0.5, 0.75, 1.0):
        assert one.typical(1, share)(COHORT) == whole.typical(1, share)(COHORT)


def test_cohorts_are_bounded_and_a_count_as_well() -> None:
    rates, stories = Rates(), []
    for number in range(MOST_COHORTS + 1):
        story = Story(f"p-{number}").open("a", 0, workload=f"w-{number}")
        rates.follow(story.who, T, TOLD, nobody)
        stories.append(story)
    assert (stories[-1].who.told, stories[0].who.told) == (None, (0, 0))
    stories[0].end("a", 5)
    rates.follow(stories[0].who, T + 5, TOLD, nobody)
    rates.follow(stories[-1].who, T + 5, TOLD, nobody)
    assert stories[-1].who.told == (0, 0), "there is room again"
    many = principal("many", MOST_COUNT + 10)
    assert followed(many, at=400).typical(1)(COHORT) == Rate(MOST_COUNT, 1)


def test_a_long_story_fires_for_as_long_as_it_lasts() -> None:
    """A client that comes back every six minutes: ten timeouts an hour."""
    told, story, fired = TimeoutChurn(), Story(), []
    for number in range(30):
        at = number * 6 * MINUTE
        churn(at + 1, story=story)
        found = look(story, at + 1, told=told)
        fired.append(isinstance(found, Finding))
    assert fired == [False] * 9 + [True] * 21
