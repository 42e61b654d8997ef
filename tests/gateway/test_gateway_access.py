"""The sidecar's own API: the holder of its token may all, a client reads its own session, all others nothing."""

import pytest

from monitor.core.errors import InputError
from monitor.gateway.access import Access, ApiToken, Caller, api_token, bearer_token, may_read
from monitor.gateway.claims import Claims
from monitor.gateway.refusals import TokenFault, TokenRefused
from tests.gateway.signing import NOW, said, signed, unsigned, verifier

SECRET = "the-token-of-the-api-0123456789"


def bearer(token: str, scheme: str = "Bearer") -> list[bytes]:
    return [f"{scheme} {token}".encode()]


def access(token: str | None = SECRET, issuer: bool = True) -> Access:
    return Access(None if token is None else ApiToken(token, "the test"), verifier() if issuer else None)


async def fault(access_: Access, authorization: list[bytes]) -> TokenFault:
    found = await access_.caller(authorization, NOW)
    assert isinstance(found, TokenRefused), found
    return found.fault


@pytest.mark.parametrize("issuer", [True, False])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
async def test_the_holder_of_the_token_may_all(issuer, scheme):
    caller = await access(issuer=issuer).caller(bearer(SECRET, scheme), NOW)
    assert caller == Caller()
    assert caller.may_publish
    assert caller.may_read("anything")


@pytest.mark.parametrize("token", [SECRET, None])
async def test_a_client_reads_its_own_session_and_publishes_nothing(token):
    caller = await access(token).caller(bearer(signed()), NOW)
    assert not caller.may_publish
    assert caller.may_read("s-81f2")
    for other in ("s-81f", "s-81f22", "S-81F2", "", "alice@example.com", "~s-81f2"):
        assert not caller.may_read(other)


@pytest.mark.parametrize("sid", [None, ""])
async def test_a_client_without_a_session_reads_none(sid):
    caller = await access().caller(bearer(signed(said(sid=sid))), NOW)
    assert isinstance(caller, Caller)
    assert not caller.may_read("")
    assert not caller.may_read("s-81f2")


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ([], TokenFault.MISSING),
        ([b""], TokenFault.MISSING),
        ([b"Basic YTpi"], TokenFault.MISSING),
        ([SECRET.encode()], TokenFault.MISSING),
        ([b"Bearer"], TokenFault.MALFORMED),
        ([b"Bearer "], TokenFault.MALFORMED),
        (bearer(SECRET[:-1]), TokenFault.MALFORMED),
        (bearer(SECRET + "0"), TokenFault.MALFORMED),
        (bearer(SECRET) * 2, TokenFault.MALFORMED),
        ([b"Bearer \xff\xfe"], TokenFault.MALFORMED),
        (bearer(unsigned({"alg": "none"})), TokenFault.ALGORITHM),
        (bearer(signed(said(exp=1))), TokenFault.EXPIRED),
    ],
)
async def test_all_others_are_refused(authorization, expected):
    assert await fault(access(), authorization) is expected


async def test_without_an_issuer_no_other_token_is_known():
    assert await fault(access(issuer=False), bearer(signed())) is TokenFault.WRONG


async def test_without_token_and_issuer_nobody_gets_in():
    for shown in (SECRET, "", signed()):
        assert await fault(access(None, issuer=False), bearer(shown)) is TokenFault.WRONG


def test_a_session_is_own_by_any_of_the_configured_claims():
    claims = Claims("a", None, NOW, {"sid": "s-1", "jti": "j-1"})
    assert [may_read(claims, one) for one in ("s-1", "j-1", "sid", "s-2")] == [True, True, False, False]


def test_the_token_is_the_one_given_else_that_of_the_file(tmp_path):
    path = tmp_path / "token"
    assert api_token(None, path, "--token") is None
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    assert api_token(None, path, "--token").matches(SECRET)
    given = api_token("another-token-0123456789", path, "--token")
    assert given.matches("another-token-0123456789")
    assert not given.matches(SECRET)


def test_a_token_or_file_that_can_not_be_used_says_why_without_repeating_it(tmp_path):
    path = tmp_path / "token"
    path.write_text(SECRET)
    path.chmod(0o640)
    for given, said_ in ((None, "chmod 600"), ("short", "must be 16 to 1024"), ("", "must be 16 to 1024")):
        with pytest.raises(InputError, match=said_) as refused:
            api_token(given, path, "--token")
        assert SECRET not in str(refused.value)
        assert not given or given not in str(refused.value)


def test_the_token_is_not_kept():
    token = ApiToken(SECRET, "the test")
    assert SECRET not in repr(token) + repr(vars(token)) + repr(vars(access()))


@pytest.mark.parametrize(
    ("authorization", "token"),
    [([b"Bearer a.b.c"], "a.b.c"), ([b" \tbearer   a.b.c  "], "a.b.c"), ([b"Bearer a b"], "a b"), ([b"DPoP a"], None), ([b"Bearera"], None)],
)  # fmt: skip
def test_a_bearer_token_is_what_stands_behind_the_scheme(authorization, token):
    assert bearer_token(authorization) == token
