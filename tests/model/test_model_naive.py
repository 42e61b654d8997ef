"""The naive model says what the specification says: clause by clause, and at the boundaries."""

import pytest
from hypothesis import HealthCheck, given, settings

from monitor.testing.strategies import histories
from tests.model.histories import BASE, CORPUS
from tests.model.naive import decide

QUIET = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(("told", "decisions"), [c[1:] for c in CORPUS], ids=[c[0] for c in CORPUS])
def test_clause(told, decisions):
    decided = [
        (c["type"], c["session_id"], c["epoch"], c["reason"], c["effective_at"] - BASE)
        for c in decide(told).commands
    ]
    assert decided == decisions


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_trial_is_written_down_at_its_own_deadline(shift):
    (told,) = (c[1] for c in CORPUS if c[0] == "a rule on trial commands nothing")
    until = [step for step in told["log"] if step["at"] < BASE + 6000]
    seen = decide(
        {**told, "log": [*until, {"kind": "tick", "at": BASE + 6000 + shift, "controls_to": -1}]}
    ).lifecycle
    on_trial = [(what, at - BASE) for what, _, _, at, _, observe in seen if observe]
    assert on_trial == ([] if shift < 0 else [("session.expired", 4000)])


@QUIET
@given(histories())
def test_watermarks_never_go_back(told):
    marks = decide(told).watermarks
    assert marks == sorted(marks)


@QUIET
@given(histories())
def test_nothing_is_decided_at_or_below_a_published_watermark(told):
    model = decide(told)
    for command in model.commands:
        if command["reason"] in {"idle_timeout", "absolute_timeout"} and command["type"] == "session.expire":
            # Decided before the record after it was applied: every watermark up to its own offset stands below it.
            assert command["effective_at"] > max(model.watermarks[: command["offset"] + 1], default=-1)
