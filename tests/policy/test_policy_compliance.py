"""Clauses are judged on the loosest session, with a reason that names who is to blame."""

import pytest

from monitor.core.errors import InputError
from monitor.policy import compile_policy
from monitor.policy.compliance import Verdict
from monitor.policy.standards import STANDARDS, against

NOW = 1_790_000_000_000
EXCUSE = "exceptions: [{{name: late, when: {{{when}}}, idle: 4h, until: {until}, reason: r, approved_by: c}}]"


def rulings(standard, body, roles=()):
    policy = compile_policy("version: 1\n" + body)
    return {
        ruling.clause: (ruling.verdict.value, ruling.why) for ruling in against(policy, standard, NOW, roles)
    }


@pytest.mark.parametrize(
    ("body", "verdict", "why"),
    [
        ("defaults: {idle: 15m}", "met", "the longest idle limit of user sessions is 15m (by defaults)"),
        (
            "defaults: {idle: 16m}",
            "not met",
            "the longest idle limit of user sessions is 16m (by defaults), more than 15m",
        ),
        ("defaults: {idle: none}", "not met", "user sessions can be without idle limit (by defaults)"),
        ("rules: [{name: r, when: {roles: x}, idle: 5m}]", "not met", "30m (by defaults)"),
        ("rules: [{name: r, when: {classification: {at_least: public}}, idle: 5m}]", "met", "5m (by r)"),
        ("rules: [{name: r, when: {classification: {at_least: internal}}, idle: 5m}]", "not met", "30m"),
        ("rules: [{name: r, when: {principal: user}, idle: 5m}]", "met", "5m (by r)"),
        ("rules: [{name: r, when: {principal: service}, idle: 5m}]", "not met", "30m"),
        ("rules: [{name: r, idle: 5m, enforce: observe}]", "not met", "30m"),
        (
            "extends: pci\n" + EXCUSE.format(when="subject: a", until="2027-01-01"),
            "not met",
            "4h (by exception late)",
        ),
        ("extends: pci\n" + EXCUSE.format(when="subject: a", until="2026-01-01"), "met", "15m"),
        ("extends: pci\n" + EXCUSE.format(when="principal: service", until="2027-01-01"), "met", "15m"),
    ],
)
def test_pci_8_2_8(body, verdict, why):
    found = rulings("pci", body)["8.2.8"]
    assert found[0] == verdict
    assert why in found[1]


def test_concurrent_sessions_must_be_ended_not_only_told_of():
    clause = "AC-10 other"
    assert "without a limit" in rulings("fedramp-high", "")[clause][1]
    assert (
        "more than 2"
        in rulings("fedramp-high", "defaults: {concurrent: 3, on_exceed: end_oldest}")[clause][1]
    )
    assert "only raise an alert" in rulings("fedramp-high", "defaults: {concurrent: 2}")[clause][1]
    assert rulings("fedramp-high", "defaults: {concurrent: 2, on_exceed: end_newest}")[clause][0] == "met"


def test_privileged_roles_are_those_named_or_those_the_policy_speaks_of():
    body = "rules: [{name: r, when: {roles: [admin, dba]}, idle: 10m}]"
    clause = "SC-10 privileged"
    assert rulings("fedramp-high", body)[clause] == (
        "met",
        "the longest idle limit of privileged sessions (admin) is 10m (by r)",
    )
    assert rulings("fedramp-high", body, ("dba",))[clause][0] == "met"
    assert rulings("fedramp-high", body, ("dba", "owner"))[clause][0] == "not met"


def test_what_only_people_can_meet_is_said_to_be_theirs():
    aal3 = rulings("nist-aal3", "extends: aal3\ndefaults: {reauth: {acr_values: [phr]}}")
    assert aal3["2.3.3 factors"][0] == "needs people"
    assert rulings("gdpr", "")["Art. 35"][0] == "needs people"


def test_agents_in_consoles():
    assert rulings("nist-aal2", "")["5.1.2"][0] == "needs people"
    assert rulings("nist-aal2", "defaults: {idle_counts: [human]}")["5.1.2"][0] == "met"


def test_by_sensitivity_and_by_role():
    assert rulings("iso27001", "")["A.8.3"][0] == "not met"
    assert rulings("iso27001", "")["A.8.2"][0] == "not met"
    assert rulings("iso27001", "extends: seed")["A.8.3"][0] == "met"
    assert rulings("iso27001", "extends: seed")["A.8.2"][0] == "met"


@pytest.mark.parametrize("standard", sorted(STANDARDS))
def test_every_clause_has_a_verdict_and_a_reason(standard):
    for body in (
        "",
        "defaults: {idle: none, absolute: none}",
        "extends: [seed, pci, fedramp-high, aal2, aal3]",
    ):
        found = against(compile_policy("version: 1\n" + body), standard, NOW)
        assert len({ruling.clause for ruling in found}) == len(found) == len(STANDARDS[standard])
        assert all(ruling.why and ruling.asks and ruling.verdict in Verdict for ruling in found)


@pytest.mark.parametrize("standard", sorted(STANDARDS))
def test_a_policy_without_limits_meets_no_clause_about_limits(standard):
    found = rulings(standard, "defaults: {idle: none, absolute: none}")
    assert "not met" in {verdict for verdict, _ in found.values()}


def test_an_unknown_standard():
    with pytest.raises(InputError, match="did you mean 'iso27001'"):
        against(compile_policy("version: 1"), "iso27002", NOW)
