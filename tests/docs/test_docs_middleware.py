"""Every application of docs/middleware.md is served as it stands there, and does what the page says; its tables are the code's."""

import asyncio
import inspect
import json
import re
import sys
import types
from pathlib import Path

import django
import pytest
import websockets
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse, StreamingHttpResponse
from django.urls import path

from monitor.gateway import Gateway, MemoryView, asgi, wsgi
from monitor.gateway.exchange import CLOSE_CODES, TRY_AGAIN
from monitor.gateway.follower import present
from monitor.gateway.running import DRAIN
from monitor.gateway.telling import IN_FLIGHT_EVERY
from tests.gateway import test_gateway_wsgi
from tests.gateway.asking import SESSION
from tests.gateway.serving import LONG, client, served
from tests.gateway.test_gateway_asgi import connect

PAGE = (Path(__file__).parents[2] / "docs" / "middleware.md").read_text()
PARTS = {part.partition("\n")[0]: part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}


def code(heading: str) -> str:
    (found,) = re.findall(r"^```python\n(.*?)^```", PARTS[heading], re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture
def view() -> MemoryView:
    now, one = present(), MemoryView()
    one.watermark(now.wall, now.monotonic)
    return one


@pytest.fixture
def application(view):
    """Runs what stands under a heading, on a view in memory."""

    def run(heading: str, name: str = "app"):
        written = code(heading)
        assert written.count('Gateway(bootstrap_servers="localhost:9092"') == 1
        module = types.ModuleType("snippet")
        module.VIEW = view
        sys.modules["snippet"] = module
        exec(written.replace('bootstrap_servers="localhost:9092"', "view=VIEW"), vars(module))
        return getattr(module, name)

    yield run
    sys.modules.pop("snippet", None)


async def whoami(address) -> tuple[int, dict]:
    async with client(address) as one:
        await one.ask("/whoami")
        status, headers = await one.head()
        return status, json.loads(await one.body(headers))


async def admits_and_refuses(address, view: MemoryView) -> None:
    assert await whoami(address) == (200, {"session": SESSION, "stale": False})
    async with client(address) as one:
        await one.ask("/whoami", Cookie="")
        assert (await one.head())[0] == 401
    view.expire(SESSION, present().wall)
    status, problem = await whoami(address)
    assert (status, problem["title"]) == (401, "Session Expired: Please Reauthenticate")


@pytest.mark.parametrize("heading", ["Starlette", "FastAPI"])
async def test_asgi_applications_admit_and_refuse(application, view, heading) -> None:
    async with served(application(heading)) as address:
        await admits_and_refuses(address, view)


async def test_flask_admits_and_refuses(application, view) -> None:
    async with test_gateway_wsgi.served(application("Flask")) as address:
        await admits_and_refuses(address, view)


async def test_a_feed_says_goodbye(application, view) -> None:
    async with served(application("FastAPI")) as address, client(address) as one:
        await one.ask("/feed")
        assert (await one.head())[0] == 200
        assert await one.chunk() == b"data: hello\n\n"
        view.revoke(SESSION, present().wall)
        assert [await one.chunk(), await one.chunk()] == [b"event: goodbye\ndata: admin_revoked\n\n", b""]


async def test_a_websocket_is_closed(application, view) -> None:
    async with served(application("FastAPI")) as address, connect(address) as one:
        await one.send("a")
        assert await one.recv() == "a"
        view.revoke(SESSION, present().wall)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(one.recv(), LONG)
        assert closed.value.rcvd.code == 4401


async def test_who_asks_whether_it_is_ready_needs_no_session(application) -> None:
    async with served(application("FastAPI")) as address, client(address) as one:
        await one.ask("/readyz", Cookie="")
        status, headers = await one.head()
        assert (status, json.loads(await one.body(headers))) == (200, {"ready": True})


@pytest.fixture(scope="module")
def project() -> None:
    """A Django project; its settings are global, so there is one."""

    def whoami(request):
        session = request.META.get("session_monitor") or request.scope["session_monitor"]
        return JsonResponse({"session": session.session_id, "stale": session.stale})

    def stream(request):
        ended = request.META["session_monitor"].ended

        def parts():
            yield b"one"
            yield b"two" if ended.wait(LONG) else b"three"

        return StreamingHttpResponse(parts())

    urls = sys.modules["urls_of_the_test"] = types.ModuleType("urls_of_the_test")
    urls.urlpatterns = [path("whoami", whoami), path("stream", stream)]
    settings.configure(ROOT_URLCONF="urls_of_the_test", ALLOWED_HOSTS=["*"], SECRET_KEY="x" * 50, LOGGING_CONFIG=None)
    django.setup()


@pytest.mark.usefixtures("project")
class TestDjango:
    """By WSGI and by ASGI."""

    async def test_it_admits_and_refuses(self, application, view) -> None:
        async with test_gateway_wsgi.served(application("Django", "application")) as address:
            await admits_and_refuses(address, view)

    async def test_it_admits_and_refuses_under_asgi(self, view) -> None:
        app = asgi.SessionMiddleware(get_asgi_application(), Gateway(view=view, session_id="cookie:session"))
        async with served(app, lifespan="off") as address:
            await admits_and_refuses(address, view)

    async def test_its_streams_are_cut(self, application, view) -> None:
        async with test_gateway_wsgi.served(application("Django", "application")) as address, client(address) as one:
            await one.ask("/stream")
            assert (await one.head())[0] == 200
            assert await one.chunk() == b"one"
            view.revoke(SESSION, present().wall)
            # Within the drain time it may still say something; then its response is over.
            said = [await one.chunk(), await one.chunk()]
            assert said in ([b"two", b""], [b"two", None], [None, None])


def test_the_test_of_the_page_passes_and_can_fail(monkeypatch) -> None:
    namespace = {}
    exec(code("In tests"), namespace)
    namespace["test_an_ended_session_is_refused"]()
    monkeypatch.setattr(MemoryView, "expire", lambda *_: None)
    with pytest.raises(AssertionError):
        namespace["test_an_ended_session_is_refused"]()


def named(heading: str) -> set[str]:
    """What stands in the first column of a table."""
    rows = re.findall(r"^\| (`[^|]+) \|", PARTS[heading], re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`(\w+)`", row)}


def test_every_setting_is_explained_and_no_other() -> None:
    tests = {"view", "verifier", "now"}
    both = set(inspect.signature(Gateway).parameters) - tests | set(inspect.signature(asgi.SessionMiddleware).parameters) - {"app", "gateway"}
    assert named("What a gateway is told") == both
    assert set(inspect.signature(wsgi.SessionMiddleware).parameters) == set(inspect.signature(asgi.SessionMiddleware).parameters) - {"is_keepalive"}


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"({DRAIN} ms)" in PAGE
    assert f"every {IN_FLIGHT_EVERY} granularities" in PAGE
    assert f"within `granularity` ({inspect.signature(Gateway).parameters['granularity'].default} ms)" in PAGE
    assert all(f"`{code}`" in PAGE for code in (CLOSE_CODES + 401, CLOSE_CODES + 403, TRY_AGAIN))


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE)
    assert len(links) >= 2
    assert [link for link in links if not (Path(__file__).parents[2] / "docs" / link).exists()] == []
