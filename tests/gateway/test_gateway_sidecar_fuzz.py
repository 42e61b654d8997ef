"""Whatever is sent, the sidecar answers: with no exception, and no 5xx but the intended 503."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitor.gateway import Now, Settings, WithoutSession
from monitor.gateway.answers import Wording
from tests.gateway.asking import SESSION, WITH_COOKIE, ask, fresh, sidecar
from tests.gateway.signing import NOW, signed, verifier

SOURCES = "claim:sid,cookie:session,header:x-key,path:/v1/{id}/..."
VIEW = fresh()
VIEW.expire(SESSION, NOW)
APPS = [
    sidecar(
        VIEW, sources=SOURCES, now=Now(NOW, monotonic), verifier=verifier(), settings=Settings(without_session=without),
        wording=Wording("/login?to={return_to}", redirect_browsers=True),
    )
    for without in WithoutSession for monotonic in (0, 10**9)
]  # fmt: skip

# What HTTP servers let through as it is: a path of visible ASCII, a value without line breaks and NUL.
PATHS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40) | st.lists(
    st.sampled_from(["/", "check", "v1", "..", ".", "%2F", "%", "%ff", "?", "#", "refusal", "healthz", "metrics", "//", "\\", ";", "a"]), max_size=8
).map("".join)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "g", "x" * 40])
NAMES = st.sampled_from([
    "authorization", "cookie", "x-key", "accept", "x-original-uri", "x-original-method", "x-forwarded-uri", "x-forwarded-method",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "mcp-session-id", "mcp-protocol-version", "host", "upgrade",
])  # fmt: skip
VALUES = (
    st.binary(max_size=40).map(lambda value: value.translate(None, b"\r\n\x00"))
    | st.sampled_from([
        b"", b"/", b"/v1/a", b"GET", b"text/html", b"text/html;q=x", b"session=abc123", b'session="', b"session=", b"session=%", b"Bearer ", b"Bearer a.b.c",
        b"198.51.100.7", b"https", b"app.example", b"session=" + b"x" * 9000, b"\xff" * 20_000,
    ])
    | st.just(b"Bearer " + signed().encode())
)  # fmt: skip


@settings(max_examples=400)
@given(st.sampled_from(APPS), st.just("/check").flatmap(lambda prefix: PATHS.map(lambda path: prefix + path) | PATHS), METHODS, st.lists(st.tuples(NAMES, VALUES), max_size=8))
@example(APPS[0], "/check" + "/x" * 40_000, "GET", [])
@example(APPS[0], "/check", "GET", [("cookie", b"session=a")] * 9_000)
@example(APPS[1], "/check//", "GET", [("accept", b"text/html"), ("cookie", b"session=abc123")])
async def test_any_request(app, path, method, headers) -> None:
    answered = await ask(app, path, headers, method=method)
    assert answered.status < 500 or answered.status == 503
    if answered.status == 200 and path.partition("?")[0] not in ("/healthz", "/readyz", "/metrics"):
        assert answered.headers["x-session-id"] != SESSION


@given(st.lists(st.tuples(NAMES.filter(lambda name: name not in ("cookie", "authorization", "x-key")), VALUES), max_size=6), METHODS, PATHS)
async def test_nothing_that_is_added_lets_an_ended_session_pass(headers, method, path) -> None:
    # Behind a path that names no session.
    for app in APPS:
        answered = await ask(app, "/check/app" + path, [*WITH_COOKIE.items(), *headers], method=method)
        assert answered.status in (302, 400, 401)
