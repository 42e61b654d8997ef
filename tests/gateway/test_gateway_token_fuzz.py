"""No text brings anything out of the verifier but the claims of a signed token, or a refusal."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitor.gateway.claims import Claims
from monitor.gateway.refusals import TokenRefused
from tests.gateway.signing import NOW, ec, encoded, okp, rsa, signed, unsigned, verifier

KEYS = (rsa(), ec(), okp())
GOOD = [signed(), signed(key=ec(), alg="ES256"), signed(key=okp(), alg="EdDSA"), signed(kid=None)]
TOKENS = verifier(*KEYS)

LETTERS = st.sampled_from(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\x00é\U0001f600\ud800"
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty", "epk"]),
    st.sampled_from(["none", "HS256", "RS256", "ES256", "EdDSA", "ES256K", "RSA-OAEP", "rsa", "ec", "", "JWT", "https://x"])
    | st.none() | st.booleans() | st.integers() | st.lists(st.text(max_size=3), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)  # fmt: skip


async def judged(text: str) -> Claims | TokenRefused:
    found = await TOKENS.verify(text, NOW)
    assert isinstance(found, Claims | TokenRefused)
    return found


@given(st.text())
@example("\ud800.\udfff.")
@example("a" * 100_000)
async def test_any_text(text):
    assert isinstance(await judged(text), TokenRefused)


@given(st.lists(LETTERS, max_size=60).map("".join))
async def test_texts_of_what_tokens_are_made_of(text):
    assert isinstance(await judged(text), TokenRefused)


@settings(max_examples=400)
@given(st.sampled_from(GOOD), st.data())
async def test_a_real_token_with_letters_changed(token, data):
    text = list(token)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.lists(LETTERS, max_size=2))
    found = await judged("".join(text))
    # The last letter of a part has bits that say nothing: such a token says the same.
    assert isinstance(found, TokenRefused) or found == TOKENS.check(token, NOW)


@given(
    st.lists(st.sampled_from([part for token in GOOD for part in token.split(".")]), min_size=1, max_size=5)
)
async def test_parts_of_real_tokens_put_together(parts):
    text = ".".join(parts)
    assert isinstance(await judged(text), TokenRefused) or text in GOOD


@given(HEADERS, st.sampled_from(GOOD), st.sampled_from([b"", b"x" * 64, b"x" * 256]))
async def test_any_header_before_real_parts(header, token, signature):
    _, payload, signed_by = token.split(".")
    assert isinstance(await judged(f"{encoded(header)}.{payload}.{signed_by}"), TokenRefused)
    assert isinstance(await judged(unsigned(header, signature=signature)), TokenRefused)
