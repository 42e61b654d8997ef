"""`session-monitor doctor`: each finding says what to do."""

import json
import socket
import threading
import time
import uuid

import pytest

from monitor.broker import checkup
from monitor.broker.administration import apply_topics
from monitor.broker.checkup import Grade, check_brokers
from monitor.broker.clients import administrator, producer
from monitor.broker.connection import Connection
from monitor.broker.port import free_port
from monitor.broker.premises import check_premises
from monitor.wire.topics import Topics


def examined(cli, *arguments):
    ended = cli("doctor", "-o", "json", *arguments)
    return ended.code, {row["check"]: row for row in json.loads(ended.out)}


@pytest.fixture
def topics(embedded):
    topics = Topics(f"d{uuid.uuid4().hex[:8]}-", 2)
    apply_topics(embedded.connection, topics)
    return topics


@pytest.mark.embedded
def test_all_is_well(cli, embedded, topics):
    code, found = examined(
        cli,
        "--bootstrap-servers",
        embedded.bootstrap_servers,
        "--topic-prefix",
        topics.prefix,
        "--partitions",
        "2",
    )
    assert code == 0
    assert {row["result"] for row in found.values()} <= {"ok", "note"}
    assert found["clock"]["result"] == "ok"
    assert found["topics"]["what"] == "9 are as they have to be"
    assert found["compiled extensions"]["result"] == "ok"
    assert "replays" not in found
    with administrator(embedded.connection) as admin:
        assert not [name for name in admin.list_topics() if "doctor" in name], "its own topic is gone"


@pytest.mark.embedded
def test_without_append_times_replays_are_said_not_to_be_exact(embedded):
    topics = Topics(f"d{uuid.uuid4().hex[:8]}-", 2)
    stamped = topics.access_events
    wanted = {"num_partitions": 2, "replication_factor": 1, "configs": stamped.configs | {"message.timestamp.type": "CreateTime"}}
    with administrator(embedded.connection) as admin:
        admin.create_topics({stamped.name: wanted}, wait_for_metadata=True)
    apply_topics(embedded.connection, topics)
    found = {one.about: one for one in check_brokers(embedded.connection, topics)}
    assert found["replays"].grade is Grade.NOTE
    assert found["replays"].what.startswith(f"not exact: without append times on {stamped.name}")


@pytest.mark.embedded
def test_topics_in_disorder_fail_with_what_to_do(cli, embedded, topics):
    code, found = examined(
        cli,
        "--bootstrap-servers",
        embedded.bootstrap_servers,
        "--topic-prefix",
        topics.prefix,
        "--partitions",
        "4",
    )
    assert code == 1
    fault = found[f"topic {topics.access_events.name}"]
    assert (fault["result"], fault["what"]) == ("failure", "has 2 partitions, needs 4")
    assert "--partitions 2" in fault["do"]


def test_no_broker_is_a_failure_beside_what_is_well(cli):
    code, found = examined(cli, "--bootstrap-servers", f"127.0.0.1:{(port := free_port())}")
    assert code == 1
    assert found[f"broker 127.0.0.1:{port}"]["result"] == "failure"
    assert found[f"broker 127.0.0.1:{port}"]["do"].startswith("start the broker")
    assert found["versions"]["result"] == "ok"


def test_a_web_server_is_called_one(cli):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def reply():
            with listening.accept()[0] as talk:
                talk.recv(100)
                talk.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=reply)
        thread.start()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        code, found = examined(cli, "--bootstrap-servers", address)
        thread.join(10)
    assert code == 1
    assert found[f"broker {address}"]["what"] == "is a web server, not a Kafka broker"
    assert found[f"broker {address}"]["do"] == "check the port"


@pytest.mark.embedded
@pytest.mark.parametrize("ahead", [5000, -5000])
def test_clocks_apart_are_a_failure(embedded, topics, monkeypatch, ahead):
    monkeypatch.setattr(checkup, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(checkup, "_now", lambda: time.time_ns() // 1_000_000 - ahead)
    (clock,) = (one for one in check_brokers(embedded.connection, topics) if one.about == "clock")
    assert clock.grade is Grade.FAILURE
    assert clock.what == f"the broker's is 5.0 s {'ahead of' if ahead > 0 else 'behind'} this host's"
    assert "NTP" in clock.advice


@pytest.mark.embedded
def test_traffic_tells_the_clock_without_a_topic_of_its_own(embedded, topics, monkeypatch):
    monkeypatch.setattr(checkup, "_PATIENCE_SECONDS", 20.0)
    monkeypatch.setattr(checkup, "_measured", lambda *_: pytest.fail("there was traffic"))
    done = threading.Event()

    def tick():
        with producer(embedded.connection) as client:
            while not done.wait(0.05):
                client.send(topics.access_events.name, key=b"~tick", value=b"{}", partition=0)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        (clock,) = (one for one in check_brokers(embedded.connection, topics) if one.about == "clock")
    finally:
        done.set()
        thread.join(20)
    assert clock.grade is Grade.OK


def test_what_is_not_installed_is_named_with_how_to(tmp_path):
    found = {
        one.about: one
        for one in check_premises(lambda name: None if name in ("faust", "noida_db") else tmp_path)
    }
    assert found["extra worker"].grade is Grade.NOTE
    assert found["extra worker"].what == "not installed (faust missing)"
    assert "session-monitor[worker]" in found["extra worker"].advice
    assert "session-monitor[embedded]" in found["extra embedded"].advice


def test_missing_compiled_extensions_are_a_failure(tmp_path, monkeypatch):
    def compiled():
        return next(one for one in check_premises(lambda _: tmp_path) if one.about == "compiled extensions")

    missing = compiled()
    assert missing.grade is Grade.FAILURE
    assert "pip install" in missing.advice
    (tmp_path / "record" / "_crecords").mkdir(parents=True)
    (tmp_path / "record" / "_crecords" / "default_records.cpython-311-x86_64-linux-gnu.so").touch()
    assert compiled().grade is Grade.OK
    monkeypatch.setenv("AIOKAFKA_NO_EXTENSIONS", "1")
    assert compiled().advice == "unset it"


def test_a_broker_that_cannot_be_reached_ends_the_checks():
    checks = list(check_brokers(Connection(bootstrap_servers=f"127.0.0.1:{free_port()}"), Topics()))
    assert [one.grade for one in checks] == [Grade.FAILURE]
