"""Where a request's session id comes from, and that no session has two names."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.errors import InputError
from monitor.gateway.identity import MAX_RAW, Request, SessionIdRefused, parse_sources
from monitor.publish import hashed_session_id

SECRET = "s3cr3t-of-the-session"
HASHED = sha256(SECRET.encode()).hexdigest()


def cookies(*lines: str) -> Request:
    return Request(headers=[(b"accept", b"*/*"), *((b"cookie", line.encode("latin-1")) for line in lines)])


def find(option: str, request: Request):
    return parse_sources(option).find(request)


def refusal(option: str, request: Request) -> str:
    found = find(option, request)
    assert isinstance(found, SessionIdRefused)
    assert found.source in found.detail
    return found.detail


def test_a_verified_claim_passes_as_it_is():
    assert find("claim:sid", Request(claims={"sid": "s-81f2"})) == "s-81f2"


@pytest.mark.parametrize(
    ("option", "request_"),
    [
        ("cookie:session", cookies(f"theme=dark; session={SECRET}; session_x=no")),
        ("cookie:session", cookies("theme=dark", f'session="{SECRET}"')),
        ("header:X-Session", Request(headers=[(b"x-session", f" {SECRET} ".encode())])),
        ("path:/v1/chats/{id}/...", Request(path=f"/v1/chats/{SECRET}/messages/7?x=/v1/chats/other")),
        ("path:/v1/chats/{id}/...", Request(path=f"/v1/chats/{SECRET}")),
        ("path:/{id}", Request(path=f"//{SECRET}/")),
        ("path:/a/{id}/b", Request(path=f"/a/{SECRET}/b")),
    ],
)
def test_what_may_be_a_credential_is_hashed_as_applications_hash_it(option, request_):
    assert find(option, request_) == HASHED == hashed_session_id(SECRET)


@pytest.mark.parametrize(
    ("option", "request_"),
    [
        ("claim:sid", Request(claims={"jti": "x"})),
        ("cookie:session", cookies(f"Session={SECRET}; xsession={SECRET}; a=session")),
        ("header:x-session", Request(headers=[(b"x-session-id", b"1")])),
        ("path:/v1/chats/{id}", Request(path="/v1/chats/1/messages")),
        ("path:/v1/chats/{id}/messages", Request(path="/v1/chats/1")),
        ("path:/v1/chats/{id}/...", Request(path="/v1/chats")),
        ("path:/v1/chats/{id}/...", Request(path="/v2/chats/1")),
    ],
)  # fmt: skip
def test_a_place_that_names_no_session_gives_none(option, request_):
    assert find(option, request_) is None


def test_the_first_place_that_has_one_decides():
    both = Request(headers=[(b"cookie", b"session=c")], claims={"jti": "j", "sid": "s"})
    assert find("claim:sid,cookie:session", both) == "s"
    assert find("cookie:session, claim:sid", both) == hashed_session_id("c")
    assert find("claim:other,claim:jti,claim:sid", both) == "j"


def test_an_unusable_id_is_refused_though_the_next_place_has_one():
    assert "is empty" in refusal(
        "cookie:session,claim:sid", Request([(b"cookie", b"session=")], claims={"sid": "s"})
    )


@pytest.mark.parametrize(
    ("option", "one", "other"),
    [
        ("cookie:session", cookies("session=abc"), cookies("session=%61b%63")),
        ("cookie:session", cookies("session=abc"), cookies('session="abc"')),
        ("cookie:session", cookies("session=abc"), cookies(" session = abc ;x=1")),
        ("cookie:session", cookies("session=abc"), cookies("session=abc; session=abc")),
        ("header:h", Request([(b"h", b"abc")]), Request([(b"h", b"\tabc ")])),
        ("path:/c/{id}/...", Request(path="/c/abc"), Request(path="/%63//%61bc/")),
    ],
)
def test_another_spelling_is_the_same_session(option, one, other):
    assert find(option, one) == find(option, other) == hashed_session_id("abc")


@pytest.mark.parametrize(
    ("option", "request_", "said"),
    [
        ("claim:sid", Request(claims={"sid": ""}), "is empty"),
        ("claim:sid", Request(claims={"sid": "~tick"}), "begins with '~'"),
        ("claim:sid", Request(claims={"sid": "x" * 257}), "has 257 characters; allowed are 1 to 256"),
        ("cookie:s", cookies("s="), "is empty"),
        ("cookie:s", cookies('s=""'), "is empty"),
        ("cookie:s", cookies("s=a; s=b"), "more than once"),
        ("cookie:s", cookies("s=a", "s=b"), "more than once"),
        ("cookie:s", cookies(r's="\141"'), "can't have"),
        ("cookie:s", cookies("s=a b"), "can't have"),
        ("cookie:s", cookies("s=ä"), "can't have"),
        ("cookie:s", cookies("s=" + "x" * (MAX_RAW + 1)), f"allowed are up to {MAX_RAW}"),
        ("header:h", Request([(b"h", b"a"), (b"h", b"b")]), "more than once"),
        ("header:h", Request([(b"h", b"a,b")]), "may be several"),
        ("header:h", Request([(b"h", b" ")]), "is empty"),
        ("header:h", Request([(b"h", b"a\x00")]), "visible ASCII"),
        ("path:/a/{id}", Request(path="/a/b/../c"), "'..'"),
        ("path:/a/{id}", Request(path="/a/%2e"), "'.'"),
    ],
)
def test_what_can_not_be_used_is_refused(option, request_, said):
    assert said in refusal(option, request_)


def test_the_longest_claim_is_taken():
    assert find("claim:sid", Request(claims={"sid": "x" * 256})) == "x" * 256


def test_a_refusal_holds_nothing_of_what_was_sent():
    refused = find("cookie:s", cookies(f"s={SECRET}; s={SECRET}2"))
    assert SECRET not in repr(refused)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("", "'' names no place"),
        ("claim:sid,", "'' names no place"),
        ("sid", "'sid' names no place to look; allowed are claim:NAME, cookie:NAME"),
        ("kookie:x", "'kookie:x' names no place"),
        ("cookie:", "'cookie:' names no place"),
        ("cookie:a b", "no name that a cookie can have"),
        ("header:a=b:c", "no name that a header can have"),
        ("header:Authorization", "read with claim:NAME"),
        ("header:cookie", "read with cookie:NAME"),
        ("cookie:s,cookie:s", "stands twice"),
        ("header:S,header:s", "stands twice"),
        ("path:v1/{id}", "must begin with path:/"),
        ("path:/v1/id", "have {id} as one whole segment"),
        ("path:/v1/x{id}", "have {id} as one whole segment"),
        ("path:/{id}/{id}", "have {id} as one whole segment"),
        ("path:/.../{id}", "'...' can't be a segment"),
        ("path:/a//{id}", "'' can't be a segment"),
        ("path:/a?/{id}", "'a?' can't be a segment"),
    ],
)
def test_an_option_that_can_not_be_used_says_which_part_and_why(option, said):
    with pytest.raises(InputError) as refused:
        parse_sources(option)
    assert said in str(refused.value)


def test_the_claims_to_take_from_tokens_are_told():
    assert parse_sources("claim:sid,cookie:s,claim:realm.sid").claims == ("sid", "realm.sid")


@given(
    headers=st.lists(
        st.tuples(st.sampled_from([b"cookie", b"h"]), st.binary(max_size=40) | st.just(b"s=%ff"))
    ),
    path=st.text(max_size=40).map(lambda text: "/a/" + text),
    claims=st.dictionaries(st.just("sid"), st.text(max_size=300)),
)
def test_any_request_has_an_id_or_none_or_is_refused(headers, path, claims):
    for option in ("cookie:s", "header:h", "path:/a/{id}/...", "claim:sid"):
        found = find(option, Request(headers, path, claims))
        assert found is None or isinstance(found, SessionIdRefused) or 1 <= len(found) <= 256
