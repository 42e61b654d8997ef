"""`publish`: each bad line is named, the good ones are sent as they stand."""

import json
import re
import uuid

import pytest
import typer
from kafka import KafkaConsumer, TopicPartition
from typer.testing import CliRunner

from monitor.cli.publish import READ_LIMIT, register
from monitor.core.errors import InputError
from monitor.wire.partitioner import partition_for
from tests.publish.worlds import BOTH, make_topic, world

GOOD = [
    b'{"type": "session.opened",  "session_id": "s-1", "subject": "alice"}',
    '{"type":"session.activity","session_id":"s-ü"}'.encode(),
]


@pytest.fixture(scope="module", params=BOTH)
def broker(request):
    with world(request) as address:
        yield address


@pytest.fixture
def topic(broker):
    """A topic of the test's own."""
    name = uuid.uuid4().hex[:8] + "-access-events"
    make_topic(broker, name)
    return name


@pytest.fixture
def run(broker, topic):
    program = typer.Typer()
    program.callback()(lambda: None)
    register(program)

    def run(*arguments, lines=b""):
        where = ["--bootstrap-servers", broker, "--topic-prefix", topic.removesuffix("access-events")]
        return CliRunner().invoke(program, ["publish", *where, *arguments], input=lines)

    return run


def records(address, topic):
    partitions = [TopicPartition(topic, number) for number in range(8)]
    consumer = KafkaConsumer(bootstrap_servers=address)
    try:
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(partitions)
        found = []
        while any(consumer.position(one) < ends[one] for one in partitions):
            found += [record for some in consumer.poll(500).values() for record in some]
        return found
    finally:
        consumer.close()


def test_good_lines_are_sent_as_they_stand_and_bad_ones_named(run, broker, topic, tmp_path):
    bad = [
        (b"{", "not_json"),
        (b'{"type":"session.opened"}', "missing_field: session_id"),
        (b'{"type":"session.opened","session_id":"~s"}', "bad_value: session_id must not begin"),
        (b'{"type":"session.jumped","session_id":"s"}', "unknown_type: type must be one of"),
        (b'{"type":"monitor.tick","session_id":"s"}', "reserved_type"),
        (
            b'{"type":"source.alive","source":"gw","time":"2026-11-23T07:09:00Z"}',
            "source.alive has to reach every partition",
        ),
        (b'{"type":"session.opened","session_id":"s","time":"noon"}', "bad_time: time"),
        (b"\xff\xfe", "not_"),
        (b'"' + b"x" * (READ_LIMIT + 10) + b'"', "too_large"),
    ]
    file = tmp_path / "events.ndjson"
    file.write_bytes(b"\n".join([GOOD[0], b"", *[line for line, _ in bad], b"  " + GOOD[1] + b" \r"]))
    result = run(str(file))
    assert result.exit_code == 2, result.output
    said = result.stderr.splitlines()
    for number, (_, reason) in enumerate(bad, start=3):
        assert re.match(f"line {number}: {re.escape(reason)}", said[number - 3]), said
    assert said[-1] == "published 2, bad 9, not delivered 0"
    assert result.stdout == ""
    found = records(broker, topic)
    assert sorted(record.value for record in found) == sorted(GOOD)
    assert {record.key for record in found} == {b"s-1", "s-ü".encode()}
    assert all(record.partition == partition_for(record.key, 8) for record in found)


def test_strict_stops_at_the_first_bad_line(run, broker, topic):
    result = run("--strict", lines=b"\n".join([GOOD[0], b"{", GOOD[1]]))
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "published 1, bad 1, not delivered 0"
    assert [record.value for record in records(broker, topic)] == [GOOD[0]]


def test_one_event_from_options(run, broker, topic):
    result = run(
        *["--type", "opened", "--session-id", "s-9", "--subject", "bob", "--role", "b", "--role", "a"],
        *[
            "--principal",
            "service",
            "--auth-time",
            "1795500000",
            "--kind",
            "agent",
            "--source",
            "me",
            "--id",
            "e-1",
        ],
        *["--time", "2026-11-24T06:00:00+01:00"],
    )
    assert result.exit_code == 0, result.output
    (record,) = records(broker, topic)
    assert json.loads(record.value) == {
        "type": "session.opened", "session_id": "s-9", "subject": "bob", "roles": ["a", "b"], "principal": "service",
        "auth_time": 1795500000, "activity": "agent", "source": "me", "id": "e-1", "time": "2026-11-24T05:00:00.000Z",
    }  # fmt: skip


def test_nothing_to_publish_is_no_error(run):
    result = run("-", lines=b"\n")
    assert (result.exit_code, result.stderr.strip()) == (0, "published 0, bad 0, not delivered 0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--session-id", "~s"], "begins with '~'"),
        (["--session-id", "s", "--type", "jumped"], "--type is 'jumped'; allowed are opened, activity"),
        (["--session-id", "s", "--principal", "robot"], "allowed are user, service"),
        (["--session-id", "s", "--auth-time", "noon"], "auth_time is 'noon'"),
        (["--subject", "alice"], "--subject describes one event, but there is no --session-id"),
        (["-", "--session-id", "s"], "not both"),
        (["/nonexistent/events"], "can't be read"),
    ],
)
def test_wrong_uses_are_told(run, arguments, said):
    result = run(*arguments)
    assert isinstance(result.exception, InputError), result.output
    assert said in str(result.exception)
