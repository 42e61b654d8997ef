"""A real sidecar beside a real worker: who uses a session keeps it, who is refused does not, and secrets stand nowhere."""

import json
import signal
import time
import uuid
from itertools import pairwise

import pytest

from monitor.broker.administration import apply_topics
from monitor.gateway.follower import present
from monitor.publish import hashed_session_id
from tests.conftest import World
from tests.gateway.asking import SESSION, WITH_COOKIE
from tests.gateway.promises import broken_promises
from tests.gateway.test_gateway_command import Process
from tests.gateway.worlds import monitor, until
from tests.kafka.plain import Worker, read_all

IDLE = 5.0
POLICY = "version: 1\ndefaults: {idle: 5s, absolute: 1h}\nrules: [{name: models, when: {route: ['/v1/models*']}, absolute: 50m}]\n"
NAME = "gateway/under-test"

pytestmark = pytest.mark.embedded


class Edge:
    """A worker and a sidecar on topics of their own."""

    def __init__(self, sidecar, worker, topics) -> None:
        self.sidecar, self.worker, self.topics = sidecar, worker, topics

    def records(self, topic: str):
        return read_all(self.topics.bootstrap_servers, f"{self.topics.prefix}{topic}")

    def said(self, topic: str, session_id: str) -> list[dict]:
        """What stands there of a session, in order."""
        values = [json.loads(record.value) for record in self.records(topic) if record.value]
        return [value for value in values if value.get("session_id") == session_id]

    def status(self, headers, path="/check") -> int:
        return self.sidecar.ask(path, headers)[0]

    def lives(self, headers) -> bool:
        """Without using it."""
        return self.status(headers, "/refusal") == 503

    def written(self) -> bytes:
        """All that was said anywhere: every topic, and both logs."""
        names = [f"{spec.name}" for spec in (self.topics.topics.access_events, self.topics.topics.session_commands, self.topics.topics.session_control)]
        names += [f"{self.topics.prefix}{name}" for name in ("session-lifecycle", "session-alerts", "enforcement-receipts", "dead-letters")]
        records = [record for name in names for record in read_all(self.topics.bootstrap_servers, name)]
        assert len(records) > 10
        parts = [part for record in records for part in (record.key, record.value, *(piece for _, piece in record.headers)) if part]
        return b"\n".join([*parts, "".join(self.sidecar.said).encode(), self.worker.log.read_bytes()])


@pytest.fixture
def begin(tmp_path, embedded, own_topics, monkeypatch):
    """Starts both, and waits until both serve."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    (tmp_path / "policy.yaml").write_text(POLICY)
    topics = own_topics(embedded)
    worker = Worker(*topics, tmp_path / "policy.yaml", tmp_path / "worker.log")
    begun = []

    def start(*options: str) -> Edge:
        worker.start()
        begun.append(Process(tmp_path, topics, "--name", NAME, *options))
        worker.wait_until_ready()
        until(lambda: begun[0].ask("/readyz")[0] == 200)
        return Edge(begun[0], worker, topics)

    yield start
    for process in begun:
        process._process.kill()
        process.close()
    worker.ensure_dead()


def use(edge: Edge, headers, seconds: float) -> list[float]:
    """Use a session for so long, every now and then; the instants at which it was."""
    instants = [time.monotonic()]
    while instants[-1] - instants[0] < seconds:
        assert edge.status(headers, "/check/v1/models/a") == 200 or time.monotonic() - instants[-1] > IDLE / 2, instants
        instants.append(time.monotonic())
        time.sleep(0.05)
    return instants


def test_a_session_lives_as_long_as_it_is_used_and_refusals_are_no_use(begin) -> None:
    edge = begin("--activity-granularity", "300ms", "--route", "/v1/models* classification=internal workload=inference route=/v1/models/a")
    secret = "c00kie-" + "x7Qz" * 5
    cookie = {"Cookie": f"session={secret}", "User-Agent": "curl/8", "X-Forwarded-For": "203.0.113.9"}
    name = hashed_session_id(secret)
    until(lambda: edge.status({"Cookie": "session=first"}) == 200)
    # On a machine that stands still for longer than the limit a session ends: then it was not used, and another try counts.
    until(lambda: edge.status(cookie) in (200, 401))
    assert edge.status(cookie) == 200
    instants = use(edge, cookie, 2.5 * IDLE)
    if max(after - before for before, after in pairwise(instants)) < IDLE / 2:
        assert edge.lives(cookie)
    until(lambda: not edge.lives(cookie))
    ended = present().wall
    for _ in range(5):
        assert edge.status(cookie) == 401
    figures = edge.sidecar.ask("/metrics")[2]
    assert b'activity_events_total{fate="lost"} 0.0' in figures
    assert b'activity_events_total{fate="coalesced"} 0.0' not in figures
    assert edge.sidecar.end(signal.SIGTERM) == 0

    said = edge.said("access-events", name)
    assert {one["type"] for one in said} == {"session.activity"}
    assert all(one["time"] < time_of(ended) for one in said)
    assert said[-1] | {"classification": "internal", "workload": "inference", "route": "/v1/models/a"} == said[-1]
    assert said[-1] | {"source": NAME, "client_ip": "203.0.113.9", "user_agent": "curl/8"} == said[-1]
    (command,) = [one for one in edge.said("session-commands", name) if one["type"] == "session.expire"]
    assert command["reason"] == "idle_timeout"
    assert [one["type"] for one in edge.said("session-lifecycle", name) if one["type"] == "session.late_activity"] == []
    # The source has said that it is alive, and then that it goes.
    alive = [json.loads(record.value) for record in edge.records("access-events") if b"source.alive" in record.value]
    assert {one["source"] for one in alive} == {NAME}
    assert sum(bool(one.get("final")) for one in alive) == 8
    assert broken_promises(edge.records("access-events")) == []
    assert edge.worker.stop() == 0
    assert secret.encode() not in edge.written()
    assert name.encode() in edge.written()


def time_of(millis: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis / 1000)) + f".{millis % 1000:03d}Z"


@pytest.mark.oidc
def test_a_newer_authentication_brings_an_expired_session_back_for_everybody(begin, oidc) -> None:
    options = ("--issuer", oidc.issuer, "--audience", "gateway", "--session-id", "claim:sid", "--roles-claim", "roles", "--tenant-claim", "org")
    edge = begin(*options)

    def token(auth_time: int) -> str:
        expires = int(time.time()) + 600
        return oidc.token(
            iss=oidc.issuer, aud="gateway", sub="alice", sid="s-81f2", auth_time=auth_time, exp=expires, acr="aal2", roles=["admin"], org="acme"
        )

    old = token(int(time.time()) - 60)
    with_old = {"Authorization": f"Bearer {old}"}
    until(lambda: edge.status(with_old) == 200)
    until(lambda: not edge.lives(with_old))
    assert edge.status(with_old) == 401
    new = token(int(time.time()))
    with_new = {"Authorization": f"Bearer {new}"}
    assert edge.status(with_new) == 200
    until(lambda: [one for one in edge.said("session-commands", "s-81f2") if one["type"] == "session.reinstate"])
    assert edge.status(with_old) == 401
    assert edge.sidecar.end(signal.SIGTERM) == 0
    said = edge.said("access-events", "s-81f2")
    (anew,) = [one for one in said if one["type"] == "session.reauthenticated"]
    assert {"subject": "alice", "principal": "user", "roles": ["admin"], "tenant": "acme", "acr": "aal2"}.items() <= anew.items()
    assert isinstance(anew["auth_time"], int)
    assert anew["auth_time"] > said[0]["auth_time"]
    assert [one for one in edge.said("session-lifecycle", "s-81f2") if one["type"] == "session.late_activity"] == []
    assert edge.worker.stop() == 0
    written = edge.written()
    for secret in (old, new):
        assert [part for part in secret.split(".")[1:] if part.encode() in written] == []


def test_where_activity_is_switched_off_nothing_is_published(begin) -> None:
    edge = begin("--no-activity")
    until(lambda: edge.status({"Cookie": "session=a"}) == 200)
    assert edge.sidecar.end(signal.SIGTERM) == 0
    assert edge.said("access-events", hashed_session_id("a")) == []
    assert not [record for record in edge.records("access-events") if b"source.alive" in record.value]


def test_what_is_not_there_at_the_start_is_waited_for_by_those_who_publish_too(tmp_path, embedded) -> None:
    topics = World(embedded.bootstrap_servers, f"t{uuid.uuid4().hex[:10]}-")
    sidecar = Process(tmp_path, topics, "--name", NAME)
    try:
        until(lambda: any("activity_waits" in line for line in sidecar.said))
        assert sidecar.ask("/check", WITH_COOKIE)[0] == 503
        apply_topics(embedded.connection, topics.topics, replication=1)
        with monitor(topics) as writer:
            until(lambda: writer.watermarks() or sidecar.ask("/check", WITH_COOKIE)[0] == 200)
            until(lambda: [record for record in read_all(topics.bootstrap_servers, topics.topics.access_events.name) if record.key == SESSION.encode()])
        assert sidecar.end(signal.SIGTERM) == 0
    finally:
        sidecar._process.kill()
        sidecar.close()
