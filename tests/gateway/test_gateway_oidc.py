"""Tokens of a real OIDC server, as the sidecar meets them: discovery, keys and all."""

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager

import pytest
from joserfc.jwk import OctKey, RSAKey

from monitor.core.events import Principal
from monitor.gateway import MemoryView, Now
from monitor.gateway.claims import ClaimRules, Claims
from monitor.gateway.enforcer import Enforcer
from monitor.gateway.identity import parse_sources
from monitor.gateway.issuer import IssuerKeys
from monitor.gateway.refusals import TokenFault, TokenRefused
from monitor.gateway.sidecar import Sidecar
from monitor.gateway.tokens import TokenVerifier
from tests.gateway.asking import ask
from tests.gateway.signing import rsa, signed, unsigned

pytestmark = pytest.mark.oidc

AUDIENCE = "gateway"


def now() -> int:
    return time.time_ns() // 1_000_000


def good(server, **changes) -> dict:
    second = now() // 1000
    claims = {
        "iss": server.issuer, "aud": AUDIENCE, "sub": "alice@example.com", "sid": "s-81f2", "acr": "aal2",
        "auth_time": second - 5, "iat": second, "exp": second + 300, "realm_access": {"roles": ["analyst"]},
    }  # fmt: skip
    return claims | changes


@asynccontextmanager
async def verifying(server, **settings):
    """A verifier of this server's tokens, started as the sidecar starts it; and its keys."""
    keys = IssuerKeys(server.issuer, **{"pause": 0} | settings)
    await keys.start()
    rules = ClaimRules(server.issuer, (AUDIENCE,), roles="realm_access.roles")
    try:
        yield TokenVerifier(rules, keys), keys
    finally:
        await keys.stop()


async def fault(tokens, token) -> TokenFault:
    found = await tokens.verify(token, now())
    assert isinstance(found, TokenRefused), found
    assert (found.status, found.error) in ((401, "invalid_token"), (503, None))
    return found.fault


async def test_its_tokens_are_taken(oidc):
    said = good(oidc)
    async with verifying(oidc) as (tokens, _):
        found = await tokens.verify(oidc.token(**said), now())
        assert found == Claims(
            subject="alice@example.com", principal=Principal.USER, expires=said["exp"] * 1000,
            session_ids={"sid": "s-81f2"}, auth_time=said["auth_time"] * 1000, whole_second=True, acr="aal2", roles=("analyst",),
        )  # fmt: skip
        service = await tokens.verify(oidc.token(**good(oidc, sid=None, auth_time=None)), now())
        assert service.principal is Principal.SERVICE


async def test_a_key_is_rotated_without_a_restart(oidc):
    async with verifying(oidc) as (tokens, _):
        before = oidc.token(**good(oidc))
        assert isinstance(await tokens.verify(before, now()), Claims)
        oidc.add_key()
        after = [oidc.token(**good(oidc, sid=f"s-{n}")) for n in range(2)]
        assert len({token.partition(".")[0] for token in after}) == 2
        for token in (before, *after):
            assert isinstance(await tokens.verify(token, now()), Claims)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"aud": "another"}, TokenFault.AUDIENCE),
        ({"aud": None}, TokenFault.AUDIENCE),
        ({"iss": "https://id.example.com"}, TokenFault.ISSUER),
        ({"exp": -3600}, TokenFault.EXPIRED),
        ({"auth_time": 3600}, TokenFault.AUTH_TIME),
        ({"iat": 3600}, TokenFault.NOT_YET_VALID),
        ({"nbf": 3600}, TokenFault.NOT_YET_VALID),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, TokenFault.TYPE),
    ],
)
async def test_what_it_signs_for_others_or_other_times_is_refused(oidc, changes, expected):
    second = now() // 1000
    moved = {name: second + value if isinstance(value, int) else value for name, value in changes.items()}
    async with verifying(oidc) as (tokens, _):
        assert await fault(tokens, oidc.token(**good(oidc, **moved))) is expected


async def test_what_it_has_not_signed_is_refused(oidc):
    said = good(oidc)
    async with verifying(oidc) as (tokens, _):
        taken = oidc.token(**said)
        assert isinstance(await tokens.verify(taken, now()), Claims)
        (kid,) = oidc.kids()
        header, payload, signature = taken.split(".")
        assert await fault(tokens, unsigned({"alg": "none", "kid": kid}, said)) is TokenFault.ALGORITHM
        assert await fault(tokens, f"{header}.{payload}.") is TokenFault.SIGNATURE
        other = unsigned({}, said | {"sub": "mallory@example.com"}).split(".")[1]
        assert await fault(tokens, f"{header}.{other}.{signature}") is TokenFault.SIGNATURE
        assert await fault(tokens, signed(said, key=rsa("foreign"))) is TokenFault.UNKNOWN_KEY
        assert await fault(tokens, signed(said, key=rsa("foreign"), kid=kid)) is TokenFault.SIGNATURE


async def test_its_public_key_is_no_secret_to_sign_with(oidc):
    (public,) = oidc.keys()
    pem = RSAKey.import_key(public).as_pem(private=False)
    async with verifying(oidc) as (tokens, _):
        for secret in (pem, json.dumps(public).encode(), public["n"].encode()):
            forged = signed(good(oidc), key=OctKey(secret, secret, {"kid": public["kid"]}), alg="HS256")
            assert await fault(tokens, forged) is TokenFault.ALGORITHM


async def test_each_refusal_asks_for_what_would_help(oidc):
    """A bad token asks for a token; an old one of a session that has ended, for a newer authentication; after a revocation nothing helps."""
    second = now() // 1000
    said = good(oidc)
    bad = {
        "unsigned": unsigned({"alg": "none"}, said), "for another": oidc.token(**said | {"aud": "another"}),
        "expired": oidc.token(**said | {"exp": second - 3600}), "from the future": oidc.token(**said | {"auth_time": second + 3600}),
    }  # fmt: skip
    view = MemoryView()
    view.watermark(now(), 0)
    async with verifying(oidc) as (tokens, _):
        app = Sidecar(Enforcer(view, lambda: Now(now(), 0)), parse_sources("claim:sid"), verifier=tokens)

        async def challenge(token: str) -> tuple[int, str, str]:
            answered = await ask(app, headers={"Authorization": f"Bearer {token}"})
            said = answered.headers.get("www-authenticate", "")
            assert token not in str(answered)
            return answered.status, said.partition('error="')[2].partition('"')[0], "" if answered.status == 200 else answered.problem["reason"]

        for name, token in bad.items():
            assert await challenge(token) == (401, "invalid_token", "token_invalid"), name
        old = oidc.token(**said)
        assert (await challenge(old))[0] == 200
        view.expire("s-81f2", now() - 1000)
        newer = oidc.token(**said | {"auth_time": now() // 1000})
        assert await challenge(old) == (401, "insufficient_user_authentication", "idle_timeout")
        assert (await challenge(newer))[0] == 200
        view.revoke("s-81f2", now())
        for token in (old, newer):
            assert await challenge(token) == (401, "invalid_token", "admin_revoked")


async def test_an_issuer_that_goes_and_comes_back(oidc, caplog):
    caplog.set_level(logging.DEBUG)
    async with verifying(oidc, lifetime=50) as (tokens, keys):
        before, unused = oidc.token(**good(oidc)), oidc.token(**good(oidc, sid="s-2"))
        assert isinstance(await tokens.verify(before, now()), Claims)
        oidc.kill()
        await until(lambda: keys.fault is not None)
        assert isinstance(await tokens.verify(before, now()), Claims)
        assert isinstance(await tokens.verify(unused, now()), Claims)
        # Its key may be a new one: nobody can tell before the issuer is back.
        assert await fault(tokens, signed(good(oidc), key=rsa("foreign"))) is TokenFault.KEYS_UNAVAILABLE
        await asyncio.to_thread(oidc.start)
        await until(lambda: keys.fault is None)
        assert await fault(tokens, signed(good(oidc), key=rsa("foreign"))) is TokenFault.UNKNOWN_KEY
        # It came back with new keys, and without those of before.
        assert isinstance(await tokens.verify(oidc.token(**good(oidc)), now()), Claims)
        assert await fault(tokens, before) is TokenFault.UNKNOWN_KEY
    told = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert "issuer_keys_not_fetched" in told
    assert all(part not in told for token in (before, unused) for part in token.split("."))


async def test_an_issuer_that_is_not_there_at_the_start(oidc):
    oidc.kill()
    async with verifying(oidc, lifetime=50) as (tokens, keys):
        assert keys.current() is None
        assert await fault(tokens, unsigned({"alg": "RS256"})) is TokenFault.KEYS_UNAVAILABLE
        await asyncio.to_thread(oidc.start)
        token = oidc.token(**good(oidc))
        await until(lambda: keys.current() is not None)
        assert isinstance(await tokens.verify(token, now()), Claims)


async def until(true, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)
