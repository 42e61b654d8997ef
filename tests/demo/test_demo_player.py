"""The player: every act to the right verb, in order, and an end when told."""

import threading
from itertools import count

import pytest

from monitor.core.errors import AbsenceError
from monitor.demo import Act, Player


class Recorder:
    """A stage that notes what it is given, and says when there is enough."""

    def __init__(self, enough):
        self.calls = []
        self.full = threading.Event()
        self._enough = enough

    def __getattr__(self, verb):
        def note(session_id, **fields):
            self.calls.append((verb, session_id, fields))
            if len(self.calls) == self._enough:
                self.full.set()

        return note


def act(offset, type_, **said):
    return Act(offset, {"type": type_, "session_id": "s1", **said})


@pytest.fixture
def playing():
    players = []

    def play(acts, stage):
        player = Player(acts, stage)
        players.append(player)
        player.start()
        return player

    yield play
    for player in players:
        player.stop()


def test_each_type_has_its_verb_and_activity_is_the_sdks_kind(playing):
    stage = Recorder(4)
    playing(
        [
            act(0, "session.opened", subject="alice", roles=["analyst"]),
            act(1, "session.activity", activity="inflight"),
            act(2, "session.reauthenticated", acr="aal2"),
            act(3, "session.closed"),
        ],
        stage,
    )
    assert stage.full.wait(10)
    assert stage.calls == [
        ("opened", "s1", {"subject": "alice", "roles": ["analyst"]}),
        ("activity", "s1", {"kind": "inflight"}),
        ("reauthenticated", "s1", {"acr": "aal2"}),
        ("closed", "s1", {}),
    ]


def test_acts_wait_for_their_time(playing):
    stage = Recorder(2)
    playing([act(0, "session.opened"), act(60_000, "session.closed")], stage)
    assert not stage.full.wait(0.2)
    assert len(stage.calls) == 1


def test_late_acts_are_played_at_once_and_the_acts_stay_as_they_were(playing):
    stage, acts = Recorder(50), [act(0, "session.activity", activity="agent") for _ in range(50)]
    player = playing(acts, stage)
    assert stage.full.wait(10)
    assert acts[0].event["activity"] == "agent"
    player.stop()
    assert player.played == 50


def test_stop_ends_an_endless_schedule_and_may_be_called_twice(playing):
    stage = Recorder(3)
    player = playing((act(number, "session.activity") for number in count()), stage)
    assert stage.full.wait(10)
    player.stop()
    after = len(stage.calls)
    player.stop()
    assert len(stage.calls) == after
    assert player.failure is None


def test_stop_before_start_is_nothing():
    Player([], Recorder(0)).stop()


def test_a_failure_to_publish_ends_it_and_is_kept(playing):
    class Gone:
        tried = threading.Event()

        def opened(self, session_id, **fields):
            self.tried.set()
            raise AbsenceError("no broker")

        activity = reauthenticated = closed = opened

    stage = Gone()
    player = playing([act(0, "session.opened")], stage)
    assert stage.tried.wait(10)
    player._thread.join(10)
    assert isinstance(player.failure, AbsenceError)
    assert player.played == 0
