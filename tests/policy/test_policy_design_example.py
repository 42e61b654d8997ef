"""The policy of DESIGN section 5, as it stands there, and what it says."""

from pathlib import Path

from monitor.core.events import ActivityKind, Attributes, Principal
from monitor.core.instants import HOUR, MINUTE, NEVER
from monitor.core.plan import Because, LimitKind, Policy
from monitor.policy import compile_policy

TEXT = (Path(__file__).parent / "design_example.yaml").read_text()
NOW = 1_790_000_000_000  # 2026-09-21, before the exception's end


def protocol(policy: Policy) -> Policy:
    return policy


def test_it_compiles_and_is_what_core_asks_for():
    policy = compile_policy(TEXT)
    assert protocol(policy).version == policy.version
    assert len(policy.version) == 8
    assert int(policy.version, 16) >= 0
    assert policy.classifications == ("public", "internal", "confidential", "restricted")
    assert [rule.name for rule in policy.rules] == [
        "pci/8.2.8",
        "restricted-data",
        "privileged",
        "unattended-agents",
        "new-limit-on-trial",
    ]
    assert policy.timing.lateness == 2000
    assert policy.timing.credential_lifetime == 24 * HOUR


def test_an_analyst_on_restricted_data():
    plan = compile_policy(TEXT).plan(
        Attributes(
            "alice", Principal.USER, ("analyst",), "restricted", "inference", "/v1/models/fraud-2", "acme"
        ),
        NOW,
    )
    assert (plan.idle.ms, plan.idle.rule) == (10 * MINUTE, "restricted-data")
    assert (plan.absolute.ms, plan.absolute.rule) == (4 * HOUR, "restricted-data")
    assert (plan.observed_idle.ms, plan.observed_idle.rule) == (5 * MINUTE, "new-limit-on-trial")
    assert plan.observed_absolute.ms == NEVER
    assert plan.acr_values == ("aal2",)
    assert plan.concurrent is None
    assert plan.warn_before == (MINUTE,)
    assert plan.source_grace == 0
    assert plan.valid_until == NEVER
    assert plan.chain == (
        Because("defaults", LimitKind.IDLE, 30 * MINUTE, False, "defaults"),
        Because("defaults", LimitKind.ABSOLUTE, 12 * HOUR, False, "defaults"),
        Because("pci/8.2.8", LimitKind.IDLE, 15 * MINUTE, False, "preset"),
        Because("restricted-data", LimitKind.IDLE, 10 * MINUTE, True, "rule"),
        Because("restricted-data", LimitKind.ABSOLUTE, 4 * HOUR, True, "rule"),
        Because("new-limit-on-trial", LimitKind.IDLE, 5 * MINUTE, False, "rule", True),
    )


def test_an_unattended_agent_counts_no_human():
    plan = compile_policy(TEXT).plan(
        Attributes("svc", Principal.SERVICE, ("runner",), "internal", "batch", "/v1/chat", "acme"), NOW
    )
    assert plan.idle.rule == plan.absolute.rule == "defaults"
    assert plan.counts == ActivityKind.AGENT | ActivityKind.INFLIGHT
    assert plan.source_grace == 5 * MINUTE


def test_the_migration_is_excused_until_its_end():
    policy = compile_policy(TEXT)
    migrating = Attributes(
        "svc-migrate", Principal.SERVICE, ("runner",), "internal", "training", "/v1/chat", "acme"
    )
    end = 1_798_675_200_000  # 2026-12-31T00:00:00Z
    plan = policy.plan(migrating, end - 1)
    assert (plan.idle.ms, plan.idle.rule, plan.valid_until) == (4 * HOUR, "migration", end)
    assert plan.chain[-1] == Because("migration", LimitKind.IDLE, 4 * HOUR, True, "exception")
    after = policy.plan(migrating, end)
    assert (after.idle.ms, after.idle.rule, after.valid_until) == (30 * MINUTE, "defaults", NEVER)


def test_a_session_of_which_nothing_is_known_meets_every_rule_and_no_exception():
    plan = compile_policy(TEXT).plan(Attributes(), NOW)
    assert {link.rule for link in plan.chain} == {
        "defaults",
        "pci/8.2.8",
        "restricted-data",
        "privileged",
        "unattended-agents",
        "new-limit-on-trial",
    }
    assert plan.concurrent == 3
    assert plan.source_grace == 0
