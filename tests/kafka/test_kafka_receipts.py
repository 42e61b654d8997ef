"""Two gateways on Apache Kafka, one of which hangs: the receipts name it, and what it does not enforce."""

import json
import signal
from contextlib import ExitStack

import pytest

from tests.gateway.asking import SESSION, WITH_COOKIE
from tests.gateway.test_gateway_command import Process
from tests.gateway.worlds import monitor, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


@pytest.fixture
def rows(kafka_topics, cli):
    """What `session-monitor receipts` says of each gateway."""

    def run() -> dict[str, dict]:
        ended = cli("receipts", "-o", "json", "--bootstrap-servers", kafka_topics.bootstrap_servers, "--topic-prefix", kafka_topics.prefix)
        assert ended.code == 0, ended.err
        return {row["gateway"]: row for row in json.loads(ended.out)}

    return run


def test_a_gateway_that_hangs_is_named_with_what_it_does_not_enforce(kafka_topics, tmp_path, rows, cli) -> None:
    where = ["--bootstrap-servers", kafka_topics.bootstrap_servers, "--topic-prefix", kafka_topics.prefix]
    with monitor(kafka_topics) as writer, ExitStack() as stack:
        writer.end("loaded")
        going, hanging = (Process(tmp_path, kafka_topics, "--name", name) for name in ("gateway/going", "gateway/hanging"))
        for one in (going, hanging):
            stack.callback(one.close)
            stack.callback(one._process.kill)
        until(lambda: rows().keys() == {"gateway/going", "gateway/hanging"})
        writer.watermarks()
        writer.end(SESSION, *(f"s-{n}" for n in range(20)))
        until(lambda: {row["enforced"] >= 21 and row["lag"] == 0 for row in rows().values()} == {True})
        until(lambda: going.ask("/check", WITH_COOKIE)[0] == 401)

        hanging._process.send_signal(signal.SIGSTOP)
        writer.end(*(f"late-{n}" for n in range(10)))
        until(lambda: rows()["gateway/going"]["unapplied"] == 0)
        found = rows()
        assert (found["gateway/going"]["state"], found["gateway/going"]["refused"]) == ("running", 1)
        assert (found["gateway/hanging"]["unapplied"], found["gateway/hanging"]["refused"]) == (10, 0)
        assert found["gateway/hanging"]["oldest_unapplied"]["session_id"].startswith("late-")
        until(lambda: rows()["gateway/hanging"]["state"] == "silent")
        checked = cli("receipts", "--max-delay", "10s", *where)
        assert (checked.code, "gateway/hanging has been silent for" in checked.err, "10 commands unapplied" in checked.err) == (4, True, True)
        assert "gateway/going" not in checked.err
        told = cli("commands", "tail", "--receipts", "--from-beginning", "--no-follow", "--session", "late-0", "-o", "json", *where)
        assert (list(json.loads(told.out)["applied_ms"]), json.loads(told.out)["unapplied_by"]) == (["gateway/going"], ["gateway/hanging"])

        hanging._process.send_signal(signal.SIGCONT)
        until(lambda: rows()["gateway/hanging"]["unapplied"] == 0)
        row = rows()["gateway/hanging"]
        # It says itself how long that took: at least until it was called silent.
        assert (row["state"], row["enforced"], row["p99_ms"] > 10_000 > row["p50_ms"]) == ("running", 31, True)
        assert cli("receipts", "--max-delay", "10s", *where).code == 0
        assert [one.end(signal.SIGTERM) for one in (going, hanging)] == [0, 0]
        assert {row["state"] for row in rows().values()} == {"stopped"}
