"""`dead-letters`: what is there, byte for byte, and the way back."""

import json
from base64 import b64decode, b64encode
from types import SimpleNamespace

import pytest

from monitor.cli import dead_letters
from monitor.cli.failure import NotFound
from monitor.core.errors import InputError
from monitor.wire.dead_letters import encode_dead_letter, encode_refused_dead_letter
from monitor.wire.partitioner import partition_for
from tests.cli.embedded_topics import PARTITIONS

GOOD = b'{"type": "session.activity", "session_id": "s-1", "time": "2026-11-23T07:09:00.123Z"}'
TIMELESS = b'{"type":"session.activity","session_id":"s-2"}'
OWN = [("traceparent", b"00-1"), ("binary", b"\xff\x00")]


def put_aside(value, reason="not_json", headers=(), key=b"old-key", offset=41):
    record = SimpleNamespace(offset=offset, key=key, value=value, headers=list(headers))
    return 0, encode_dead_letter(record, reason, "what was wrong", "access-events", 2)


@pytest.fixture
def letters(world):
    topic = world.topics.dead_letters.name
    refused = SimpleNamespace(offset=45, key=None, value=b"x" * 10, headers=[])
    world.write(
        topic,
        put_aside(b'{"broken', headers=OWN),
        put_aside(b"\xff\xfe", "not_utf8", key=None),
        put_aside(GOOD, "subject_mismatch", headers=OWN),
        put_aside(TIMELESS, "subject_mismatch"),
        (0, encode_refused_dead_letter(refused, "too_large", "access-events", 2)),
        put_aside(None, "tombstone"),
        (0, (b"stray", b"no dead letter", [])),
    )
    return world


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def back(world):
    return world.read(world.topics.access_events.name)


@pytest.mark.embedded
class TestList:
    def test_everything_as_it_came(self, letters, run_verb):
        result = run_verb(dead_letters, "dead-letters", "list", "-o", "ndjson", *letters.options)
        assert result.exit_code == 0, result.output
        rows = lines(result)
        assert [row["id"] for row in rows] == ["0:0", "0:1", "0:2", "0:3", "0:4", "0:5"]
        assert rows[0]["value"] == '{"broken'
        assert [(name, b64decode(said)) for name, said in rows[0]["headers"]] == OWN
        assert b64decode(rows[1]["value_base64"]) == b"\xff\xfe"
        assert "value" not in rows[5]
        assert len(rows[4]["sha256"]) == 64
        assert (rows[0]["topic"], rows[0]["partition"], rows[0]["offset"]) == ("access-events", 2, 41)
        assert "0:6" in result.stderr

    def test_by_reason_and_only_the_newest(self, letters, run_verb):
        arguments = ["--reason", "subject_mismatch", "-n", "1", "-o", "ndjson", *letters.options]
        assert [row["id"] for row in lines(run_verb(dead_letters, "dead-letters", "list", *arguments))] == [
            "0:3"
        ]

    def test_a_table_for_people(self, letters, run_verb):
        result = run_verb(dead_letters, "dead-letters", "list", *letters.options)
        assert result.exit_code == 0
        assert "access-events/2@41" in result.stdout

    def test_one(self, letters, run_verb):
        result = run_verb(dead_letters, "dead-letters", "show", "0:0", "-o", "ndjson", *letters.options)
        assert lines(result)[0]["value"] == '{"broken'
        assert '{"broken' in run_verb(dead_letters, "dead-letters", "show", "0:0", *letters.options).stdout
        missing = run_verb(dead_letters, "dead-letters", "show", "0:99", *letters.options)
        assert isinstance(missing.exception, NotFound)
        assert "0:99" in str(missing.exception)


@pytest.mark.embedded
class TestReplay:
    def replay(self, run_verb, world, *arguments, **options):
        return run_verb(dead_letters, "dead-letters", "replay", *arguments, *world.options, **options)

    def test_repaired_ones_go_back_under_their_sessions_id(self, letters, run_verb, tmp_path):
        exported = lines(run_verb(dead_letters, "dead-letters", "list", "-o", "ndjson", *letters.options))
        repaired = exported[0] | {"value": GOOD.decode()}
        file = tmp_path / "repaired.ndjson"
        file.write_text(json.dumps(repaired) + "\n\n")
        result = self.replay(run_verb, letters, "--repaired", str(file))
        assert result.exit_code == 0, result.output
        assert "put back 1, left out 0" in result.stdout
        (record,) = back(letters)
        assert (record.key, record.value) == (b"s-1", GOOD)
        assert record.partition == partition_for(b"s-1", PARTITIONS)
        assert list(record.headers) == OWN

    def test_an_object_and_a_bare_event_from_stdin(self, world, run_verb):
        text = json.dumps({"value": json.loads(GOOD)}).encode() + b"\n" + GOOD + b"\n"
        result = self.replay(run_verb, world, "--repaired", "-", input=text)
        assert result.exit_code == 0, result.output
        first, second = back(world)
        assert json.loads(first.value) == json.loads(second.value) == json.loads(GOOD)

    def test_what_is_still_bad_is_named_and_the_rest_goes_back(self, world, run_verb):
        text = b"\n".join([
            b"no json", GOOD, b'{"value": "{"}', b"[1]", b"{}", b'{"value_base64": "!"}',
            b'{"type": "monitor.tick", "session_id": "x"}', b'{"value": {"type": "session.activity"}}',
        ])  # fmt: skip
        result = self.replay(run_verb, world, "--repaired", "-", input=text)
        assert result.exit_code == 2
        assert "put back 1, left out 7" in result.stdout
        assert all(f"line {number}" in result.stderr for number in (1, 3, 4, 5, 6, 7, 8))
        assert len(back(world)) == 1

    def test_as_they_are(self, letters, run_verb):
        result = self.replay(run_verb, letters, "--as-is", "--reason", "subject_mismatch")
        assert result.exit_code == 0, result.output
        records = {record.key: record for record in back(letters)}
        assert records.keys() == {b"s-1", b"s-2"}
        assert records[b"s-1"].value == GOOD
        assert list(records[b"s-1"].headers) == OWN
        assert all(record.partition == partition_for(record.key, PARTITIONS) for record in records.values())

    def test_a_late_replay_rescues_nobody(self, letters, run_verb):
        aside = next(r for r in letters.read(letters.topics.dead_letters.name) if r.value == TIMELESS)
        self.replay(run_verb, letters, "0:3", "--as-is")
        (record,) = back(letters)
        said = json.loads(record.value)
        assert said["session_id"] == "s-2"
        exported = lines(
            run_verb(dead_letters, "dead-letters", "show", "0:3", "-o", "ndjson", *letters.options)
        )
        assert said["time"] == exported[0]["at"]
        assert exported[0]["timestamp"] == aside.timestamp

    def test_all_of_them_leaves_out_what_can_not_be_understood(self, letters, run_verb):
        result = self.replay(run_verb, letters, "--as-is")
        assert result.exit_code == 2
        assert "put back 2, left out 4" in result.stdout
        assert "0:4: only its SHA-256 was kept" in result.stderr

    def test_a_dry_run_puts_nothing_back(self, letters, run_verb):
        result = self.replay(run_verb, letters, "--as-is", "--dry-run")
        assert "would put back 2" in result.stdout
        assert back(letters) == []

    def test_a_cloudevent_whose_body_was_not_utf8_can_come_back(self, world, run_verb):
        headers = [(f"ce_{name}", said) for name, said in {
            "specversion": b"1.0", "id": b"1", "source": b"/x", "type": b"session.closed", "subject": b"s-7",
        }.items()]  # fmt: skip
        line = {"value": "{}", "headers": [(name, b64encode(said).decode()) for name, said in headers]}
        result = self.replay(run_verb, world, "--repaired", "-", input=json.dumps(line).encode())
        assert result.exit_code == 0, result.output
        (record,) = back(world)
        assert record.key == b"s-7"
        assert list(record.headers) == headers


@pytest.mark.parametrize(
    "arguments",
    [[], ["--repaired", "x", "--as-is"], ["0:1", "--repaired", "x"], ["--reason", "x", "--repaired", "x"]],
)
def test_what_can_not_be_meant_is_refused(run_verb, arguments):
    result = run_verb(dead_letters, "dead-letters", "replay", *arguments)
    assert isinstance(result.exception, InputError)


def test_a_file_that_is_not_there_is_named(run_verb, tmp_path):
    result = run_verb(dead_letters, "dead-letters", "replay", "--repaired", str(tmp_path / "none"))
    assert isinstance(result.exception, InputError)
    assert "none" in str(result.exception)
