"""What a policy says of a session: matching, combining, exceptions, trials, memory."""

import pytest

from monitor.core.events import ActivityKind, Attributes, Principal
from monitor.core.instants import HOUR, MINUTE, NEVER
from monitor.policy import compile_policy

NOW = 1_790_000_000_000
KNOWN = {
    "subject": "alice",
    "principal": Principal.USER,
    "roles": ("analyst",),
    "classification": "internal",
    "workload": "console",
    "route": "/v1/chat",
    "tenant": "acme",
}


def policy(body: str):
    return compile_policy("version: 1\n" + body)


def idle(text, at=NOW, **attributes):
    """The rule that gives the idle limit to a session of which all else is known."""
    return policy(text).plan(Attributes(**(KNOWN | attributes)), at).idle.rule


def rule(when: str) -> str:
    return f"rules: [{{name: r, when: {{{when}}}, idle: 1m}}]"


def excuse(when: str, more: str = "idle: 4h") -> str:
    return (
        f"exceptions: [{{name: x, when: {{{when}}}, {more}, until: 2027-01-01, reason: r, approved_by: c}}]"
    )


MATCHES = [
    ("principal: user", {}, True),
    ("principal: service", {}, False),
    ("roles: [admin, analyst]", {}, True),
    ("roles: analyst", {"roles": ("admin", "analyst")}, True),
    ("roles: [admin]", {}, False),
    ("classification: {at_least: internal}", {}, True),
    ("classification: {at_least: confidential}", {}, False),
    ("classification: {at_least: public}", {"classification": "restricted"}, True),
    ("classification: internal", {}, True),
    ("classification: [public, restricted]", {}, False),
    ("workload: [console, batch]", {}, True),
    ("workload: batch", {}, False),
    ('route: "/v1/*"', {}, True),
    ('route: ["/v2/*", "/v?/chat"]', {}, True),
    ('route: "/V1/*"', {}, False),
    ('route: "/v1/*"', {"route": "/v1/models/deep/down"}, True),
    ("subject: [bob, alice]", {}, True),
    ('subject: "ali*"', {}, True),
    ("subject: ali", {}, False),
    ("tenant: acme", {}, True),
    ('tenant: "ac*"', {}, False),
    ("roles: analyst, workload: console", {}, True),
    ("roles: analyst, workload: batch", {}, False),
]


@pytest.mark.parametrize(("when", "attributes", "met"), MATCHES)
def test_a_condition_on_what_is_known(when, attributes, met):
    assert (idle(rule(when), **attributes) == "r") is met
    assert (idle(excuse(when), **attributes) == "x") is met


@pytest.mark.parametrize(
    ("when", "missing"),
    [
        ("principal: service", {"principal": None}),
        ("roles: admin", {"roles": ()}),
        ("classification: {at_least: restricted}", {"classification": None}),
        ("classification: public", {"classification": None}),
        ("classification: {at_least: restricted}", {"classification": "top-secret"}),
        ("classification: public", {"classification": "top-secret"}),
        ("workload: batch", {"workload": None}),
        ("route: /x", {"route": None}),
        ("subject: bob", {"subject": None}),
        ("tenant: other", {"tenant": None}),
        ("tenant: other", {"tenant": ""}),
    ],
)
def test_what_is_not_known_meets_a_rule_and_no_exception(when, missing):
    assert idle(rule(when), **missing) == "r"
    assert idle(rule(when)) == "defaults"
    assert idle(excuse(when), **missing) == "defaults"


def test_ranks():
    ranks = policy("classifications: [low, high]").rank
    assert (ranks(None), ranks("low"), ranks("high"), ranks("other")) == (-1, 0, 1, 2)


def test_the_shortest_wins_and_of_equals_the_first():
    text = """rules:
  - {name: long, idle: 2h}
  - {name: short, idle: 5m}
  - {name: short-too, idle: 5m, absolute: 12h}
"""
    plan = policy(text).plan(Attributes(**KNOWN), NOW)
    assert (plan.idle.rule, plan.absolute.rule) == ("short", "defaults")
    assert [link.rule for link in plan.chain if link.won] == ["defaults", "short"]


def test_none_is_what_it_says_and_only_where_written():
    plan = policy("defaults: {idle: none}\nrules: [{name: r, absolute: none}]").plan(Attributes(), NOW)
    assert (plan.idle.ms, plan.idle.rule) == (NEVER, "defaults")
    assert (plan.absolute.ms, plan.absolute.rule) == (12 * HOUR, "defaults")
    assert [(link.rule, link.ms, link.won) for link in plan.chain] == [
        ("defaults", None, True),
        ("defaults", 12 * HOUR, True),
        ("r", None, False),
    ]


def test_exceptions_only_lengthen_and_the_longest_wins():
    text = (
        "defaults: {idle: 30m, absolute: 12h}\nexceptions:\n"
        "  - {name: short, when: {tenant: acme}, idle: 5m, until: 2027-01-01, reason: r, approved_by: c}\n"
        "  - {name: long, when: {subject: alice}, idle: 2h, until: 2027-02-01, reason: r, approved_by: c}\n"
        "  - {name: longest, when: {roles: analyst}, idle: none, until: 2027-03-01, reason: r, approved_by: c}\n"
    )
    compiled, who = policy(text), Attributes(**KNOWN)
    january, february, march = 1_798_761_600_000, 1_801_440_000_000, 1_803_859_200_000
    seen = [
        (at, plan.idle.rule, plan.valid_until)
        for at in (NOW, january - 1, january, february - 1, february, march - 1, march)
        for plan in [compiled.plan(who, at)]
    ]
    assert seen == [
        (NOW, "longest", january),
        (january - 1, "longest", january),
        (january, "longest", february),
        (february - 1, "longest", february),
        (february, "longest", march),
        (march - 1, "longest", march),
        (march, "defaults", NEVER),
    ]
    plan = compiled.plan(who, NOW)
    assert plan.idle.ms == NEVER
    assert plan.absolute.rule == "defaults"
    assert compiled.plan(Attributes(**(KNOWN | {"roles": ("x",)})), NOW).idle.rule == "long"
    assert (
        compiled.plan(Attributes(**(KNOWN | {"roles": ("x",), "subject": "bob"})), NOW).idle.rule
        == "defaults"
    )


def test_an_exception_lengthens_past_every_rule_that_matches():
    text = rule("roles: analyst") + "\n" + excuse("subject: alice", "idle: 90s, absolute: 2d")
    plan = policy(text).plan(Attributes(**KNOWN), NOW)
    assert (plan.idle.ms, plan.idle.rule) == (90_000, "x")
    assert (plan.absolute.ms, plan.absolute.rule) == (48 * HOUR, "x")


def test_a_rule_on_trial_gives_observed_limits_where_shorter_and_nothing_else():
    text = """defaults: {idle: 30m, absolute: 12h}
rules:
  - {name: trial, idle: 5m, absolute: 24h, concurrent: 1, idle_counts: human, warn_before: 1m, reauth: {acr_values: a}, enforce: observe}
  - {name: other-trial, idle: 6m, enforce: observe}
"""
    plan = policy(text).plan(Attributes(**KNOWN), NOW)
    assert (plan.idle.rule, plan.absolute.rule) == ("defaults", "defaults")
    assert (plan.observed_idle.ms, plan.observed_idle.rule) == (5 * MINUTE, "trial")
    assert plan.observed_absolute.ms == NEVER
    assert (plan.concurrent, plan.acr_values, plan.warn_before) == (None, (), ())
    assert plan.counts & ActivityKind.AGENT
    assert [link.rule for link in plan.chain if link.observe] == ["trial", "trial", "other-trial"]
    assert not any(link.won for link in plan.chain if link.observe)


def test_a_rule_on_trial_that_is_longer_than_what_holds_is_not_observed():
    text = "defaults: {idle: 30m}\nrules: [{name: t, idle: 30m, absolute: 1h, enforce: observe}]"
    plan = policy(text).plan(Attributes(**KNOWN), NOW)
    assert (plan.observed_idle.ms, plan.observed_idle.rule) == (NEVER, "")
    assert (plan.observed_absolute.ms, plan.observed_absolute.rule) == (HOUR, "t")


def test_the_other_members_combine_to_the_stricter():
    text = """defaults: {warn_before: [1m, 5m]}
rules:
  - {name: a, when: {roles: analyst}, concurrent: 5, on_exceed: end_oldest, idle_counts: [human, agent], reauth: {acr_values: [aal3, aal2], max_age: 1h}}
  - {name: b, when: {tenant: acme}, concurrent: 3, idle_counts: [agent, inflight], reauth: {acr_values: [aal2, other], max_age: 15m}}
  - {name: c, when: {subject: alice}, reauth: {acr_values: [else]}}
  - {name: d, when: {workload: batch}, warn_before: [10m]}
  - {name: e, when: {workload: batch, tenant: acme}, warn_before: [2m, 10m]}
"""
    compiled = policy(text)
    plan = compiled.plan(Attributes(**KNOWN), NOW)
    assert (plan.concurrent, plan.on_exceed) == (3, "end_oldest")
    assert plan.counts == ActivityKind.AGENT
    assert plan.acr_values == ("aal2",)
    assert plan.max_age == 15 * MINUTE
    assert plan.warn_before == (5 * MINUTE, MINUTE)
    batch = compiled.plan(Attributes(**(KNOWN | {"workload": "batch"})), NOW)
    assert batch.warn_before == (10 * MINUTE, 2 * MINUTE)


@pytest.mark.parametrize(
    ("grace", "expected"),
    [
        ("source_grace: 1m", {"public": 60, "confidential": 60, "restricted": 0, None: 0, "other": 0}),
        ("source_grace: {restricted: 2s}", {"public": 300, "restricted": 2, None: 2, "other": 2}),
        ("source_grace: {public: 1s}", {"public": 1, "internal": 300, "restricted": 0, None: 0}),
    ],
)
def test_source_grace_is_none_for_the_highest_unless_the_policy_says_otherwise(grace, expected):
    compiled = policy(f"timing: {{{grace}}}")
    for word, seconds in expected.items():
        assert compiled.plan(Attributes(classification=word), NOW).source_grace == seconds * 1000
    assert compiled.timing.source_grace == (60_000 if "1m" in grace else 300_000)


def test_equal_calls_and_sessions_that_match_the_same_share_one_plan():
    compiled = policy(rule('route: "/v1/*"') + "\n" + excuse("subject: bob"))
    plan = compiled.plan(Attributes(**KNOWN), NOW)
    assert compiled.plan(Attributes(**KNOWN), NOW) is plan
    other = KNOWN | {
        "subject": "carol",
        "route": "/v1/models",
        "roles": ("x",),
        "tenant": "b",
        "client_ip": "::1",
    }
    assert compiled.plan(Attributes(**other), NOW + 1) is plan
    assert compiled.plan(Attributes(**(KNOWN | {"route": "/v2"})), NOW) is not plan


def test_memory_is_bounded_and_forgetting_changes_nothing(monkeypatch):
    monkeypatch.setattr("monitor.policy.conditions.MEMORY", 10)
    monkeypatch.setattr("monitor.policy.compiled.PLANS", 1)
    compiled = policy(rule('route: "*7"'))
    for _ in range(2):
        rules = [compiled.plan(Attributes(**(KNOWN | {"route": f"/{n}"})), NOW).idle.rule for n in range(100)]
        assert rules == ["r" if n % 10 == 7 else "defaults" for n in range(100)]
    assert len(dict(compiled._axes)["route"]) <= 10
    assert len(compiled._plans) == 1


def test_only_a_policy_that_asks_for_subjects_is_personal():
    assert policy(rule("subject: bob")).personal
    assert policy(excuse("subject: bob")).personal
    assert not policy(rule("roles: admin")).personal


def test_a_period_ends_where_an_exception_does():
    compiled = policy(rule("roles: admin") + "\n" + excuse("route: /v1/chat"))
    until = compiled.exceptions[0].until
    assert compiled.period(0) == compiled.period(until - 1) != compiled.period(until) == compiled.period(NEVER)
    assert policy(rule("roles: admin")).period(NEVER) == 0


def test_the_version_is_a_function_of_the_text_alone():
    one, same, other = policy("rules: []"), policy("rules: []"), policy("rules: [] ")
    assert one.version == same.version != other.version
    assert compile_policy("version: 1", name="a").version == compile_policy("version: 1", name="b").version


def test_matching_tells_the_entries_in_order():
    compiled = policy(rule("roles: analyst") + "\n" + excuse("subject: alice"))
    assert [entry.name for entry in compiled.matching(Attributes(**KNOWN), NOW)] == ["defaults", "r", "x"]
    assert [entry.name for entry in compiled.matching(Attributes(**KNOWN), NEVER - 1)] == ["defaults", "r"]
