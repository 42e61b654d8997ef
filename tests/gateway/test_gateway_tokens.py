"""Which tokens are taken, and that all others are refused with a reason and nothing else."""

import json
import logging
import sys

import pytest
from joserfc.jwk import OctKey

from monitor.core.errors import InputError
from monitor.core.events import Principal
from monitor.gateway.claims import Claims
from monitor.gateway.jwks import ALGORITHMS, parse_jwks
from monitor.gateway.refusals import FAULTS, BadToken, TokenFault, TokenRefused
from monitor.gateway.tokens import LARGEST, TokenVerifier
from tests.gateway.signing import (
    NOW,
    RULES,
    SECOND,
    Held,
    ec,
    held,
    jwks,
    okp,
    rsa,
    said,
    signed,
    unsigned,
    verifier,
)

KEY_OF = {
    **{name: rsa for name in ALGORITHMS if name[:2] in ("RS", "PS")},
    "ES256": ec, "ES384": lambda: ec("P-384"), "ES512": lambda: ec("P-521"),
    "EdDSA": okp, "Ed25519": okp, "Ed448": lambda: okp("Ed448"),
}  # fmt: skip


def fault(found) -> TokenFault:
    assert isinstance(found, TokenRefused), found
    return found.fault


def test_a_good_token_gives_its_claims():
    assert verifier().check(signed(), NOW) == Claims(
        subject="alice@example.com", principal=Principal.USER, expires=(SECOND + 300) * 1000,
        session_ids={"sid": "s-81f2"}, auth_time=NOW - 90_000, whole_second=True, acr="aal2", roles=("a", "b"), tenant="acme",
    )  # fmt: skip


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_every_allowed_algorithm_is_verified(alg):
    key = KEY_OF[alg]()
    token = signed(key=key, alg=alg)
    assert isinstance(verifier(key).check(token, NOW), Claims)
    others = tuple(name for name in ALGORITHMS if name != alg)
    assert fault(verifier(key, algorithms=others).check(token, NOW)) is TokenFault.ALGORITHM


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", "RS1", "HS256"])
@pytest.mark.parametrize("kid", ["rsa", None])
def test_an_unsigned_token_is_refused(alg, kid):
    assert fault(verifier().check(unsigned({"alg": alg, "kid": kid}), NOW)) is TokenFault.ALGORITHM


@pytest.mark.parametrize(
    "header", [b'{"alg":"RS256","kid":"rsa","alg":"none"}', b'{"alg":"none","kid":"rsa","alg":"RS256"}']
)
def test_a_header_with_two_algorithms_is_refused_whichever_counts(header):
    assert isinstance(verifier().check(unsigned(header), NOW), TokenRefused)


def test_the_algorithm_that_was_read_is_the_one_that_verifies():
    keys = parse_jwks(jwks(rsa()))
    assert keys.payload(signed(), "RS256", "rsa")
    for token in (unsigned({"alg": "none", "kid": "rsa"}), signed(alg="RS512"), signed(alg="PS256")):
        with pytest.raises(BadToken) as refused:
            keys.payload(token, "RS256", "rsa")
        assert refused.value.refused.fault is TokenFault.SIGNATURE


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_the_public_key_is_no_secret_to_sign_with(alg):
    public = rsa()
    for secret in (
        public.as_pem(private=False),
        json.dumps(public.as_dict(private=False)).encode(),
        jwks(public),
    ):
        token = signed(key=OctKey(secret, secret, {"kid": "rsa"}), alg=alg)
        assert fault(verifier().check(token, NOW)) is TokenFault.ALGORITHM


@pytest.mark.parametrize("names", [("RS256", "HS256"), ("none",), ("rs256",), ()])
def test_no_other_algorithm_can_be_allowed(names):
    with pytest.raises(InputError, match="allowed are RS256"):
        verifier(algorithms=names)


def test_a_foreign_key_is_refused_whether_or_not_it_takes_a_known_name():
    foreign = rsa("foreign")
    check = verifier().check
    assert fault(check(signed(key=foreign, kid="rsa"), NOW)) is TokenFault.SIGNATURE
    assert fault(check(signed(key=foreign), NOW)) is TokenFault.UNKNOWN_KEY
    assert fault(check(signed(key=foreign, kid=None), NOW)) is TokenFault.UNKNOWN_KEY
    embedded = signed(key=foreign, kid="rsa", jwk=foreign.as_dict(private=False))
    assert fault(check(embedded, NOW)) is TokenFault.SIGNATURE


def test_a_token_without_kid_is_verified_by_whichever_key_signed_it():
    check = verifier(rsa("one"), ec(), rsa("two")).check
    assert isinstance(check(signed(key=rsa("two"), kid=None), NOW), Claims)
    assert isinstance(check(signed(key=ec(), alg="ES256", kid=None), NOW), Claims)


def test_an_algorithm_of_another_kind_of_key_does_not_reach_the_key():
    token = signed(key=ec(kid="rsa"), alg="ES256")
    assert fault(verifier().check(token, NOW)) is TokenFault.UNKNOWN_KEY
    pinned = TokenVerifier(RULES, Held(parse_jwks(jwks(rsa(), alg="RS512"))))
    assert isinstance(pinned.check(signed(alg="RS512"), NOW), Claims)
    assert fault(pinned.check(signed(alg="RS256"), NOW)) is TokenFault.UNKNOWN_KEY


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"typ": None}, None),
        ({"typ": "at+jwt"}, None),
        ({"typ": "application/AT+JWT"}, None),
        ({"x5t": "abc", "own": {"a": 1}}, None),
        ({"x5c": ["M" * 4000]}, None),
        ({"crit": ["own"], "own": 1}, TokenFault.MALFORMED),
        ({"crit": []}, TokenFault.MALFORMED),
        ({"typ": "logout+jwt"}, TokenFault.TYPE),
        ({"typ": "secevent+jwt"}, TokenFault.TYPE),
        ({"typ": "dpop+jwt"}, TokenFault.TYPE),
    ],
)
def test_the_header(header, expected):
    found = verifier().check(signed(**header), NOW)
    assert isinstance(found, Claims) if expected is None else fault(found) is expected


@pytest.mark.parametrize(
    "header",
    [
        b"", b"[]", b"{}", b"null", b'"alg"', b'{"alg":1}', b'{"alg":[]}', b'{"alg":{}}', b'{"alg":"RS256","kid":7}',
        b'{"alg":"RS256","kid":{}}', b'{"alg":"RS256","crit":["b64"],"b64":false}', b'{"alg":"RS256","crit":[]}',
        b'{"alg":"RS256"', b"\xff\xfe", b'{"alg":"RS256","a":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"alg":"RS256","kid":"\xed\xa0\x80"}', b'{"alg":"RS256","kid":"\\ud800"}',
    ],
)  # fmt: skip
def test_a_header_that_can_not_be_read_is_malformed(header):
    assert fault(verifier().check(unsigned(header, signature=b"x" * 256), NOW)) is TokenFault.MALFORMED


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c.d.e", "Bearer x.y.z", "ä.b.c", "a b.c.d", "\ud800.a.b", "a.b.c\n"]
)  # fmt: skip
def test_what_is_no_signed_jwt_is_malformed(token):
    assert fault(verifier().check(token, NOW)) is TokenFault.MALFORMED


def test_a_token_has_a_largest_size():
    token = signed(said(more="x" * LARGEST))
    assert fault(verifier().check(token, NOW)) is TokenFault.OVERSIZED
    assert isinstance(verifier().check(signed(said(more="x" * (LARGEST // 2))), NOW), Claims)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        b"7",
        b"{",
        b"\xff",
        b'{"iss":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"exp":1e999}',
    ],
)
def test_a_signed_payload_that_is_no_object_is_malformed(payload):
    assert fault(verifier().check(signed(payload), NOW)) is TokenFault.MALFORMED


async def test_a_new_key_is_asked_for_once_and_then_known():
    keys = held(rsa("old"))
    keys.coming = parse_jwks(jwks(rsa("old"), rsa("new")))
    tokens = TokenVerifier(RULES, keys)
    assert isinstance(await tokens.verify(signed(key=rsa("new")), NOW), Claims)
    assert isinstance(await tokens.verify(signed(key=rsa("old")), NOW), Claims)
    assert keys.renewed == 1


@pytest.mark.parametrize("token", [signed(said(aud="x")), unsigned({"alg": "none"}), "no token", signed(kid="rsa", key=rsa("foreign"))])  # fmt: skip
async def test_the_issuer_is_not_asked_for_what_keys_can_not_change(token):
    keys = held(rsa())
    assert isinstance(await TokenVerifier(RULES, keys).verify(token, NOW), TokenRefused)
    assert keys.renewed == 0


async def test_a_token_that_can_not_be_judged_is_not_called_bad():
    away = Held(None)
    found = await TokenVerifier(RULES, away).verify(signed(), NOW)
    assert (fault(found), found.status, found.error) == (TokenFault.KEYS_UNAVAILABLE, 503, None)
    stale = held(rsa("old"))
    stale.fault = "the issuer does not answer"
    tokens = TokenVerifier(RULES, stale)
    assert fault(await tokens.verify(signed(key=rsa("new")), NOW)) is TokenFault.KEYS_UNAVAILABLE
    assert isinstance(await tokens.verify(signed(key=rsa("old")), NOW), Claims)
    assert fault(await tokens.verify(signed(kid="old", key=rsa("new")), NOW)) is TokenFault.SIGNATURE


class Counted:
    """Public keys that count how often they verify."""

    def __init__(self, keys):
        self.keys = keys
        self.verified = 0

    def payload(self, token, alg, kid):
        self.verified += 1
        return self.keys.payload(token, alg, kid)


def test_a_token_is_verified_once_and_remembered_until_it_expires():
    counted = Counted(parse_jwks(jwks(rsa())))
    check = TokenVerifier(RULES, Held(counted)).check
    token = signed()
    assert check(token, NOW) is check(token, NOW + 1)
    assert counted.verified == 1
    end = (SECOND + 300) * 1000 + RULES.leeway
    assert isinstance(check(token, end - 1), Claims)
    assert fault(check(token, end)) is TokenFault.EXPIRED
    assert counted.verified == 2


def test_as_many_tokens_are_remembered_as_configured():
    counted = Counted(parse_jwks(jwks(okp())))
    check = TokenVerifier(RULES, Held(counted), remembered=2).check
    tokens = [signed(said(sid=f"s-{n}"), key=okp(), alg="EdDSA") for n in range(3)]
    for token in tokens:
        check(token, NOW)
    check(tokens[2], NOW)
    check(tokens[1], NOW)
    assert counted.verified == 3
    check(tokens[0], NOW)
    assert counted.verified == 4
    with pytest.raises(InputError, match="1 and more"):
        verifier(remembered=0)


def test_a_withdrawn_key_takes_its_remembered_tokens_along():
    keys = held(rsa("old"), rsa("new"))
    check = TokenVerifier(RULES, keys).check
    old, new = signed(key=rsa("old")), signed(key=rsa("new"))
    assert isinstance(check(old, NOW), Claims)
    keys.keys = parse_jwks(jwks(rsa("new")))
    assert fault(check(old, NOW)) is TokenFault.UNKNOWN_KEY
    assert isinstance(check(new, NOW), Claims)
    keys.keys = None
    assert fault(check(new, NOW)) is TokenFault.KEYS_UNAVAILABLE


def test_every_fault_has_an_answer_that_can_stand_in_a_challenge():
    assert set(FAULTS) == set(TokenFault)
    for one in TokenFault:
        refused = TokenRefused(one)
        assert (refused.status, refused.error) in ((401, "invalid_token"), (401, None), (503, None))
        assert all(" " <= c <= "~" and c not in '"\\' for c in refused.description)


async def test_no_part_of_a_token_stands_in_a_log_a_refusal_or_the_verifier(caplog):
    caplog.set_level(logging.DEBUG)
    secret = "Zm9yYmlkZGVu"
    bad = [
        signed(said(sub=secret), key=rsa("foreign"), kid=secret),
        signed(said(aud=secret)), signed(said(iss=secret)), signed(said(acr=[secret])), signed(said(exp=secret)),
        signed(said(sub=secret * 500)), signed(typ=secret), signed(said(auth_time=SECOND + 99_999, sid=secret)),
        unsigned({"alg": secret}), unsigned({"alg": "RS256", secret: secret}), f"{secret}.{secret}.{secret}", secret,
        f"{secret}.ä.{secret}", secret * 2000,
    ]  # fmt: skip
    tokens = verifier()
    good = signed(said(jti=secret))
    assert isinstance(await tokens.verify(good, NOW), Claims)
    for token in bad:
        refused = await tokens.verify(token, NOW)
        told = f"{refused!r} {refused.description} {refused.error}"
        for part in (token, *token.split("."), secret):
            assert not part or part not in told
    kept = repr(vars(tokens)) + repr(tokens) + caplog.text + "".join(str(vars(r)) for r in caplog.records)
    for token in (good, *bad):
        assert all(part not in kept for part in (token, *token.split(".")) if part)


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer makes it slow")
def test_a_remembered_token_costs_microseconds():
    from timeit import repeat

    check, token = verifier().check, signed()
    check(token, NOW)
    best = min(repeat(lambda: check(token, NOW), number=1000, repeat=5)) / 1000
    fresh = verifier(remembered=1)
    others = [signed(said(sid=f"s-{n}")) for n in range(2)]
    slow = min(repeat(lambda: [fresh.check(one, NOW) for one in others], number=20, repeat=5)) / 40
    assert best * 10 < slow
