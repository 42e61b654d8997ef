"""`session-monitor topics` as an operator meets it."""

import json
import uuid

import pytest


@pytest.fixture
def options(embedded):
    return (
        "--bootstrap-servers",
        embedded.bootstrap_servers,
        "--topic-prefix",
        f"c{uuid.uuid4().hex[:8]}-",
        "--partitions",
        "3",
    )


@pytest.mark.embedded
def test_verify_refuses_apply_makes_verify_agrees(cli, options):
    before = cli("topics", "verify", *options, "-o", "json")
    assert before.code == 4
    assert {row["finding"] for row in json.loads(before.out)} == {"missing"}
    assert "9 findings: a worker must not start on these topics" in before.err
    made = cli("topics", "apply", *options)
    assert made.code == 0
    assert len(made.out.split()) == 9
    assert "9 topics made, 0 were there" in made.err
    after = cli("topics", "verify", *options, "-o", "json")
    assert (after.code, json.loads(after.out)) == (0, [])
    again = cli("topics", "apply", *options)
    assert (again.code, again.out) == (0, "")
    assert "0 topics made, 9 were there" in again.err


@pytest.mark.embedded
def test_another_partition_count_is_refused_with_what_to_do(cli, options):
    cli("topics", "apply", *options)
    for verb in ("apply", "verify"):
        ended = cli("topics", verb, *options[:-1], "4")
        assert ended.code == 4
        assert "has 3 partitions, needs 4" in ended.out
        assert "--partitions 3" in ended.out


def test_show_needs_no_broker(cli):
    ended = cli("topics", "show", "--topic-prefix", "p-", "-o", "ndjson")
    assert ended.code == 0
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert len(rows) == 9
    assert rows[0]["topic"] == "p-access-events"
    assert rows[0]["settings"]["message.timestamp.type"] == "LogAppendTime"
