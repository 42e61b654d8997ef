"""Exemptions: by what is known alone, and otherwise as the policy reads the conditions of its exceptions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.events import Attributes, Principal
from monitor.detect.exempt import exempted, meets
from monitor.policy.conditions import Axis
from monitor.policy.rules import Origin, Rule, When

CLASSIFICATIONS = ("public", "internal", "confidential", "restricted")
KNOWN = Attributes("svc-migrate", Principal.SERVICE, ("admin", "analyst"), "confidential", "batch", "/v1/models/fraud", "acme")
EVERY_CONDITION = {
    "principal": "service", "roles": ("root", "admin"), "at_least": "internal", "workload": ("batch",),
    "route": ("/v1/chat", "/v1/models/*"), "subject": ("svc-*",), "tenant": ("acme",),
}  # fmt: skip


def rank(classification: str | None) -> int:
    if classification is None:
        return -1
    return CLASSIFICATIONS.index(classification) if classification in CLASSIFICATIONS else len(CLASSIFICATIONS)


def test_all_that_is_given_must_be_met() -> None:
    assert meets(When(**EVERY_CONDITION), KNOWN, rank)
    other = {
        "principal": "user", "roles": ("root",), "at_least": "restricted", "workload": ("training",),
        "route": ("/v1/models",), "subject": ("SVC-*",), "tenant": ("other",),
    }  # fmt: skip
    for name, wanted in other.items():
        assert not meets(When(**EVERY_CONDITION | {name: wanted}), KNOWN, rank), name


@pytest.mark.parametrize("condition", [{name: wanted} for name, wanted in EVERY_CONDITION.items()] + [{"classification": ("internal", "restricted")}])
def test_what_is_not_known_meets_no_exemption(condition) -> None:
    assert not meets(When(**condition), Attributes(), rank)


def test_a_classification_outside_the_list_is_not_known() -> None:
    secret = Attributes(classification="secret")
    assert rank("secret") > rank("restricted")
    assert not meets(When(at_least="public"), secret, rank)
    assert [meets(When(at_least="internal"), Attributes(classification=word), rank) for word in CLASSIFICATIONS] == [False, True, True, True]
    # Nor is a condition met whose own word has left the list.
    assert not meets(When(at_least="secret"), KNOWN, rank)


def test_one_exemption_is_enough_and_of_none_nobody_is_exempt() -> None:
    whens = (When(subject=("alice",)), When(workload=("batch",)))
    assert exempted(whens, KNOWN, rank)
    assert not exempted(whens[:1], KNOWN, rank)
    assert not exempted((), KNOWN, rank)
    assert exempted((When(),), Attributes(), rank)


def some(*values):
    return st.none() | st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True).map(tuple)


WHENS = st.builds(
    When, principal=st.sampled_from([None, "user", "service"]), roles=some("admin", "analyst", "root"),
    at_least=st.sampled_from([None, *CLASSIFICATIONS]), workload=some("batch", "console"),
    route=some("/v1/*", "/v1/models/f[rt]aud", "?v1*", "/V1/*"), subject=some("alice", "svc-*"), tenant=some("acme", "b"),
) | st.builds(When, classification=some("internal", "restricted", "secret"))  # fmt: skip
ATTRIBUTES = st.builds(
    Attributes, subject=st.sampled_from([None, "alice", "svc-1", "Alice"]), principal=st.sampled_from([None, *Principal]),
    roles=st.sampled_from([(), ("admin",), ("admin", "root"), ("reader",)]), classification=st.sampled_from([None, *CLASSIFICATIONS, "secret"]),
    workload=st.sampled_from([None, "batch", "console", ""]), route=st.sampled_from([None, "/v1/models/fraud", "/v1/chat", "/V1/x", ""]),
    tenant=st.sampled_from([None, "acme", "c"]),
)  # fmt: skip


@settings(max_examples=500)
@given(WHENS, ATTRIBUTES)
def test_it_reads_conditions_as_the_policy_reads_those_of_an_exception(when, attributes) -> None:
    entry = Rule("r", Origin.EXCEPTION, when)
    names = ("principal", "roles", "classification", "workload", "route", "subject", "tenant")
    told = all(Axis(name, [entry], CLASSIFICATIONS)[getattr(attributes, name)] for name in names)
    assert meets(when, attributes, rank) == told
