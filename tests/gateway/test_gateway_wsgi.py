"""The WSGI middleware on a real server with threads: who passes, what the application is told, and what is cut."""

import asyncio
import json
import threading
from contextlib import asynccontextmanager
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from werkzeug.serving import make_server

from monitor.core.errors import InputError
from monitor.gateway import Now
from monitor.gateway.exchange import SessionCut
from monitor.gateway.wsgi import SessionMiddleware
from monitor.publish import hashed_session_id
from tests.gateway.asking import SESSION, fresh
from tests.gateway.serving import COOKIE_HEADER, LONG, EndsAtOnce, client, gateway
from tests.gateway.signing import NOW as SIGNED_AT
from tests.gateway.signing import said, signed, verifier
from tests.gateway.worlds import T, until

OK = "200 OK"
HEADERS = [("Content-Type", "text/plain")]


class App:
    """A bare WSGI application, which tells how far it has come."""

    def __init__(self) -> None:
        self.began, self.go_on, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.session = None

    def __call__(self, environ, start_response):
        self.session = environ.get("session_monitor")
        return getattr(self, environ["PATH_INFO"].strip("/").partition("/")[0] or "plain")(start_response)

    def plain(self, start_response):
        body = b"" if self.session is None else json.dumps([self.session.session_id, self.session.subject]).encode()
        start_response(OK, [*HEADERS, ("Content-Length", str(len(body)))])
        return [body]

    public = plain

    def stream(self, start_response):
        try:
            start_response(OK, HEADERS)
            yield b"one"
            self.began.set()
            assert self.go_on.wait(LONG)
            yield b"two"
        finally:
            self.closed.set()

    def late(self, start_response):
        """Has begun, but sent nothing yet."""
        try:
            start_response(OK, HEADERS)
            yield b""
            self.began.set()
            assert self.go_on.wait(LONG)
            yield b"two"
        finally:
            self.closed.set()

    def slow(self, start_response):
        self.began.set()
        assert self.go_on.wait(LONG)
        return self.plain(start_response)

    def attentive(self, start_response):
        """Waits for its session's end too."""
        start_response(OK, HEADERS)
        yield b"one"
        self.began.set()
        if self.session.ended.wait(LONG):
            yield self.session.ended.reason.encode()

    def writes(self, start_response):
        write = start_response(OK, HEADERS)
        write(b"one")
        self.began.set()
        assert self.go_on.wait(LONG)
        write(b"two")
        return []


@asynccontextmanager
async def served(app):
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield server.socket.getsockname()
    finally:
        await asyncio.to_thread(server.shutdown)
        serving.join()
        server.server_close()


@pytest.fixture
def world():
    class World:
        view, app = fresh(), App()
        gateway = gateway(view)

    World.middleware = SessionMiddleware(World.app, World.gateway, drain=0)
    yield World
    World.app.go_on.set()
    World.gateway.stop()


async def happens(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, LONG)


def cuts(world) -> float:
    return sum(
        world.gateway.enforcer.metrics.registry.get_sample_value("session_monitor_gateway_cut_total", {"reason": reason})
        for reason in ("admin_revoked", "idle_timeout")
    )


async def test_a_live_session_reaches_the_application_and_an_ended_one_does_not(world) -> None:
    async with served(world.middleware) as address:
        async with client(address) as one:
            await one.ask()
            status, headers = await one.head()
            assert (status, json.loads(await one.body(headers))) == (200, [SESSION, None])
        world.view.expire(SESSION, T)
        world.app.session = None
        async with client(address) as one:
            await one.ask()
            status, headers = await one.head()
            assert (status, headers["cache-control"]) == (401, "no-store")
            assert headers["www-authenticate"].startswith('Bearer error="insufficient_user_authentication"')
            assert json.loads(await one.body(headers))["session_id"] == SESSION
    assert world.app.session is None


async def test_a_stream_is_cut_when_it_next_gives_something_and_does_not_look_whole(world) -> None:
    async with served(world.middleware) as address, client(address) as one:
        await one.ask("/stream")
        assert (await one.head())[0] == 200
        assert await one.chunk() == b"one"
        await happens(world.app.began)
        world.view.revoke(SESSION, T)
        await asyncio.to_thread(until, lambda: cuts(world))
        assert world.app.session.ended.reason == "admin_revoked"
        world.app.go_on.set()
        assert await one.chunk() is None
        await happens(world.app.closed)


async def test_who_waits_with_the_end_in_view_is_cut_at_once(world) -> None:
    async with served(world.middleware) as address, client(address) as one:
        await one.ask("/attentive")
        await one.head()
        assert await one.chunk() == b"one"
        await happens(world.app.began)
        world.view.revoke(SESSION, T)
        assert await one.chunk() is None


async def test_within_the_drain_time_it_may_say_goodbye(world) -> None:
    async with served(SessionMiddleware(world.app, world.gateway, drain=60_000)) as address, client(address) as one:
        await one.ask("/attentive")
        await one.head()
        assert await one.chunk() == b"one"
        world.view.expire(SESSION, T)
        assert [await one.chunk(), await one.chunk()] == [b"idle_timeout", b""]


@pytest.mark.parametrize("path", ["/slow", "/late"])
async def test_before_anything_has_been_sent_the_client_gets_the_refusal(world, path) -> None:
    async with served(world.middleware) as address, client(address) as one:
        await one.ask(path)
        await happens(world.app.began)
        world.view.expire(SESSION, T)
        await asyncio.to_thread(until, lambda: cuts(world))
        world.app.go_on.set()
        status, headers = await one.head()
        assert status == 401
        assert json.loads(await one.body(headers))["reason"] == "idle_timeout"


async def test_what_is_written_is_cut_as_well(world) -> None:
    async with served(world.middleware) as address, client(address) as one:
        await one.ask("/writes")
        await one.head()
        assert await one.chunk() == b"one"
        world.view.revoke(SESSION, T)
        await asyncio.to_thread(until, lambda: cuts(world))
        world.app.go_on.set()
        assert await one.chunk() is None


async def test_an_end_right_behind_the_decision_is_not_missed(world) -> None:
    with gateway(world.view, witnesses=[EndsAtOnce(world.view)]) as one_gateway:
        async with served(SessionMiddleware(world.app, one_gateway)) as address, client(address) as one:
            await one.ask("/attentive")
            await one.head()
            assert [await one.chunk(), await one.chunk()] == [b"one", b"admin_revoked"]


async def test_others_go_on_and_leave_nothing_behind(world) -> None:
    async with served(world.middleware) as address, client(address) as one:
        await one.ask("/stream")
        await one.head()
        await happens(world.app.began)
        world.view.revoke("somebody else", T)
        world.app.go_on.set()
        assert [await one.chunk(), await one.chunk(), await one.chunk()] == [b"one", b"two", b""]
        await asyncio.to_thread(until, lambda: len(world.middleware._running) == 0)


class TestWithoutAServer:
    """What a server gets, to the letter of PEP 3333."""

    @pytest.fixture
    def call(self, world):
        def call(path="/", middleware=None, **more):
            environ = {}
            setup_testing_defaults(environ)
            environ |= {"PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "", "HTTP_COOKIE": COOKIE_HEADER, "HTTP_HOST": "app.example"} | more
            said = []

            def start_response(status, headers, exc_info=None):
                said[:] = [status, dict(headers)]
                return lambda data: None

            body = validator(middleware or world.middleware)(environ, start_response)
            return body, said

        return call

    def test_a_response_that_is_whole_is_passed_on_as_it_is(self, call, world) -> None:
        body, said = call()
        assert said[0] == OK
        assert b"".join(body).startswith(b"[")
        body.close()
        assert len(world.middleware._running) == 0

    def test_a_refusal_is_a_response(self, call, world) -> None:
        world.view.revoke(SESSION, T)
        body, (status, headers) = call("/stream")
        assert status == "401 Unauthorized"
        whole = b"".join(body)
        body.close()
        assert headers["Content-Length"] == str(len(whole))
        body, (status, of_head) = call("/stream", REQUEST_METHOD="HEAD")
        assert (status, of_head, b"".join(body)) == ("401 Unauthorized", headers, b"")
        body.close()

    def test_a_stream_that_is_cut_is_closed(self, call, world) -> None:
        body, _ = call("/stream")
        parts = iter(body)
        assert next(parts) == b"one"
        world.view.revoke(SESSION, T)
        until(lambda: cuts(world))
        with pytest.raises(SessionCut):
            next(parts)
        body.close()
        assert world.app.closed.is_set()

    def test_a_stale_view_is_marked(self, call, world) -> None:
        world.gateway.enforcer.now = lambda: Now(T, 60_001)
        middleware = SessionMiddleware(world.app, world.gateway, facts_of=lambda _: {"posture": "best_effort"})
        body, (status, headers) = call(middleware=middleware)
        body.close()
        assert (status, headers["Session-Monitor-View"], world.app.session.stale) == (OK, "stale", True)

    def test_excluded_paths_are_nobodys_affair(self, call, world) -> None:
        middleware = SessionMiddleware(world.app, world.gateway, exclude=["/public", "/public/..."])
        for path, expected in (("/public", OK), ("/public/x", OK), ("/public/../plain", "401 Unauthorized"), ("/plain", "401 Unauthorized")):
            body, (status, _) = call(path, middleware, HTTP_COOKIE="")
            body.close()
            assert (path, status) == (path, expected)

    def test_an_error_of_the_application_is_its_own(self, call, world) -> None:
        def broken(environ, start_response):
            raise ValueError("broken")

        middleware = SessionMiddleware(broken, world.gateway)
        with pytest.raises(ValueError, match="broken"):
            call(middleware=middleware)
        assert len(middleware._running) == 0

    @pytest.mark.parametrize(("shown", "status"), [
        (signed, OK), (lambda: "x", "401 Unauthorized"), (lambda: signed(said(exp=1)), "401 Unauthorized"), (lambda: "\xff", "401 Unauthorized"),
    ])  # fmt: skip
    def test_tokens(self, call, shown, status) -> None:
        view = fresh()
        view.watermark(SIGNED_AT, 0)
        with gateway(view, session_id="claim:sid", verifier=verifier(), now=Now(SIGNED_AT, 0)) as one:
            app = App()
            body, (answered, headers) = call(middleware=SessionMiddleware(app, one), HTTP_AUTHORIZATION=f"Bearer {shown()}")
            body.close()
        assert answered == status
        if status == OK:
            assert (app.session.session_id, app.session.subject) == ("s-81f2", "alice@example.com")
        else:
            assert 'error="invalid_token"' in headers["WWW-Authenticate"]

    def test_a_session_id_in_the_path_is_found_below_a_mount(self, call) -> None:
        found = []

        def app(environ, start_response):
            found.append(environ["session_monitor"].session_id)
            start_response(OK, HEADERS)
            return []

        with gateway(session_id="path:/v1/{id}/...") as one:
            body, _ = call("/a%b/plain", SessionMiddleware(app, one), SCRIPT_NAME="/v1")
            body.close()
        assert found == [hashed_session_id("a%b")]


def test_what_can_not_be_excluded_is_refused() -> None:
    with pytest.raises(InputError, match="excluded path"):
        SessionMiddleware(App(), gateway(), exclude=["login"])


def test_it_follows_a_gateway_that_was_stopped_and_begun_again(world) -> None:
    world.gateway.start()
    first = world.middleware._here()
    world.gateway.stop()
    world.gateway.start()
    second = world.middleware._here()
    assert first is not second
    assert world.gateway._listeners == (second.changed,)
