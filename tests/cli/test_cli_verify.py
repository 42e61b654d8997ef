"""`verify` as people type it, on topics written by hand."""

import json

import pytest
from kafka import KafkaProducer

from monitor.testing import Driver
from monitor.wire.commands import encode_command, encode_watermark
from monitor.wire.lifecycle import encode_lifecycle
from monitor.wire.partitioner import partition_for
from tests.kafka.plain import read_all

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(120)]

POLICY = "version: 1\ndefaults: {idle: 1h, absolute: 12h}\n"
PARTITION = partition_for(b"s-1", 8)


@pytest.fixture
def world(embedded, own_topics):
    """A session that was opened and closed, and all that its worker wrote of it; `leave_out` the command, or not."""

    def make(*, leave_out=False):
        servers, prefix = own_topics(embedded)
        producer = KafkaProducer(bootstrap_servers=servers)

        def write(topic, partition, key, value, headers=()):
            sent = producer.send(prefix + topic, key=key, value=value, partition=partition, headers=list(headers))
            return sent.get(20)

        said = {"type": "control.policy", "id": "policy", "by": "t", "reason": "t", "policy_text": POLICY, "policy_version": "0"}
        write("session-control", 0, b"policy", json.dumps(said).encode())
        write("session-commands", PARTITION, *encode_watermark(PARTITION, 0, 0, 0, 0))
        for type_ in ("session.activity", "session.closed"):
            write("access-events", PARTITION, b"s-1", json.dumps({"type": type_, "session_id": "s-1"}).encode())
        write("access-events", PARTITION, b"~tick", b'{"type":"monitor.tick","owner":"o","controls_to":0}')
        driver = Driver(POLICY, partition=PARTITION, partitions=8)
        for record in read_all(servers, f"{prefix}access-events"):
            driver.append(record.value, record.timestamp, key=record.key)
        for command in driver.commands if not leave_out else ():
            write("session-commands", PARTITION, *encode_command(command, command.log_time))
        for change in driver.lifecycle:
            write("session-lifecycle", 0, *encode_lifecycle(change))
        at = driver.partition.log_time + 1
        write("session-commands", PARTITION, *encode_watermark(PARTITION, at - 2000, at, 0, at))
        producer.close()
        return "--bootstrap-servers", servers, "--topic-prefix", prefix

    return make


def test_it_held(cli, world):
    said = cli("verify", *world())
    assert said.code == 0, said
    assert "held: 2 events, 1 commands" in said.err
    assert "JUDGED TO" in said.out


@pytest.mark.parametrize("form", ["table", "json", "ndjson"])
def test_a_command_is_missing(cli, world, form):
    said = cli("verify", *world(leave_out=True), "-o", form)
    assert said.code == 4, said
    assert "1 violations" in said.err
    if form == "json":
        (found,) = json.loads(said.out)["violations"]
        assert json.loads(said.out)["held"] is False
    elif form == "ndjson":
        (found,) = [row for row in map(json.loads, said.out.splitlines()) if row["row"] == "violation"]
    else:
        assert "missing" in said.out
        assert "s-1" in said.out
        return
    assert (found["wrong"], found["session_id"], found["epoch"]) == ("missing", "s-1", 0)
    assert found["topic"].endswith("access-events")
    assert (found["partition"], found["offset"]) == (PARTITION, 1)


def test_nothing_was_decided_yet(cli, embedded, own_topics):
    servers, prefix = own_topics(embedded)
    said = cli("verify", "--bootstrap-servers", servers, "--topic-prefix", prefix)
    assert said.code == 0, said
    assert "nothing was judged: no partition has a watermark" in said.err
    assert "held" not in said.err
