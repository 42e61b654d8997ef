"""The ASGI middleware on a real uvicorn: who passes, what the application is told, and what is cut when a session ends."""

import asyncio
import contextlib
import json

import pytest
import websockets

from monitor.core.controls import Target
from monitor.core.errors import InputError
from monitor.gateway import Now, Settings, WithoutSession
from monitor.gateway.answers import Wording
from monitor.gateway.asgi import SessionMiddleware
from monitor.gateway.exchange import SessionCut
from tests.gateway.asking import SESSION, fresh
from tests.gateway.serving import COOKIE_HEADER, LONG, EndsAtOnce, client, gateway, served
from tests.gateway.signing import NOW as SIGNED_AT
from tests.gateway.signing import said, signed, verifier
from tests.gateway.worlds import T

HEADERS = [(b"content-type", b"text/plain")]
BOTH = pytest.mark.parametrize("http", ["h11", "httptools"])


class App:
    """A bare ASGI application, which tells how far it has come."""

    def __init__(self) -> None:
        self.began, self.ended, self.go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.session = self.error = None
        self.heard = []

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            for what in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{what}.complete"})
            return
        self.session = scope.get("session_monitor")
        try:
            await getattr(self, scope["path"].strip("/").partition("/")[0] or "plain")(receive, send)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    async def plain(self, receive, send) -> None:
        body = b"" if self.session is None else json.dumps([self.session.session_id, self.session.subject]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})

    public = models = plain

    async def stream(self, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        self.began.set()
        await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async def slow(self, receive, send) -> None:
        self.began.set()
        await self.go_on.wait()
        await self.plain(receive, send)

    async def stubborn(self, receive, send) -> None:
        """Holds on, as what waits for a thread does."""
        self.began.set()
        while not self.go_on.is_set():
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                continue
        await self.plain(receive, send)

    async def polite(self, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        self.began.set()
        reason = await self.session.ended
        await send({"type": "http.response.body", "body": reason.encode()})

    async def feed(self, receive, send) -> None:
        """Says every now and then that it is there."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", b"text/event-stream; charset=utf-8")]})
        while not self.session.ended:
            await send({"type": "http.response.body", "body": b"data: still here\n\n", "more_body": True})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.session.ended, 0.2)
        await send({"type": "http.response.body", "body": b"data: %b\n\n" % self.session.ended.reason.encode()})

    async def afterwards(self, receive, send) -> None:
        """Works on when its response has been sent."""
        await self.plain(receive, send)
        self.began.set()
        await self.go_on.wait()

    async def echo(self, receive, send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        self.began.set()
        while (message := await receive())["type"] == "websocket.receive":
            self.heard.append(message["text"])
            await send({"type": "websocket.send", "text": message["text"]})


def connect(address, path="/echo", **headers):
    extra = {"Cookie": COOKIE_HEADER} | headers
    return websockets.connect(f"ws://{address[0]}:{address[1]}{path}", additional_headers=extra)


@BOTH
async def test_a_live_session_reaches_the_application_and_an_ended_one_does_not(http) -> None:
    view, app = fresh(), App()
    async with served(SessionMiddleware(app, gateway(view)), http=http) as address, client(address) as one:
        await one.ask()
        status, headers = await one.head()
        assert (status, json.loads(await one.body(headers))) == (200, [SESSION, None])
        view.expire(SESSION, T)
        app.session = None
        await one.ask()
        status, headers = await one.head()
        assert status == 401
        assert headers["www-authenticate"].startswith('Bearer error="insufficient_user_authentication"')
        assert (headers["content-type"], headers["cache-control"]) == ("application/problem+json", "no-store")
        assert json.loads(await one.body(headers))["session_id"] == SESSION
        assert app.session is None


@BOTH
async def test_a_stream_whose_session_is_revoked_is_cut_and_does_not_look_whole(http) -> None:
    view, app = fresh(), App()
    async with served(SessionMiddleware(app, gateway(view)), http=http) as address, client(address) as one:
        await one.ask("/stream")
        assert (await one.head())[0] == 200
        assert await one.chunk() == b"one"
        assert not app.session.ended
        view.revoke(SESSION, T)
        assert await one.chunk() is None
        await asyncio.wait_for(app.ended.wait(), LONG)
        assert (app.session.ended.reason, type(app.error)) == ("admin_revoked", asyncio.CancelledError)


@BOTH
async def test_a_request_that_has_not_been_answered_gets_the_refusal(http) -> None:
    view, app = fresh(), App()
    async with served(SessionMiddleware(app, gateway(view)), http=http) as address, client(address) as one:
        for path in ("/slow", "/stubborn"):
            app.began.clear()
            await one.ask(path, Accept="text/html")
            await asyncio.wait_for(app.began.wait(), LONG)
            view.expire(SESSION, T)
            status, headers = await one.head()
            assert (status, headers["content-type"]) == (401, "text/html; charset=utf-8")
            assert b"Please Reauthenticate" in await one.body(headers)
            view.forget(SESSION)
        # What held on finds nobody any more.
        app.go_on.set()
        while not isinstance(app.error, SessionCut):
            await asyncio.sleep(0.01)


async def test_within_the_drain_time_an_application_may_say_goodbye() -> None:
    view, app = fresh(), App()
    async with served(SessionMiddleware(app, gateway(view), drain=60_000)) as address, client(address) as one:
        await one.ask("/polite")
        await one.head()
        view.expire(SESSION, T)
        assert [await one.chunk(), await one.chunk()] == [b"idle_timeout", b""]
    assert app.error is None


async def test_an_end_right_behind_the_decision_is_not_missed() -> None:
    view = fresh()
    async with served(SessionMiddleware(App(), gateway(view, witnesses=[EndsAtOnce(view)]))) as address, client(address) as one:
        await one.ask("/slow")
        assert (await one.head())[0] == 401


async def test_others_go_on() -> None:
    view, app = fresh(), App()
    async with served(SessionMiddleware(app, gateway(view), drain=0)) as address, client(address) as one:
        await one.ask("/stream")
        await one.head()
        view.revoke("somebody else", T)
        view.lock(Target(subject="mallory"), T)
        view.rule("version: 1\ndefaults: {idle: 5m, absolute: 8h}\n")
        app.go_on.set()
        assert [await one.chunk(), await one.chunk(), await one.chunk()] == [b"one", b"two", b""]


async def test_what_runs_after_the_response_is_not_cut() -> None:
    view, app = fresh(), App()
    async with served(SessionMiddleware(app, gateway(view), drain=0)) as address, client(address) as one:
        await one.ask("/afterwards")
        await asyncio.wait_for(app.began.wait(), LONG)
        session = app.session
        view.revoke(SESSION, T)
        # By the time that another is refused, whoever is to be cut has been.
        async with client(address) as two:
            await two.ask()
            assert (await two.head())[0] == 401
        assert not session.ended
        app.go_on.set()
        await asyncio.wait_for(app.ended.wait(), LONG)
    assert app.error is None


async def test_a_client_that_has_gone_leaves_nothing_behind() -> None:
    app, one_gateway = App(), gateway()
    middleware = SessionMiddleware(app, one_gateway)
    async with served(middleware) as address:
        async with client(address) as one:
            await one.ask("/stream")
            await one.head()
        app.go_on.set()
        await asyncio.wait_for(app.ended.wait(), LONG)
        (running,) = middleware._running.values()
        while len(running):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
class TestWebSocket:
    """What the client of a WebSocket sees."""

    async def test_the_handshake_of_an_ended_session_is_refused_with_a_challenge(self, ws) -> None:
        view, app = fresh(), App()
        view.expire(SESSION, T)
        async with served(SessionMiddleware(app, gateway(view)), ws=ws) as address:
            with pytest.raises(websockets.InvalidStatus) as refused:
                await connect(address)
        response = refused.value.response
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer error=")
        assert json.loads(response.body)["reason"] == "idle_timeout"
        assert app.session is None

    async def test_an_open_one_is_closed_with_the_status_and_the_title(self, ws) -> None:
        view, app = fresh(), App()
        async with served(SessionMiddleware(app, gateway(view)), ws=ws) as address, connect(address) as one:
            await one.send("a")
            assert await one.recv() == "a"
            view.revoke(SESSION, T)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.wait_for(one.recv(), LONG)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "Session Expired: Please Reauthenticate")
            await asyncio.wait_for(app.ended.wait(), LONG)

    async def test_a_lock_is_told_apart(self, ws) -> None:
        view, app = fresh(), App()
        async with served(SessionMiddleware(app, gateway(view), drain=0), ws=ws) as address, connect(address) as one:
            view.lock(Target(client_ip="127.0.0.1"), T)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.wait_for(one.recv(), LONG)
            assert closed.value.rcvd.code == 4403

    async def test_a_message_after_the_end_does_not_reach_the_application(self, ws) -> None:
        view, app = fresh(), App()
        async with served(SessionMiddleware(app, gateway(view), drain=60_000), ws=ws) as address, connect(address) as one:
            view.expire(SESSION, T)
            await one.send("late")
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.wait_for(one.recv(), LONG)
            assert (closed.value.rcvd.code, app.heard) == (4401, [])


async def test_where_a_server_can_not_deny_a_handshake_it_is_closed() -> None:
    view, sent = fresh(), []
    view.expire(SESSION, T)
    scope = {"type": "websocket", "path": "/echo", "headers": [(b"cookie", COOKIE_HEADER.encode())]}

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message) -> None:
        sent.append(message)

    with gateway(view) as one:
        await SessionMiddleware(App(), one)(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_messages_that_keep_alive_are_no_use_of_the_session() -> None:
    told = []

    class Notes:
        def admitted(self, facts, seen, now) -> None:
            told.append(facts.session_id)

        def refused(self, facts, verdict, seen, now) -> None:
            raise AssertionError(verdict)

    one_gateway = gateway(witnesses=[Notes()])
    middleware = SessionMiddleware(App(), one_gateway, is_keepalive=lambda message: message.get("text") == "ping")
    async with served(middleware) as address, connect(address) as one:
        for text in ("ping", "ping", "hello"):
            await one.send(text)
            assert await one.recv() == text
    assert told == [SESSION, SESSION]  # the handshake, and "hello"


async def test_how_many_were_cut_is_told() -> None:
    told = []

    class Notes:
        def admitted(self, facts, seen, now) -> None:
            pass

        def refused(self, facts, verdict, seen, now) -> None:
            pass

        def cut(self, session_id, verdict, inflight) -> None:
            told.append((session_id, verdict.reason, inflight))

    view, app = fresh(), App()
    one_gateway = gateway(view, witnesses=[Notes()])
    async with served(SessionMiddleware(app, one_gateway)) as address, client(address) as one, client(address) as two:
        for each in (one, two):
            await each.ask("/stream")
            await each.head()
            await each.chunk()
        view.revoke(SESSION, T)
        assert [await one.chunk(), await two.chunk()] == [None, None]
    assert told == [(SESSION, "admin_revoked", 2)]
    assert one_gateway.enforcer.metrics.registry.get_sample_value("session_monitor_gateway_cut_total", {"reason": "admin_revoked"}) == 2


class TestTokens:
    """With an issuer."""

    def app(self, view=None, **more) -> SessionMiddleware:
        view = view or fresh()
        view.watermark(SIGNED_AT, 0)
        return SessionMiddleware(App(), gateway(view, session_id="claim:sid,cookie:session", verifier=verifier(), now=Now(SIGNED_AT, 0)), **more)

    async def asked(self, app, token: str) -> tuple[int, dict[str, str]]:
        async with served(app) as address, client(address) as one:
            await one.ask(Authorization=f"Bearer {token}", Cookie="")
            return await one.head()

    async def test_a_good_one_names_the_session(self) -> None:
        app = self.app()
        assert (await self.asked(app, signed()))[0] == 200
        session = app._app.session
        assert (session.session_id, session.subject, session.roles, session.acr) == ("s-81f2", "alice@example.com", ("a", "b"), "aal2")

    @pytest.mark.parametrize("token", ["x", "a.b.c", signed(said(aud="elsewhere")), signed(said(exp=1)), signed(alg="none")[:-10]])
    async def test_a_bad_one_is_a_401_and_no_exception(self, token) -> None:
        status, headers = await self.asked(self.app(), token)
        assert status == 401
        assert 'error="invalid_token"' in headers["www-authenticate"]

    async def test_an_open_stream_ends_with_its_absolute_limit_whoever_is_away(self) -> None:
        """No command comes: the policy and the token's auth_time are enough."""
        view, now = fresh(), [SIGNED_AT]
        view.rule("version: 1\ndefaults: {idle: 5m, absolute: 1h}\n")
        view.watermark(SIGNED_AT, 0)
        one_gateway = gateway(view, session_id="claim:sid", verifier=verifier())
        one_gateway.enforcer.now = lambda: Now(now[0], 0)
        async with served(SessionMiddleware(App(), one_gateway)) as address, client(address) as one:
            await one.ask("/stream", Authorization=f"Bearer {signed(said(auth_time=SIGNED_AT // 1000 - 3500))}")
            assert (await one.head())[0] == 200
            assert await one.chunk() == b"one"
            now[0] += 101_000
            assert await one.chunk() is None


async def test_a_stale_view_refuses_what_is_asked_and_cuts_nobody() -> None:
    view, app, now = fresh(), App(), [0]
    one_gateway = gateway(view)
    one_gateway.enforcer.now = lambda: Now(T, now[0])
    async with served(SessionMiddleware(app, one_gateway, drain=0)) as address, client(address) as one, client(address) as two:
        await one.ask("/stream")
        await one.head()
        now[0] = 60_001
        await two.ask()
        assert (await two.head())[0] == 503
        view.lock(Target(subject="mallory"), T)
        app.go_on.set()
        assert [await one.chunk(), await one.chunk(), await one.chunk()] == [b"one", b"two", b""]


async def test_what_the_application_vouches_for_counts() -> None:
    view = fresh()
    view.rule("version: 1\nclassifications: [public, secret]\ndefaults: {idle: 5m, absolute: 1h}\n")
    view.lock(Target(workload="training"), T)
    facts = {"/public": {"classification": "public"}, "/models": {"workload": "training"}}
    one_gateway = gateway(view, now=Now(T, 60_001))
    app = SessionMiddleware(App(), one_gateway, facts_of=lambda scope: facts.get(scope["path"], {}))
    async with served(app) as address, client(address) as one:
        for path, status, mark in (("/public", 200, "stale"), ("/models", 403, None), ("/", 503, None)):
            await one.ask(path)
            answered, headers = await one.head()
            await one.body(headers)
            assert (path, answered, headers.get("session-monitor-view")) == (path, status, mark)


async def test_excluded_paths_are_nobodys_affair() -> None:
    one_gateway = gateway(settings=Settings(without_session=WithoutSession.CHALLENGE), wording=Wording("/login?to={return_to}", redirect_browsers=True))
    app = SessionMiddleware(App(), one_gateway, exclude=("/plain", "/plain/..."))
    async with served(app) as address, client(address) as one:
        for path, expected in (("/plain", 200), ("/plain/x", 200), ("/plain/../slow", 302), ("/slow", 302), ("/plain/%2e%2e/slow", 302)):
            await one.ask(path, Cookie="", Accept="text/html")
            status, headers = await one.head()
            await one.body(headers)
            assert (path, status) == (path, expected)
        assert headers["location"] == "/login?to=http%3A%2F%2Fapp.example%2Fplain%2F%252e%252e%2Fslow"


@pytest.mark.parametrize("path", ["login", "/a/.../b", "/...", ""])
def test_an_excluded_path_that_says_something_else_is_refused(path) -> None:
    with pytest.raises(InputError, match="excluded path"):
        SessionMiddleware(App(), gateway(), exclude=[path])


async def test_it_begins_with_the_lifespan_and_ends_after_it() -> None:
    one = gateway()
    async with served(SessionMiddleware(App(), one)):
        assert one.running
        assert one.ready
    assert not one.running


async def test_what_somebody_else_began_he_ends() -> None:
    with gateway() as one:
        async with served(SessionMiddleware(App(), one)):
            pass
        assert one.running


async def test_without_a_lifespan_it_begins_with_the_first_request() -> None:
    one = gateway()
    async with served(SessionMiddleware(App(), one), lifespan="off") as address, client(address) as asking:
        assert not one.running
        await asking.ask()
        assert (await asking.head())[0] == 200
    one.stop()


async def test_before_the_view_is_loaded_nobody_passes() -> None:
    view = fresh()
    view.view = type(view.view)(1, loaded=False)
    async with served(SessionMiddleware(App(), gateway(view))) as address, client(address) as one:
        await one.ask()
        assert (await one.head())[0] == 503


async def test_an_error_of_the_application_is_its_own() -> None:
    async def broken(scope, receive, send) -> None:
        raise ValueError("broken")

    with gateway() as one, pytest.raises(ValueError, match="broken"):
        await SessionMiddleware(broken, one)({"type": "http", "method": "GET", "path": "/", "headers": [(b"cookie", COOKIE_HEADER.encode())]}, None, None)


async def test_what_the_operator_says_of_paths_counts() -> None:
    one_gateway = gateway(now=Now(T, 60_001), routes=["/public posture=best-effort without-session=admit"])
    async with served(SessionMiddleware(App(), one_gateway)) as address, client(address) as one:
        for path, cookie, status in (("/public", "", 200), ("/public", COOKIE_HEADER, 200), ("/models", COOKIE_HEADER, 503), ("/models", "", 401)):
            await one.ask(path, Cookie=cookie)
            answered, headers = await one.head()
            await one.body(headers)
            assert (path, cookie, answered) == (path, cookie, status)
