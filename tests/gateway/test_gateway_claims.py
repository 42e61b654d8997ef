"""What is taken from a payload whose signature is good: to the millisecond, and from where it is configured."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.errors import InputError
from monitor.core.events import Principal
from monitor.gateway.claims import LEEWAY, ClaimRules, Claims, ServiceRule, parse_service_rule, read_claims
from monitor.gateway.facts import Facts, Posture
from monitor.gateway.refusals import BadToken, TokenFault
from monitor.wire.events import MAX_ROLES, MAX_TEXT
from tests.gateway.signing import AUDIENCE, ISSUER, NOW, RULES, SECOND, said


def read(claims, rules=RULES, now=NOW) -> Claims:
    return read_claims(json.dumps(claims).encode(), rules, now)


def fault(claims, rules=RULES, now=NOW) -> TokenFault:
    with pytest.raises(BadToken) as refused:
        read(claims, rules, now)
    return refused.value.refused.fault


def rules(**changes) -> ClaimRules:
    return msgspec.structs.replace(RULES, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"iss": None}, TokenFault.ISSUER),
        ({"iss": ISSUER + "/"}, TokenFault.ISSUER),
        ({"iss": [ISSUER]}, TokenFault.ISSUER),
        ({"aud": None}, TokenFault.AUDIENCE),
        ({"aud": ""}, TokenFault.AUDIENCE),
        ({"aud": []}, TokenFault.AUDIENCE),
        ({"aud": "gateway2"}, TokenFault.AUDIENCE),
        ({"aud": [["gateway"], {"gateway": 1}]}, TokenFault.AUDIENCE),
        ({"exp": None}, TokenFault.CLAIMS),
        ({"exp": True}, TokenFault.CLAIMS),
        ({"exp": str(SECOND + 9)}, TokenFault.CLAIMS),
        ({"exp": 1e30}, TokenFault.CLAIMS),
        ({"exp": NOW}, TokenFault.CLAIMS),
        ({"exp": -1}, TokenFault.CLAIMS),
        ({"exp": 0}, TokenFault.EXPIRED),
        ({"iat": "x"}, TokenFault.CLAIMS),
        ({"auth_time": "x"}, TokenFault.CLAIMS),
        ({"auth_time": -1}, TokenFault.CLAIMS),
        ({"sub": None}, TokenFault.CLAIMS),
        ({"sub": ""}, TokenFault.CLAIMS),
        ({"sub": 7}, TokenFault.CLAIMS),
        ({"sub": "x" * (MAX_TEXT + 1)}, TokenFault.CLAIMS),
        ({"sid": 7}, TokenFault.CLAIMS),
        ({"acr": 2}, TokenFault.CLAIMS),
        ({"org": {"id": []}}, TokenFault.CLAIMS),
        ({"realm_access": {"roles": {"a": 1}}}, TokenFault.CLAIMS),
        ({"realm_access": {"roles": ["a", 1]}}, TokenFault.CLAIMS),
        ({"realm_access": {"roles": [""]}}, TokenFault.CLAIMS),
        ({"realm_access": {"roles": [str(n) for n in range(MAX_ROLES + 1)]}}, TokenFault.CLAIMS),
        ({"realm_access": {"roles": ["x" * (MAX_TEXT + 1)]}}, TokenFault.CLAIMS),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, TokenFault.TYPE),
    ],
)
def test_what_can_not_be_used_is_refused(changes, expected):
    assert fault(said(**changes)) is expected


@pytest.mark.parametrize("aud", [AUDIENCE, "other", ["x", AUDIENCE], [AUDIENCE, "y"]])
def test_any_of_the_audiences_is_enough(aud):
    assert read(said(aud=aud)).subject == "alice@example.com"


def test_a_token_expires_at_exp_and_the_leeway():
    end = SECOND * 1000 + LEEWAY
    assert read(said(exp=SECOND), now=end - 1).expires == SECOND * 1000
    for late in (end, end + 1):
        assert fault(said(exp=SECOND), now=late) is TokenFault.EXPIRED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nbf", TokenFault.NOT_YET_VALID),
        ("iat", TokenFault.NOT_YET_VALID),
        ("auth_time", TokenFault.AUTH_TIME),
    ],
)
def test_the_future_begins_after_the_leeway(name, expected):
    begin = (SECOND + 100) * 1000 - LEEWAY
    assert fault(said(**{name: SECOND + 100}), now=begin - 1) is expected
    for later in (begin, begin + 1):
        assert read(said(**{name: SECOND + 100}), now=later)


def test_without_leeway_every_millisecond_counts():
    exact = rules(leeway=0)
    assert fault(said(exp=SECOND + 0.5), exact, NOW + 500) is TokenFault.EXPIRED
    assert read(said(exp=SECOND + 0.5), exact, NOW + 499).expires == NOW + 500


def test_what_is_not_said_is_not_known():
    bare = {name: said()[name] for name in ("iss", "aud", "sub", "exp")}
    known = Claims("alice@example.com", Principal.SERVICE, (SECOND + 300) * 1000, roles=())
    assert read(bare) == known
    assert read(bare, rules(roles=None)) == msgspec.structs.replace(known, roles=None)


@pytest.mark.parametrize(
    ("said_", "millis", "whole"),
    [
        (SECOND - 7, NOW - 7000, True),
        (SECOND - 7.0, NOW - 7000, True),
        (SECOND - 6.5, NOW - 6500, False),
        (SECOND - 6.999, NOW - 6999, False),
        (None, None, False),
    ],
)
def test_a_whole_second_is_told_from_an_exact_instant_and_published_as_it_was(said_, millis, whole):
    found = read(said(auth_time=said_))
    assert (found.auth_time, found.whole_second) == (millis, whole)
    told = Facts(auth_time=found.auth_time, whole_second=found.whole_second).auth_seconds
    assert told == said_
    assert isinstance(told, int) is whole


@pytest.mark.parametrize(
    ("where", "claims"),
    [
        ("roles", {"roles": ["a"]}),
        ("realm_access.roles", {"realm_access": {"roles": ["a"]}}),
        ("resource_access.my.app.roles", {"resource_access": {"my.app": {"roles": ["a"]}}}),
        ("https://acme.example/roles", {"https://acme.example/roles": ["a"]}),
        ("a.b", {"a.b": ["a"], "a": {"b": ["nested"]}}),
        ("scope", {"scope": "a a"}),
    ],
)
def test_a_claim_is_found_by_name_or_by_the_way_to_it(where, claims):
    assert read(said(**claims), rules(roles=where)).roles == ("a",)


@pytest.mark.parametrize("claims", [{}, {"a": 7}, {"a": [1]}, {"a": {"c": 1}}, {"a": {"b": None}}])
def test_a_way_that_leads_nowhere_is_not_known(claims):
    assert read(said(**claims), rules(roles="a.b")).roles == ()


def test_several_claims_may_name_the_session():
    found = read(said(jti="j-1", x={"y": "z"}), rules(session_ids=("sid", "jti", "x.y", "no")))
    assert found.session_ids == {"sid": "s-81f2", "jti": "j-1", "x.y": "z"}


@pytest.mark.parametrize(
    ("rule", "changes", "principal"),
    [
        ("no-session", {}, Principal.USER),
        ("no-session", {"sid": None}, Principal.USER),
        ("no-session", {"auth_time": None}, Principal.USER),
        ("no-session", {"sid": None, "auth_time": None}, Principal.SERVICE),
        ("claim:idtyp=app", {"idtyp": "app"}, Principal.SERVICE),
        ("claim:idtyp=app", {"idtyp": "user"}, Principal.USER),
        ("claim:idtyp=app", {"sid": None, "auth_time": None}, Principal.USER),
        ("claim:groups=robots", {"groups": ["people", "robots"]}, Principal.SERVICE),
        ("claim:robot=true", {"robot": True}, Principal.SERVICE),
        ("claim:robot", {"robot": "yes"}, Principal.SERVICE),
        ("claim:robot", {"robot": False}, Principal.USER),
        ("claim:robot", {}, Principal.USER),
    ],
)
def test_who_is_a_service(rule, changes, principal):
    assert read(said(**changes), rules(service=parse_service_rule(rule))).principal is principal


@pytest.mark.parametrize("text", ["", "claim", "claim:", "claim:=x", "claim:a=", "sid", "nosession"])
def test_a_rule_that_is_none_is_refused(text):
    with pytest.raises(InputError, match=r"allowed are no-session, claim:NAME and claim:NAME=VALUE"):
        parse_service_rule(text)


def test_a_value_may_have_an_equals_sign():
    assert parse_service_rule("claim:a=b=c") == ServiceRule("a", "b=c")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"audiences": ()}, "no audience"), ({"audiences": ("a", "")}, "no audience"), ({"leeway": 300_001}, "leeway is 300001"), ({"leeway": -1}, "leeway is -1")],
)  # fmt: skip
def test_rules_that_would_verify_nothing_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        rules(**changes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*said(), "events", "idtyp"]), JSON))
def test_any_claims_are_read_or_refused(changes):
    for service in (ServiceRule(), ServiceRule("idtyp", "app")):
        try:
            found = read(said() | changes, rules(service=service))
        except BadToken:
            continue
        assert found.subject
        assert all(isinstance(role, str) for role in found.roles)
        assert found.auth_time is None or found.auth_time <= NOW + LEEWAY


@pytest.mark.parametrize(("value", "posture"), [
    ("strict", Posture.STRICT), ("best_effort", Posture.BEST_EFFORT), ("best-effort", Posture.BEST_EFFORT), ("lax", Posture.STRICT),
    (7, Posture.STRICT), ("", Posture.STRICT), (None, None),
])  # fmt: skip
def test_a_posture_is_loosened_by_its_word_alone(value, posture):
    assert read(said(edge={"posture": value}), msgspec.structs.replace(RULES, posture="edge.posture")).posture is posture
    assert read(said(edge={"posture": value})).posture is None
