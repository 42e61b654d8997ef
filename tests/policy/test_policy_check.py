"""The warnings of `policy check`: each for its cause, none for a policy without cause."""

import pytest

from monitor.core.instants import DAY
from monitor.policy import Severity, compile_policy
from monitor.policy.check import check

NOW = 1_790_000_000_000  # 2026-09-21
EXCUSE = "exceptions: [{{name: x, when: {{subject: a}}, {limit}, until: {until}, reason: r, approved_by: c}}]"

DOUBTFUL = {
    "idle longer than absolute": (
        "defaults: {idle: 2h, absolute: 1h}",
        (2, 11),
        "the idle limit never strikes",
    ),
    "a rule's absolute below the idle": (
        "rules: [{name: r, absolute: 10m}]",
        (2, 9),
        "idle 30m is longer than absolute 10m",
    ),
    "lead as long as the limit": (
        "defaults: {idle: 30m, absolute: 12h, warn_before: [30m, 1m]}",
        (2, 11),
        "a warning 30m before the idle limit of 30m never comes",
    ),
    "a rule that never wins": (
        "rules: [{name: r, when: {roles: a}, idle: 4h}]",
        (2, 9),
        "idle 4h never wins: defaults gives 30m",
    ),
    "none in a rule": ("rules: [{name: r, when: {roles: a}, idle: none}]", (2, 9), "idle none never wins"),
    "a rule within another": (
        "rules: [{name: wide, when: {roles: [a, b]}, idle: 5m}, {name: r, when: {roles: a, tenant: t}, idle: 6m}]",
        (2, 56),
        "idle 6m never wins: wide gives 5m",
    ),
    "a rule within another by rank": (
        "rules: [{name: w, when: {classification: {at_least: internal}}, idle: 5m}, {name: r, when: {classification: restricted}, idle: 5m}]",
        (2, 76),
        "never wins",
    ),
    "a rule within another by glob": (
        'rules: [{name: wide, when: {route: "/v1/*"}, idle: 5m}, {name: r, when: {route: /v1/a}, idle: 6m}]',
        (2, 57),
        "never wins",
    ),
    "a rule within a preset's": (
        "extends: pci\nrules: [{name: r, when: {principal: user, roles: a}, idle: 20m}]",
        (3, 9),
        "idle 20m never wins: pci/8.2.8 gives 15m",
    ),
    "an exception that has ended": (
        EXCUSE.format(limit="idle: 4h", until="2026-09-01"),
        (2, 14),
        "has ended",
    ),
    "an exception that ends soon": (
        EXCUSE.format(limit="idle: 4h", until="2026-10-01"),
        (2, 14),
        "ends within 10 days",
    ),
    "an exception that lengthens nothing": (
        EXCUSE.format(limit="idle: 10m", until="2027-01-01"),
        (2, 14),
        "lengthens nothing: no rule gives less",
    ),
    "an exception beyond the absolute limit": (
        EXCUSE.format(limit="idle: 24h", until="2027-01-01"),
        (2, 14),
        "idle 24h is longer than absolute 12h",
    ),
    "no acr in common": (
        "rules: [{name: a, reauth: {acr_values: x}}, {name: b, when: {roles: r}, reauth: {acr_values: y}}]",
        (2, 45),
        "b and a accept no acr in common",
    ),
    "no activity in common": (
        "rules: [{name: a, idle_counts: human}, {name: b, when: {roles: r}, idle_counts: agent}]",
        (2, 40),
        "b and a count no activity in common",
    ),
    "a trial of nothing": ("rules: [{name: r, concurrent: 3, enforce: observe}]", (2, 9), "observes nothing"),
    "a trial of more than limits": (
        "rules: [{name: r, idle: 5m, concurrent: 3, enforce: observe}]",
        (2, 9),
        "only idle and absolute are observed",
    ),
    "on_exceed without concurrent": ("defaults: {on_exceed: end_oldest}", (2, 11), "on_exceed has no effect"),
}


@pytest.mark.parametrize("doubt", DOUBTFUL)
def test_a_doubt_is_told_at_its_place(doubt):
    text, place, message = DOUBTFUL[doubt]
    found = check(compile_policy("version: 1\n" + text), NOW)
    assert [(finding.line, finding.column) for finding in found if message in finding.message] == [place]
    assert {finding.severity for finding in found} == {Severity.WARNING}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "defaults: {idle: none, absolute: none, warn_before: 1m}",
        "rules: [{name: r, when: {roles: a}, idle: 5m}, {name: s, when: {roles: [a, b]}, idle: 6m}]",
        "rules: [{name: r, when: {roles: a}, idle: 5m}, {name: s, idle: 6m}]",
        "rules: [{name: r, when: {route: '/*'}, idle: 5m}, {name: s, idle: 6m}]",
        "rules: [{name: t, idle: 5m, enforce: observe}, {name: r, when: {roles: a}, idle: 6m}]",
        "rules: [{name: r, when: {route: '/v1/[ab]'}, idle: 5m}, {name: s, when: {route: '/v1/*'}, idle: 6m}]",
        "extends: [seed, pci, fedramp-high, aal2, aal3]",
        EXCUSE.format(limit="idle: 4h", until="2027-01-01"),
    ],
)
def test_a_policy_without_doubt(text):
    assert check(compile_policy("version: 1\n" + text), NOW) == ()


def test_an_exception_is_told_of_in_its_last_thirty_days_and_no_sooner():
    policy = compile_policy("version: 1\n" + EXCUSE.format(limit="idle: 4h", until="2027-01-01"))
    end = policy.exceptions[0].until
    assert check(policy, end - 30 * DAY - 1) == ()
    assert "ends within 30 days" in check(policy, end - 30 * DAY)[0].message
    assert "ends within 1 day" in check(policy, end - 1)[0].message
    assert "has ended" in check(policy, end)[0].message
