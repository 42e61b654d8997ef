"""`session-monitor gateway` as a process, beside a broker."""

import contextlib
import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from monitor.core.commands import CommandType
from monitor.wire.receipts import Applied, Refused, Stopped, decode_receipt
from tests.conftest import World
from tests.gateway.asking import SESSION, WITH_COOKIE
from tests.gateway.signing import unsigned
from tests.gateway.worlds import T, monitor, until
from tests.kafka.plain import read_all

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.embedded


class Process:
    """The command, its address, and what it said."""

    def __init__(self, directory: Path, world, *options: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSION_MONITOR_")}
        command = [sys.executable, "-m", "monitor", "gateway", "--port", "0", "--session-id", "cookie:session", *options]
        command += ["--bootstrap-servers", world.bootstrap_servers, "--topic-prefix", world.prefix]
        self._process = subprocess.Popen(
            command, cwd=directory, env=kept | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.said: list[str] = []
        self._found: queue.Queue[int] = queue.Queue()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        self._port = self._found.get(timeout=30)

    def _read(self) -> None:
        for line in self._process.stdout:
            self.said.append(line)
            if "sidecar_started" in line:
                self._found.put(int(json.loads(line)["url"].rpartition(":")[2]))

    def ask(self, path: str, headers=()) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path, headers=dict(headers))
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def request(self, method: str, path: str, body: bytes, headers=()) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    @contextlib.contextmanager
    def follow(self, path: str, headers=()):
        """Gives what reads the next line that is neither empty nor a comment; at the end of the feed it is empty."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        assert response.status == 200, response.read()

        def line() -> str:
            while (read := response.readline()) and read.strip() in (b"", b":"):
                pass
            return read.decode().strip()

        try:
            yield line
        finally:
            response.close()
            connection.close()

    def end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        return self.close()

    def close(self) -> int:
        try:
            return self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._reading.join(10)
            self._process.stdout.close()


@pytest.fixture
def begin(tmp_path, embedded, own_topics):
    """Starts the command on topics of the test's own; gives it and them."""
    begun = []

    def start(*options: str, world=None):
        world = world or own_topics(embedded)
        begun.append(Process(tmp_path, world, *options))
        return begun[-1], world

    yield start
    for process in begun:
        process._process.kill()
        process.close()


def test_a_session_passes_until_the_monitor_ends_it_and_sigterm_ends_the_sidecar(begin) -> None:
    sidecar, world = begin()
    with monitor(world) as writer:
        writer.watermarks()
        until(lambda: sidecar.ask("/readyz")[0] == 200)
        until(lambda: sidecar.ask("/check", WITH_COOKIE)[0] == 200)
        assert sidecar.ask("/check", WITH_COOKIE)[1]["x-session-id"] == SESSION
        writer.end(SESSION)
        until(lambda: sidecar.ask("/check", WITH_COOKIE)[0] == 401)
        status, headers, body = sidecar.ask("/check/v1/chats", WITH_COOKIE)
        assert (status, headers["cache-control"], headers["content-type"]) == (401, "no-store", "application/problem+json")
        assert headers["www-authenticate"].startswith('Bearer error="insufficient_user_authentication"')
        problem = json.loads(body)
        assert (problem["title"], problem["reason"]) == ("Session Expired: Please Reauthenticate", "idle_timeout")
        assert sidecar.ask("/check", {"Cookie": "session=another"})[0] == 200
        writer.end(SESSION, epoch=1, type_=CommandType.REINSTATE)
        until(lambda: sidecar.ask("/check", WITH_COOKIE)[0] == 200)
    assert 'verdict="refuse"} ' in sidecar.ask("/metrics")[2].decode()
    assert sidecar.end(signal.SIGTERM) == 0
    assert "Traceback" not in "".join(sidecar.said)
    # A cookie is a credential: it is written nowhere.
    assert "abc123" not in "".join(sidecar.said)


def test_a_view_that_hears_nothing_any_more_serves_nobody_whose_data_may_be_sensitive(begin) -> None:
    sidecar, world = begin("--max-view-age", "1s", "--without-session", "refuse")
    with monitor(world) as writer:
        until(lambda: sidecar.ask("/readyz")[0] == 200)
        until(lambda: writer.watermarks() or sidecar.ask("/check", WITH_COOKIE)[0] == 200)
        until(lambda: sidecar.ask("/check", WITH_COOKIE)[0] == 503)
        status, headers, body = sidecar.ask("/check", WITH_COOKIE)
        assert (status, json.loads(body)["reason"], headers["retry-after"]) == (503, "view_stale", "5")
        assert sidecar.ask("/check")[0] == 400
    assert sidecar.end(signal.SIGINT) == 0
    assert "Traceback" not in "".join(sidecar.said)


def receipts_of(world) -> list:
    return [decode_receipt(record.value) for record in read_all(world.bootstrap_servers, world.topics.enforcement_receipts.name)]


def test_it_proves_what_is_in_force_and_who_was_refused_unless_told_not_to(begin) -> None:
    sidecar, world = begin("--name", "gateway/eu-1")
    silent, _ = begin("--no-receipts", world=world)
    with monitor(world) as writer:
        writer.watermarks()
        until(lambda: sidecar.ask("/check", WITH_COOKIE)[0] == 200)
        writer.end(SESSION)
        until(lambda: sidecar.ask("/check", WITH_COOKIE)[0] == 401)
        until(lambda: silent.ask("/check", WITH_COOKIE)[0] == 401)
    # A reader of the page sees how long it took.
    assert "session_monitor_gateway_time_to_enforce_seconds_count 1.0" in sidecar.ask("/metrics")[2].decode()
    assert (sidecar.end(signal.SIGTERM), silent.end(signal.SIGTERM)) == (0, 0)
    told = receipts_of(world)
    assert {one.gateway for one in told} == {"gateway/eu-1"}
    assert [one.session_id for one in told if isinstance(one, Refused)] == [SESSION]
    assert sum(offset + 1 for offset in [one for one in told if isinstance(one, Applied)][-1].positions.values()) == 9
    assert isinstance(told[-1], Stopped)


def test_topics_that_are_not_there_are_waited_for_and_named(begin, embedded) -> None:
    sidecar, _ = begin(world=World(embedded.bootstrap_servers, "absent-"))
    until(lambda: b"absent-session-commands" in sidecar.ask("/readyz")[2])
    assert sidecar.ask("/readyz")[0] == 503
    assert sidecar.ask("/healthz")[0] == 200
    assert sidecar.ask("/check", WITH_COOKIE)[0] == 503
    assert sidecar.end(signal.SIGTERM) == 0


def test_a_session_is_followed_and_events_are_published_by_whoever_holds_the_token(begin, tmp_path) -> None:
    secret, file = "the-token-of-the-api-0123456789", tmp_path / "token"
    file.write_text(secret + "\n")
    file.chmod(0o600)
    sidecar, world = begin("--api-token-file", str(file))
    holder = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    with monitor(world) as writer:
        until(lambda: sidecar.ask("/readyz")[0] == 200)
        assert sidecar.ask("/v1/sessions/s-1")[0] == 401
        assert sidecar.request("GET", "/v1/sessions/s-1", b"", holder)[1]["state"] == "unknown"
        writer.watermarks()
        until(lambda: sidecar.request("GET", "/v1/sessions/s-1", b"", holder) == (200, {"session_id": "s-1", "state": "live"}))
        with sidecar.follow("/v1/sessions/s-1/events", holder) as line:
            assert line() == "retry: 3000"
            writer.warn("s-1")
            assert line() == "event: session.expiring"
            assert (line()[:13], json.loads(line()[6:])["session_id"]) == ("id: expiring-", "s-1")
            writer.end("s-1")
            assert line() == "event: session.expired"
            assert (line()[:12], json.loads(line()[6:])["reason"]) == ("id: expired-", "idle_timeout")
            event = b'{"type":"session.activity","session_id":"s-2"}'
            assert sidecar.request("POST", "/v1/events", event, holder) == (202, {"published": 1})
            assert sidecar.request("POST", "/v1/events", b'{"type":"monitor.tick","session_id":"s-2"}', holder)[0] == 422
            records = read_all(world.bootstrap_servers, world.topics.access_events.name)
            assert [record.value for record in records if record.key == b"s-2"] == [event]
            assert sidecar.end(signal.SIGTERM) == 0
            assert line() == ""
    assert "Traceback" not in "".join(sidecar.said)
    assert secret not in "".join(sidecar.said)


def test_without_a_token_and_an_issuer_there_is_no_api(begin) -> None:
    sidecar, _ = begin()
    assert sidecar.ask("/v1/sessions/s-1")[0] == 404
    assert sidecar.ask("/v1/openapi.json")[0] == 404


@pytest.mark.oidc
def test_tokens_of_an_issuer_name_the_session_and_bring_back_what_a_limit_ended(begin, oidc) -> None:
    sidecar, world = begin("--issuer", oidc.issuer, "--audience", "gateway", "--session-id", "claim:sid")
    second = int(time.time())
    before, after = T // 1000 - 60, second - 5

    def status(auth_time, **claims) -> int:
        said = {"iss": oidc.issuer, "aud": "gateway", "sub": "alice", "sid": "s-81f2", "auth_time": auth_time, "exp": second + 300}
        return sidecar.ask("/check", {"Authorization": f"Bearer {oidc.token(**said | claims)}"})[0]

    with monitor(world) as writer:
        writer.watermarks()
        until(lambda: status(before) == 200)
        assert sidecar.ask("/check")[0] == 401
        assert status(before, aud="elsewhere") == 401
        bearer = {"Authorization": f"Bearer {oidc.token(iss=oidc.issuer, aud='gateway', sub='alice', sid='s-81f2', auth_time=after, exp=second + 300)}"}
        assert sidecar.request("GET", "/v1/sessions/s-81f2", b"", bearer) == (200, {"session_id": "s-81f2", "state": "live"})
        assert sidecar.ask("/v1/sessions/s-other", bearer)[0] == 403
        assert sidecar.request("POST", "/v1/events", b"{}", bearer)[0] == 403
        forged = unsigned({"alg": "none"}, {"iss": oidc.issuer, "aud": "gateway", "sub": "alice", "sid": "s-81f2", "exp": second + 300})
        code, headers, _ = sidecar.ask("/check", {"Authorization": f"Bearer {forged}"})
        assert (code, 'error="invalid_token"' in headers["www-authenticate"]) == (401, True)
        writer.end("s-81f2")
        until(lambda: status(before) == 401)
        assert status(after) == 200
        writer.end("s-81f2", type_=CommandType.REVOKE)
        until(lambda: status(after) == 401)
        assert status(after, sid="s-new") == 200
        writer.lock("alice")
        until(lambda: status(after, sid="s-new") == 403)
    assert sidecar.end(signal.SIGTERM) == 0
    assert "Traceback" not in "".join(sidecar.said)
