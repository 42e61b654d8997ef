"""The worker's HTTP side: who is answered, what, and that nothing bad gets through."""

import logging
import socket
from types import SimpleNamespace
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
from yarl import URL

from monitor.core.errors import AbsenceError, InputError
from monitor.core.events import EventType
from monitor.core.instants import MINUTE
from monitor.observe.metrics import WorkerMetrics
from monitor.observe.views import Matches, PartitionList, SessionDetail, SessionPage
from monitor.wire.codec import decode, reader
from monitor.worker import api as module
from monitor.worker.api import Api, is_loopback
from tests.observe.owned_partitions import START, open_session, worker

TOKEN = "test-token-0123456789"


class Client:
    """Talks to one API; every answer is (status, headers, body)."""

    def __init__(self, api, session):
        self.api, self.session = api, session

    async def get(self, path, token=TOKEN, method="GET", **options):
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        # As it stands: the path is quoted by who calls.
        url = URL(self.api.url + path, encoded=True)
        async with self.session.request(method, url, headers=headers, **options) as answer:
            return answer.status, answer.headers, await answer.read()

    async def struct(self, path, kind):
        status, headers, body = await self.get(path)
        assert status == 200, body
        assert headers["Cache-Control"] == "no-store"
        return decode(reader(kind), body)


@pytest.fixture
def host():
    host = worker(0, 3)
    open_session(host.owned[0], "alice-1", subject="alice@example.com", roles=("admin",))
    open_session(host.owned[3], "bob-1", subject="bob@example.com")
    open_session(host.owned[3], "bob-2", at=10, subject="bob@example.com")
    open_session(host.owned[3], "bob-2", at=20, type_=EventType.CLOSED)
    return host


@pytest.fixture
async def api():
    api = Api(WorkerMetrics(), token=TOKEN, name="w-0")
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def client(api, host):
    api.attach(host)
    async with aiohttp.ClientSession() as session:
        yield Client(api, session)


def problem_of(answer, status):
    got, headers, body = answer
    assert got == status, body
    assert headers["Content-Type"].startswith("application/problem+json")
    problem = msgspec.json.decode(body)
    assert problem["status"] == status
    assert problem["title"]
    return problem["detail"]


async def test_a_page_a_session_and_the_partitions(client):
    page = await client.struct("/v1/sessions", SessionPage)
    assert sorted(row.session_id for row in page.sessions) == ["alice-1", "bob-1", "bob-2"]
    detail = await client.struct("/v1/sessions/bob-1", SessionDetail)
    assert detail.partition == 3
    assert detail.idle.deadline == START + 30 * MINUTE
    assert detail.chain[0].rule == "defaults"
    listed = await client.struct("/v1/partitions", PartitionList)
    assert [(p.partition, p.owner, p.sessions) for p in listed.partitions] == [(0, "w-0", 1), (3, "w-0", 2)]


async def test_filters_and_pages(client):
    page = await client.struct("/v1/sessions?subject=bob%40example.com&state=live", SessionPage)
    assert [row.session_id for row in page.sessions] == ["bob-1"]
    first = await client.struct("/v1/sessions?limit=2", SessionPage)
    second = await client.struct(f"/v1/sessions?limit=2&cursor={first.cursor}", SessionPage)
    assert len(first.sessions) + len(second.sessions) == 3
    matches = await client.struct("/v1/matches?subject=bob%40example.com", Matches)
    assert (matches.live, matches.ended) == (1, 1)


@pytest.mark.parametrize(
    "session_id", ["a/b", "a b", "50%", "%2F", "grüße", "a?b#c", ".", "..", "x" * 256, "語" * 256]
)
async def test_any_session_id_can_be_asked_for(client, host, session_id):
    open_session(host.owned[0], session_id)
    path = quote(session_id, safe="").replace(".", "%2E")
    found = await client.struct(f"/v1/sessions/{path}", SessionDetail)
    assert found.session_id == session_id


async def test_an_unknown_session_is_a_404_problem(client):
    assert "holds this session" in problem_of(await client.get("/v1/sessions/nobody"), 404)


@pytest.mark.parametrize(
    "path", ["/v1/sessions", "/v1/sessions/alice-1", "/v1/matches", "/v1/partitions", "/v1/", "/v1/none"]
)
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], TOKEN.upper(), "tökén"])
async def test_without_the_token_nothing_under_v1_is_answered(client, path, token):
    answer = await client.get(path, token)
    assert "bearer token" in problem_of(answer, 401)
    assert answer[1]["WWW-Authenticate"].startswith("Bearer")


async def test_the_token_is_a_bearer_token_and_no_other(client):
    url = client.api.url + "/v1/partitions"
    for value in (TOKEN, f"Basic {TOKEN}", f"bearer{TOKEN}"):
        async with client.session.get(url, headers={"Authorization": value}) as answer:
            assert answer.status == 401
    async with client.session.get(f"{url}?token={TOKEN}") as answer:
        assert answer.status == 401


async def test_health_readiness_and_metrics_are_open_on_loopback(client):
    assert (await client.get("/healthz", None))[0] == 200
    assert (await client.get("/readyz", None))[0] == 200
    status, headers, body = await client.get("/metrics", None)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b"session_monitor_ticks_total 0.0" in body


async def test_metrics_want_the_token_where_they_are_not_open():
    api = Api(WorkerMetrics(), token=TOKEN, open_metrics=False)
    await api.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(api, session)
            assert (await client.get("/metrics", None))[0] == 401
            assert (await client.get("/metrics"))[0] == 200
    finally:
        await api.stop()


async def test_before_the_owner_is_there_it_is_alive_and_not_ready(api):
    async with aiohttp.ClientSession() as session:
        client = Client(api, session)
        assert (await client.get("/healthz", None))[0] == 200
        status, _, body = await client.get("/readyz", None)
        assert (status, body) == (503, b"starting\n")
        for path in ("/v1/sessions", "/v1/sessions/x", "/v1/matches"):
            assert problem_of(await client.get(path), 503) == "starting"
        assert (await client.struct("/v1/partitions", PartitionList)).partitions == []


async def test_not_ready_says_why(client, host):
    host.recovering.add(3)
    status, _, body = await client.get("/readyz", None)
    assert (status, body) == (503, b"recovering partitions 3\n")
    host.recovering.clear()
    failed = SimpleNamespace(
        done=lambda: True, cancelled=lambda: False, exception=lambda: RuntimeError("boom")
    )
    host.failed = failed
    status, _, body = await client.get("/readyz", None)
    assert (status, body) == (503, b"failed: boom\n")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/v1/sessions?limit=0", "limit"),
        ("/v1/sessions?limit=501", "limit"),
        ("/v1/sessions?colour=red", "colour"),
        ("/v1/sessions?subject=a&subject=b", "once"),
        ("/v1/sessions?started_before=tomorrow", "RFC 3339"),
        ("/v1/sessions?subject=" + "x" * 1025, "subject"),
        ("/v1/matches?all=true", "all"),
    ],
)
async def test_a_bad_query_is_a_400_problem_that_names_it(client, path, names):
    assert names in problem_of(await client.get(path), 400)


async def test_a_cursor_that_is_gone_is_a_410_problem(client):
    assert "without a cursor" in problem_of(await client.get("/v1/sessions?cursor=a.0.1"), 410)


async def test_what_does_not_exist_and_what_may_not_be_done(client):
    problem_of(await client.get("/v1/none"), 404)
    answer = await client.get("/v1/sessions", method="POST", data=b"{}")
    problem_of(answer, 405)
    assert "GET" in answer[1]["Allow"]


async def test_an_oversized_request_is_refused_and_the_server_lives(client):
    status, _, _ = await client.get("/v1/sessions?subject=" + "x" * 20_000)
    assert status in {400, 414}
    assert (await client.get("/v1/partitions"))[0] == 200


async def test_too_many_queries_at_once_are_told_to_come_again(client, api):
    api._busy = module.BUSY
    answer = await client.get("/v1/sessions")
    problem_of(answer, 503)
    assert answer[1]["Retry-After"] == "1"
    api._busy = 0
    assert (await client.get("/v1/sessions"))[0] == 200


async def test_our_own_failure_is_a_500_problem_without_its_insides(client, host, caplog):
    host.owned[3].partition.sessions["bob-1"].plan = None
    with caplog.at_level(logging.ERROR):
        detail = problem_of(await client.get("/v1/sessions/bob-1"), 500)
    assert "NoneType" not in detail
    assert "api_request_failed" in caplog.text
    assert TOKEN not in caplog.text


async def test_no_log_and_no_repr_shows_the_token(client, api, caplog):
    with caplog.at_level(logging.DEBUG):
        await client.get("/v1/partitions")
        await client.get("/v1/partitions", "wrong")
        await client.get(f"/v1/sessions?colour={TOKEN}")
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(api)


async def test_a_taken_port_is_named(api):
    other = Api(WorkerMetrics(), token=TOKEN, port=api.addr[1])
    with pytest.raises(AbsenceError, match=f"127.0.0.1:{api.addr[1]}.*another port"):
        await other.start()
    await other.stop()


async def test_stop_is_idempotent_and_closes_the_port():
    api = Api(WorkerMetrics(), token=TOKEN)
    await api.stop()
    await api.start()
    host, port = api.addr
    await api.stop()
    await api.stop()
    with pytest.raises(AbsenceError, match="not started"):
        _ = api.addr
    with socket.socket() as probe:
        assert probe.connect_ex((host, port)) != 0


async def test_without_a_token_it_makes_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    Api(WorkerMetrics())
    path = tmp_path / "session-monitor" / "token"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_weak_token_is_refused():
    with pytest.raises(InputError, match="token"):
        Api(WorkerMetrics(), token="secret")


async def test_it_can_be_told_how_others_reach_it():
    api = Api(WorkerMetrics(), token=TOKEN, advertise="https://monitor.example/w0/")
    assert api.url == "https://monitor.example/w0"


def test_what_is_loopback():
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.com", ""]))
