"""What a refused client is told, whoever it is."""

from html.parser import HTMLParser

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.commands import Reauth
from monitor.core.errors import InvariantError
from monitor.gateway.answers import Asked, Wording, marks, prefers_html, reply_to
from monitor.gateway.verdict import ADMITTED, ADMITTED_STALE, Outcome, Verdict
from monitor.wire.problem import Refusal

T = 1_795_418_640_123
EXPIRED = Verdict(Outcome.REFUSE, "idle_timeout", Reauth(allowed=True, max_age=900, acr_values=("aal2",)), T, "r", commanded=True)
REVOKED = Verdict(Outcome.REFUSE, "admin_revoked", effective_at=T)
LOCKED = Verdict(Outcome.REFUSE, "locked", effective_at=T)
STALE = Verdict(Outcome.REFUSE, Refusal.VIEW_STALE.value, stale=True, retry_after=5)
CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
LOGIN = Wording(reauth_url="https://id.example/login?next={return_to}", resource_metadata="https://api.example/.well-known/oauth-protected-resource")


class Page(HTMLParser):
    """What of a page could fetch or run something, and its text."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(body.decode())

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data) -> None:
        self.text += data


def test_a_program_gets_a_problem_and_a_challenge() -> None:
    reply = reply_to(EXPIRED, Asked.of({"accept": "*/*"}, return_to="/a?b=c"), LOGIN, session_id="s-1")
    headers, said = dict(reply.headers), orjson.loads(reply.body)
    assert (reply.status, headers["Content-Type"], headers["Cache-Control"]) == (401, "application/problem+json", "no-store")
    assert headers["WWW-Authenticate"].startswith('Bearer error="insufficient_user_authentication"')
    assert 'max_age="900", acr_values="aal2"' in headers["WWW-Authenticate"]
    assert said["title"] == "Session Expired: Please Reauthenticate"
    assert (said["session_id"], said["reason"], said["effective_at"]) == ("s-1", "idle_timeout", "2026-11-23T07:24:00.123Z")
    assert said["reauth_url"] == "https://id.example/login?next=%2Fa%3Fb%3Dc"


@pytest.mark.parametrize(
    ("verdict", "status", "error"),
    [(EXPIRED, 401, "insufficient_user_authentication"), (REVOKED, 401, "invalid_token"), (LOCKED, 403, None), (STALE, 503, None)],
)
def test_everybody_gets_the_same_status_and_challenge(verdict, status, error) -> None:
    for asked in (Asked(), Asked(accept=CHROME), Asked(mcp=True)):
        reply = reply_to(verdict, asked, LOGIN)
        headers = dict(reply.headers)
        assert (reply.status, headers["Cache-Control"], headers.get("Retry-After")) == (status, "no-store", "5" if status == 503 else None)
        challenge = headers.get("WWW-Authenticate")
        assert challenge is None if error is None else f'error="{error}"' in challenge
        assert error is None or 'resource_metadata="https://api.example/' in challenge


def test_a_person_sees_a_page_that_fetches_nothing_and_can_log_in_where_that_helps() -> None:
    reply = reply_to(EXPIRED, Asked(accept=CHROME, return_to='/"><script>'), LOGIN)
    seen, headers = Page(reply.body), dict(reply.headers)
    assert "Session Expired: Please Reauthenticate" in seen.text
    assert not {"script", "style", "link", "img", "iframe", "form"} & set(seen.tags)
    assert seen.links == ["https://id.example/login?next=%2F%22%3E%3Cscript%3E"]
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert Page(reply_to(LOCKED, Asked(accept=CHROME), LOGIN).body).links == []
    assert Page(reply_to(EXPIRED, Asked(accept=CHROME)).body).links == []


@given(st.text(), st.text())
def test_nothing_in_a_page_can_be_taken_for_markup(reason, url) -> None:
    plain = Page(reply_to(EXPIRED, Asked(accept=CHROME), LOGIN).body).tags
    verdict = Verdict(Outcome.REFUSE, reason + "<script>", Reauth(allowed=True), T)
    assert Page(reply_to(verdict, Asked(accept=CHROME), Wording(reauth_url=url)).body).tags == plain


@pytest.mark.parametrize("asked", [Asked(), Asked(accept=CHROME), Asked(mcp=True)])
def test_what_is_no_unicode_ends_in_no_exception(asked) -> None:
    asked = msgspec.structs.replace(asked, return_to="/\udcff")
    assert b"%3F" in reply_to(EXPIRED, asked, LOGIN, session_id="s-\udcff").body


@pytest.mark.parametrize(
    ("verdict", "method", "status"),
    [(EXPIRED, "GET", 302), (EXPIRED, "HEAD", 302), (EXPIRED, "POST", 401), (REVOKED, "GET", 302), (LOCKED, "GET", 403), (STALE, "GET", 503)],
)
def test_a_browser_is_sent_to_the_login_where_that_is_wanted_and_helps(verdict, method, status) -> None:
    wording = Wording(reauth_url="https://id.example/login", redirect_browsers=True)
    reply = reply_to(verdict, Asked(method=method, accept=CHROME), wording)
    assert reply.status == status
    assert (dict(reply.headers).get("Location") == "https://id.example/login") is (status == 302)
    assert dict(reply.headers)["Cache-Control"] == "no-store"
    assert reply_to(verdict, Asked(method=method), wording).status != 302


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("", False), ("*/*", False), ("application/json", False), (CHROME, True), ("TEXT/HTML", True), ("text/html;q=0", False),
        ("text/html;q=0.5, application/json", False), ("application/problem+json;q=0.4,text/html;q=0.5", True), ("text/html;q=x", False),
        (";;,,=", False), ("application/json, text/html", True), ("text/html; level=1; q=0.9", True),
    ],
)  # fmt: skip
def test_html_is_for_those_who_ask_for_it(accept, html) -> None:
    assert prefers_html(accept) is html


@pytest.mark.parametrize(
    ("headers", "verdict", "status"),
    [
        ({"mcp-protocol-version": "2025-11-25", "mcp-session-id": "x"}, REVOKED, 404),
        ({"mcp-session-id": "x"}, REVOKED, 404),
        ({"mcp-session-id": "x"}, EXPIRED, 401),
        ({"mcp-session-id": "x"}, LOCKED, 403),
        ({"mcp-session-id": "x"}, STALE, 503),
        ({"mcp-protocol-version": "2025-11-25"}, REVOKED, 401),
        ({"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}, REVOKED, 401),
        ({"mcp-protocol-version": "2026-07-28", "mcp-session-id": "x"}, REVOKED, 401),
    ],
)
def test_an_mcp_client_is_answered_in_json_rpc_and_as_its_protocol_has_it(headers, verdict, status) -> None:
    reply = reply_to(verdict, Asked.of(headers | {"accept": "application/json, text/event-stream"}, "POST"), LOGIN)
    said = orjson.loads(reply.body)
    assert (reply.status, dict(reply.headers)["Content-Type"], said["jsonrpc"], said["id"]) == (status, "application/json", "2.0", None)
    assert (said["error"]["data"]["reason"], said["error"]["message"]) == (verdict.reason, said["error"]["data"]["title"])
    assert ("WWW-Authenticate" in dict(reply.headers)) is (verdict.status == 401)


def test_only_a_stale_view_marks_what_it_admits() -> None:
    assert (marks(ADMITTED), marks(ADMITTED_STALE)) == ((), (("Session-Monitor-View", "stale"),))
    with pytest.raises(InvariantError):
        reply_to(ADMITTED, Asked())
