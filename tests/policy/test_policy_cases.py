"""Cases: read with positions, run against the plan, told member by member."""

import pytest

from monitor.policy import PolicyError, compile_policy
from monitor.policy.cases import read_cases, run_case

NOW = 1_790_000_000_000
POLICY = compile_policy(
    """version: 1
defaults: {idle: 30m, absolute: 12h, warn_before: [5m, 1m]}
rules:
  - {name: secret, when: {classification: restricted}, idle: 10m, concurrent: 2, reauth: {acr_values: [b, a], max_age: 1h}}
  - {name: agents, when: {principal: service}, idle_counts: [agent, inflight], on_exceed: end_oldest, absolute: 24h}
  - {name: trial, when: {roles: x}, idle: 5m, enforce: observe}
exceptions:
  - {name: late, when: {subject: bob}, idle: none, until: 2026-10-01, reason: r, approved_by: c}
"""
)
GIVEN = (
    "{principal: user, roles: [x], classification: restricted, workload: w, route: /, subject: a, tenant: t}"
)


def outcome(expect, given=GIVEN, more=""):
    (case,) = read_cases(f"cases: [{{name: n, given: {given}, expect: {expect}{more}}}]", "c.yaml")
    return run_case(POLICY, case, NOW)


@pytest.mark.parametrize(
    "expect",
    [
        "{idle: 600s, absolute: 12h, idle_rule: secret, absolute_rule: defaults}",
        "{observed_idle: 5m, observed_absolute: none}",
        "{rules: [secret, trial], concurrent: 2, on_exceed: alert}",
        "{acr_values: [b, a], max_age: 60m, warn_before: [1m, 5m], idle_counts: [inflight, human, agent]}",
    ],
)
def test_all_as_expected(expect):
    assert outcome(expect).passed


@pytest.mark.parametrize(
    ("expect", "failure"),
    [
        ("{idle: 11m}", "idle: expected 11m, but it is 10m"),
        ("{absolute: none}", "absolute: expected none, but it is 12h"),
        ("{idle_rule: defaults}", "idle_rule: expected defaults, but it is secret"),
        ("{rules: [trial]}", "rules: expected trial, but it is secret, trial"),
        ("{concurrent: 3}", "concurrent: expected 3, but it is 2"),
        ("{idle_counts: human}", "idle_counts: expected human, but it is agent, human, inflight"),
        ("{acr_values: [a, b]}", "acr_values: expected a, b, but it is b, a"),
    ],
)
def test_what_differs_is_told(expect, failure):
    assert outcome(expect).failures == (failure,)


def test_a_case_has_an_instant_of_its_own():
    bob = GIVEN.replace("subject: a", "subject: bob")
    assert outcome("{idle: none, idle_rule: late}", bob).passed
    assert outcome("{idle: none, idle_rule: late}", bob, ", at: 2026-09-30").passed
    assert outcome("{idle: 10m}", bob, ", at: 2026-10-01").passed


def test_what_is_left_out_is_not_known():
    assert outcome("{rules: [secret, agents, trial, late]}", "{subject: bob}").passed


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("cases: 1", (1, 8), "cases must be a list"),
        ("case: []", (1, 1), "did you mean 'cases'?"),
        ("cases: [{name: a, given: {}, expect: {}}]", (1, 38), "must expect something"),
        ("cases: [{name: a, given: {role: x}, expect: {idle: 1m}}]", (1, 27), "did you mean 'roles'?"),
        ("cases: [{name: a, given: {}, expect: {idel: 1m}}]", (1, 39), "did you mean 'idle'?"),
        ("cases: [{name: a, given: {}, expect: {idle: 1}}]", (1, 45), "'1' has no unit"),
        ("cases: [{name: a, given: {principal: x}, expect: {idle: 1m}}]", (1, 38), "known: service, user"),
        ("cases: [{name: a, given: {}, expect: {idle: 1m}, at: x}]", (1, 54), "at must be a day"),
        ("cases: [{name: a, expect: {idle: 1m}}]", (1, 9), "a case needs 'given'"),
    ],
)
def test_mistakes_have_places(text, place, message):
    with pytest.raises(PolicyError) as caught:
        read_cases(text, "c.yaml")
    found = caught.value.findings[0]
    assert ((found.line, found.column), message in found.message) == (place, True)
