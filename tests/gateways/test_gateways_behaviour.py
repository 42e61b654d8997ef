"""What a client gets, at each of the five gateways alike, by the configuration that users copy."""

import asyncio

import aiohttp
import pytest

from monitor.broker.port import LOOPBACK
from monitor.core.controls import Target
from monitor.gateway import Now
from monitor.gateway.answers import Wording
from monitor.gateway.decide import Settings, WithoutSession
from monitor.gateway.routes import parse_routes
from monitor.publish import hashed_session_id
from tests.gateway.asking import SESSION, WITH_COOKIE, ask, fresh, sidecar
from tests.gateway.signing import NOW as SIGNED_AT
from tests.gateway.signing import said, signed, verifier
from tests.gateway.worlds import T
from tests.gateways.edge import Client

pytestmark = pytest.mark.gateways

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Recorder:
    """A witness that remembers the facts of the last request."""

    def admitted(self, facts, seen, now) -> None:
        self.facts = facts

    def refused(self, facts, verdict, seen, now) -> None:
        self.facts = facts


def test_a_live_session_passes_and_the_service_learns_which(edge) -> None:
    edge.app = sidecar()
    answered = edge.ask("/v1/chats?a=1&b=%2F", WITH_COOKIE | {"X-Session-Id": "forged"}, method="POST", body=b"x" * 5000)
    told = answered.json
    assert (answered.status, told["method"], told["target"], told["body"]) == (200, "POST", "/v1/chats?a=1&b=%2F", 5000)
    assert told["headers"]["x-session-id"] == [SESSION]
    # The mark of an answer that may not be kept is the sidecar's, and no matter of the service.
    assert answered.all("Cache-Control") == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_ended_session_is_told_to_authenticate_again_and_passes_once_it_has(edge, method) -> None:
    view = fresh()
    edge.app = sidecar(view)
    body = b"x" * 5000 if method == "POST" else None
    assert edge.ask(headers=WITH_COOKIE, method=method, body=body).status == 200
    view.expire(SESSION, T)
    through = edge.service.asked
    answered = edge.ask(headers=WITH_COOKIE, method=method, body=body)
    assert (answered.status, answered.all("Cache-Control"), answered.headers.get_content_type()) == (401, ["no-store"], "application/problem+json")
    (challenge,) = answered.all("WWW-Authenticate")
    assert challenge.startswith('Bearer error="insufficient_user_authentication"')
    problem = answered.json
    assert (problem["title"], problem["reason"], problem["session_id"]) == ("Session Expired: Please Reauthenticate", "idle_timeout", SESSION)
    assert edge.service.asked == through
    view.reinstate(SESSION, T, epoch=1)
    assert edge.ask(headers=WITH_COOKIE, method=method, body=body).status == 200


def test_what_is_served_by_an_old_view_is_marked(edge) -> None:
    forged = WITH_COOKIE | {"Session-Monitor-View": "forged"}
    edge.app = sidecar()
    assert "session-monitor-view" not in edge.ask(headers=forged).json["headers"]
    edge.app = sidecar(now=Now(T + 61_000, 61_000), routes=parse_routes(["/v1/* posture=best-effort"]))
    answered = edge.ask(headers=forged)
    assert (answered.status, answered.json["headers"]["session-monitor-view"]) == (200, ["stale"])


def test_every_refusal_arrives_as_the_sidecar_says_it(edge) -> None:
    view = fresh()
    view.revoke(SESSION, T)
    edge.app = sidecar(view)
    answered = edge.ask(headers=WITH_COOKIE)
    (challenge,) = answered.all("WWW-Authenticate")
    assert (answered.status, 'error="invalid_token"' in challenge, answered.json["reason"]) == (401, True, "admin_revoked")
    answered = edge.ask()
    assert (answered.status, answered.all("WWW-Authenticate"), answered.json["reason"]) == (401, ["Bearer"], "login_required")
    edge.app = sidecar(now=Now(T + 61_000, 61_000))
    answered = edge.ask(headers=WITH_COOKIE)
    assert (answered.status, answered.all("Retry-After"), answered.all("Cache-Control")) == (503, ["5"], ["no-store"])
    assert answered.headers.get_content_type() == "application/problem+json"
    assert answered.json["title"] == "Session State Unavailable: Please Retry"
    assert answered.json["type"] == "urn:session-monitor:problem:unavailable"


def test_a_session_that_is_named_twice_is_no_session(edge) -> None:
    edge.app = sidecar()
    answered = edge.ask(headers={"Cookie": "session=a; session=b"})
    assert (answered.status, answered.json["reason"]) == (400, "request_unusable")


def test_of_several_cookie_lines_nobody_gets_what_the_other_does_not(edge) -> None:
    view = fresh()
    view.expire(hashed_session_id("ended"), T)
    edge.app = sidecar(view)
    answered = edge.ask(headers=[("Cookie", f"a=1; {WITH_COOKIE['Cookie']}"), ("Cookie", "b=2; c=3")])
    assert (answered.status, answered.json["headers"]["x-session-id"]) == (200, [SESSION])
    # An ended session on a second line: it is seen, or it does not reach the service.
    answered = edge.ask(headers=[("Cookie", "a=1"), ("Cookie", "session=ended")])
    assert answered.status == 401
    answered = edge.ask(headers=[("Cookie", WITH_COOKIE["Cookie"]), ("Cookie", "session=ended")])
    if answered.status == 200:
        assert answered.json["headers"]["cookie"] == [WITH_COOKIE["Cookie"]]
    else:
        assert (answered.status, answered.json["reason"]) == (400, "request_unusable")


def test_a_header_that_names_two_sessions_is_refused(edge) -> None:
    edge.app = sidecar(sources="header:user-agent")
    assert edge.ask(headers=[("User-Agent", "a")]).json["headers"]["x-session-id"] == [hashed_session_id("a")]
    for headers in ([("User-Agent", "a"), ("User-Agent", "b")], [("User-Agent", "a,b")]):
        answered = edge.ask(headers=headers)
        if answered.status == 200:
            # What the sidecar has not seen, the service has not either.
            assert answered.json["headers"]["user-agent"] == ["a"]
        else:
            assert (answered.status, answered.json["reason"]) == (400, "request_unusable")


def test_a_locked_subject_is_refused_under_a_new_session_id(edge) -> None:
    view = fresh()
    edge.app = sidecar(view, sources="claim:sid", now=Now(SIGNED_AT, 0), verifier=verifier())

    def status(**claims) -> int:
        return edge.ask(headers={"Authorization": f"Bearer {signed(said(**claims))}"}).status

    assert status() == 200
    view.lock(Target(subject="alice@example.com"), T)
    assert [status(), status(sid="s-new"), status(sub="bob")] == [403, 403, 200]
    assert status(exp=1) == 401


def test_the_address_of_a_client_is_what_the_gateway_sees(edge) -> None:
    view, recorder = fresh(), Recorder()
    edge.app = sidecar(view, witnesses=[recorder])
    forged = WITH_COOKIE | {"X-Forwarded-For": "198.51.100.7"}
    view.lock(Target(client_ip="198.51.100.7"), T)
    assert edge.ask(headers=forged).status == 200
    view.lock(Target(client_ip=recorder.facts.client_ip), T)
    answered = edge.ask(headers=forged)
    assert (answered.status, answered.json["reason"]) == (403, "locked")


@pytest.mark.parametrize("name", ["X-Original-URI", "X-Forwarded-Uri", "X-Original-Method", "X-Forwarded-Method"])
def test_what_a_client_adds_about_its_path_changes_nothing(edge, name) -> None:
    edge.app = sidecar(sources="path:/v1/{id}")
    for value in ("/v1/other", "/v1/chats", "DELETE"):
        answered = edge.ask(headers={name: value, "X-Session-Id": "forged"})
        assert (answered.status, answered.json["headers"]["x-session-id"]) == (200, [hashed_session_id("chats")])


def test_where_no_session_is_wanted_a_client_can_not_write_one(edge) -> None:
    edge.app = sidecar(sources="path:/v1/{id}")
    answered = edge.ask("/elsewhere", {"X-Session-Id": "forged"})
    assert answered.status == 401
    edge.app = sidecar(sources="path:/v1/{id}", settings=Settings(without_session=WithoutSession.ADMIT))
    answered = edge.ask("/elsewhere", {"X-Session-Id": "forged"})
    assert (answered.status, "".join(answered.json["headers"].get("x-session-id", []))) == (200, "")


@pytest.mark.parametrize("target", ["/v1/abc/a%20b/c?x=%2F&y=%C3%A9", "/v1/abc/a%2Fb/c", "/v1/abc/a;b=1/c", "/v1/a%20b/c"])
async def test_a_path_goes_as_it_was_sent(edge, target) -> None:
    edge.app = sidecar(sources="path:/v1/{id}/...")
    wanted = await ask(edge.app, "/check", {"X-Original-URI": target})
    answered = await asyncio.to_thread(edge.ask, target)
    assert (answered.status, answered.json["target"]) == (200, target)
    assert answered.json["headers"]["x-session-id"] == [wanted.headers["x-session-id"]]


@pytest.mark.parametrize("login", ["https://login.example/", "/login"])
def test_a_browser_goes_to_the_login(edge, login) -> None:
    view = fresh()
    view.expire(SESSION, T)
    edge.app = sidecar(view, wording=Wording(login + "?to={return_to}", redirect_browsers=True))
    answered = edge.ask("/chats?a=1", WITH_COOKIE | BROWSER | {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher"})
    back = f"http%3A%2F%2F127.0.0.1%3A{edge.proxy.port}%2Fchats%3Fa%3D1"
    assert (answered.status, answered.all("Location")) == (302, [f"{login}?to={back}"])
    assert answered.all("Cache-Control") == ["no-store"]
    # What was sent would be lost on the way, so it gets a page.
    answered = edge.ask("/chats?a=1", WITH_COOKIE | BROWSER, method="POST", body=b"x")
    assert (answered.status, answered.headers.get_content_type()) == (401, "text/html")
    assert answered.all("Content-Security-Policy") == ["default-src 'none'; frame-ancestors 'none'"]
    assert answered.all("WWW-Authenticate")[0].startswith("Bearer ")


def test_an_mcp_client_is_told_that_its_session_is_over(edge) -> None:
    view = fresh()
    view.revoke(SESSION, T)
    edge.app = sidecar(view)
    answered = edge.ask(headers=WITH_COOKIE | {"Mcp-Session-Id": "m", "MCP-Protocol-Version": "2025-06-18"}, method="POST", body=b"{}")
    assert (answered.status, answered.json["jsonrpc"], answered.json["error"]["data"]["reason"]) == (404, "2.0", "admin_revoked")


def test_what_the_service_answers_gets_through(edge) -> None:
    edge.app = sidecar()
    answered = edge.ask("/own-401", WITH_COOKIE)
    assert (answered.status, answered.json["method"], answered.all("WWW-Authenticate")) == (401, "GET", [])


def test_a_large_body_passes(edge) -> None:
    edge.app = sidecar()
    answered = edge.ask("/v1/chats", WITH_COOKIE, method="PUT", body=b"x" * 1_000_000)
    assert (answered.status, answered.json["method"], answered.json["body"]) == (200, "PUT", 1_000_000)


def test_large_headers_pass_and_larger_ones_are_the_clients_fault(edge) -> None:
    edge.app = sidecar()
    assert edge.ask(headers=WITH_COOKIE | {"X-Long": "x" * 7000}).status == 200
    through = edge.service.asked
    assert 400 <= edge.ask(headers=WITH_COOKIE | {"X-Long": "x" * 70_000}).status < 500
    assert edge.service.asked == through


def test_a_connection_goes_on_after_a_refusal(edge) -> None:
    view = fresh()
    view.expire(hashed_session_id("ended"), T)
    edge.app = sidecar(view)
    ended = {"Cookie": "session=ended"}
    client = Client(edge.proxy.port)
    try:
        asked = [("GET", WITH_COOKIE), ("GET", ended), ("HEAD", ended), ("HEAD", WITH_COOKIE), ("GET", WITH_COOKIE)]
        assert [client.ask(headers=headers, method=method).status for method, headers in asked] == [200, 401, 401, 200, 200]
        assert client.connections == 1
    finally:
        client.close()


async def test_a_stream_passes_piece_by_piece(edge) -> None:
    view = fresh()
    edge.app = sidecar(view)
    async with aiohttp.ClientSession(f"http://{LOOPBACK}:{edge.proxy.port}", headers=WITH_COOKIE) as client:
        async with client.get("/stream") as answer:
            assert await answer.content.readuntil(b"\n\n") == b"data: first\n\n"
            async with client.get("/release"):
                assert await answer.content.readuntil(b"\n\n") == b"data: second\n\n"
        view.expire(SESSION, T)
        async with client.get("/stream") as answer:
            assert answer.status == 401


async def test_a_websocket_passes_for_a_live_session_alone(edge) -> None:
    view = fresh()
    edge.app = sidecar(view)
    async with aiohttp.ClientSession(f"http://{LOOPBACK}:{edge.proxy.port}", headers=WITH_COOKIE) as client:
        async with client.ws_connect("/socket", headers={"X-Session-Id": "forged"}) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == f"{SESSION} hello"
        view.expire(SESSION, T)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect("/socket")
        assert refused.value.status == 401
