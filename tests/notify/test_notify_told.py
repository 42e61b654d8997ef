"""Which states of alerts a receiver hears of, and how long it is waited for, in virtual time."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.instants import DAY, HOUR, MINUTE, SECOND
from monitor.notify.answer import Answer, Verdict
from monitor.notify.backoff import Backoff
from monitor.notify.delivery import Delivery, Ending
from monitor.notify.metrics import NotifyMetrics
from monitor.notify.told import Decision, Told
from monitor.wire.alerts import AlertState
from tests.notify.alerts import T, alert


class Silenceable(msgspec.Struct, frozen=True):
    """An alert with what tells of its silences."""

    fingerprint: str
    state: AlertState
    since: int
    silenced_by: tuple[str, ...] = ()


def decisions(*alerts):
    """What is decided of them, one after another; a letter each."""
    told, said = Told(), []
    for one in alerts:
        said.append(told.judge(one))
        told.keep(one)
    return said


def standing(said: str, since: int = T):
    """`f` fires, `r` is resolved; in capitals it is silenced."""
    return Silenceable("1", AlertState.FIRING if said.lower() == "f" else AlertState.RESOLVED, since, ("s-1",) if said.isupper() else ())


TELL, UPDATE, SILENCED = Decision.TELL, Decision.UPDATE, Decision.SILENCED


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("f", [TELL]), ("ff", [TELL, UPDATE]), ("fr", [TELL, TELL]), ("frr", [TELL, TELL, UPDATE]), ("r", [TELL]),
        ("F", [SILENCED]), ("FF", [SILENCED, SILENCED]), ("Ff", [SILENCED, TELL]), ("Fr", [SILENCED, SILENCED]), ("FR", [SILENCED, SILENCED]),
        ("fF", [TELL, UPDATE]), ("fFf", [TELL, UPDATE, UPDATE]), ("fFR", [TELL, UPDATE, TELL]), ("R", [SILENCED]), ("Ffr", [SILENCED, TELL, TELL]),
        ("frR", [TELL, TELL, UPDATE]), ("FrR", [SILENCED, SILENCED, UPDATE]),
    ],
)  # fmt: skip
def test_a_state_is_told_once_unless_silenced(states, expected):
    assert decisions(*map(standing, states)) == expected


def test_a_new_life_is_told_again():
    assert decisions(standing("f"), standing("r"), standing("f", T + 1), standing("r", T + 1)) == [TELL] * 4
    assert decisions(standing("F"), standing("r"), standing("r", T + 1)) == [SILENCED, SILENCED, TELL]


def test_without_the_word_of_its_end_a_new_life_is_told():
    assert decisions(standing("f"), standing("f", T + 1)) == [TELL, TELL]


def test_a_removed_one_is_forgotten():
    told = Told()
    told.keep(alert(1))
    told.forget(alert(1).fingerprint)
    told.forget("unknown")
    assert (len(told), told.judge(alert(1))) == (0, TELL)


@given(st.lists(st.tuples(st.sampled_from("fFrR"), st.integers(0, 1)), max_size=30))
def test_judging_changes_nothing_and_a_replay_of_what_was_kept_tells_nothing_new(said):
    told = Told()
    for state, since in said:
        one = standing(state, T + since)
        assert told.judge(one) is told.judge(one)
        told.keep(one)
        assert told.judge(one) is not TELL


def test_pauses_grow_twice_as_long_up_to_their_bound():
    backoff = Backoff(first=SECOND, longest=30 * SECOND)
    assert [backoff.pause(n, None, lambda: 1.0) for n in (1, 2, 3, 4, 5, 6, 7, 1000)] == [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]


def test_the_jitter_is_full():
    assert [Backoff().pause(3, None, lambda dice=dice: dice) for dice in (0.0, 0.25, 0.5, 0.999)] == [0, 1000, 2000, 3996]


@pytest.mark.parametrize(("asked", "pause"), [(0, 500), (7_000, 7_500), (5 * MINUTE, 5 * MINUTE + 500), (DAY, 5 * MINUTE + 500)])
def test_what_a_receiver_asks_for_is_kept_up_to_a_bound(asked, pause):
    assert Backoff().pause(1, asked, lambda: 0.5) == pause


class Scripted:
    """A receiver that answers as told, and a clock that only pauses move."""

    name = "pager"

    def __init__(self, *answers: Answer, then: Answer = Answer(Verdict.TAKEN)) -> None:  # noqa: B008 - frozen
        self.answers, self.then, self.at, self.now, self.pauses, self.ends_at = list(answers), then, [], T, [], None
        self.metrics = NotifyMetrics()
        self.delivery = Delivery(
            self, Backoff(), DAY, self.metrics, now=lambda: self.now, pause=self.pause, dice=lambda: 1.0
        )  # fmt: skip

    def deliver(self, alert):
        self.at.append(self.now - T)
        return self.answers.pop(0) if self.answers else self.then

    def pause(self, time):
        self.pauses.append(time)
        self.now += time
        return self.ends_at is not None and self.now >= self.ends_at

    def figure(self, name, **labels):
        return self.metrics.registry.get_sample_value(f"session_monitor_notify_{name}_total", {"receiver": "pager", **labels})


AGAIN = Answer(Verdict.AGAIN, "HTTP 503")


def test_it_is_attempted_until_it_is_taken():
    world = Scripted(AGAIN, AGAIN, AGAIN)
    assert world.delivery.deliver(alert(), T).ending is Ending.DELIVERED
    assert world.at == [0, 1000, 3000, 7000]
    assert (world.figure("failures"), world.figure("delivered", state="firing")) == (3, 1)


def test_one_that_is_refused_is_not_attempted_again():
    world = Scripted(AGAIN, Answer(Verdict.REFUSED, "HTTP 410"))
    fate = world.delivery.deliver(alert(), T)
    assert (fate.ending, fate.detail, world.at) == (Ending.REFUSED, "HTTP 410", [0, 1000])


def test_what_is_asked_for_is_waited_for():
    world = Scripted(Answer(Verdict.AGAIN, "HTTP 429", 90_000))
    world.delivery.deliver(alert(), T)
    assert world.pauses == [91_000]


def test_it_is_given_up_at_its_time_and_not_before():
    world = Scripted(then=AGAIN)
    fate = world.delivery.deliver(alert(), T)
    assert fate.ending is Ending.GIVEN_UP
    assert fate.detail == f"HTTP 503 (given up after {len(world.at)} attempts)"
    assert world.at[-2] < DAY <= world.at[-1] < DAY + 30 * SECOND


@pytest.mark.parametrize(("since", "ending"), [(T - DAY + 1, Ending.DELIVERED), (T - DAY, Ending.GIVEN_UP)])
def test_its_time_counts_from_when_it_was_due(since, ending):
    assert Scripted(AGAIN).delivery.deliver(alert(), since).ending is ending


def test_however_late_it_is_attempted_once():
    assert Scripted().delivery.deliver(alert(), T - 9 * DAY).ending is Ending.DELIVERED


def test_when_we_end_it_is_neither_delivered_nor_given_up():
    world = Scripted(then=AGAIN)
    world.ends_at = T + HOUR
    assert world.delivery.deliver(alert(), T).ending is Ending.STOPPED
    assert world.figure("delivered", state="firing") is None
