"""`receipts` and `commands tail --receipts`: who has applied what, by real gateways and by words on the topic."""

import json
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from kafka import KafkaProducer

from monitor.cli import follow, receipts
from monitor.cli.acknowledged import NAMED, told_line
from monitor.cli.failure import Refused as CheckRefused
from monitor.core.errors import AbsenceError, InputError
from monitor.gateway.follower import Follower, present
from monitor.gateway.metrics import GatewayMetrics
from monitor.gateway.receipt_log import ReceiptLog
from monitor.gateway.receipts import Receipts
from monitor.wire.receipts import Applied, Refused, Stopped, encode_receipt
from monitor.wire.times import Instant
from tests.cli.test_cli_follow import command
from tests.gateway.worlds import until

pytestmark = pytest.mark.embedded


def wall(ahead: int = 0) -> Instant:
    return Instant(time.time_ns() // 1_000_000 + ahead)


def tell(world, *told) -> None:
    world.write(world.topics.enforcement_receipts.name, *((0, encode_receipt(one)) for one in told))


def order(world, *session_ids: str) -> None:
    world.write(world.topics.session_commands.name, *((n % 3, command(name)) for n, name in enumerate(session_ids)))


@contextmanager
def gateway(world, name: str):
    """A gateway that follows, and tells how far it is."""
    connection, topics = world.installation.connection, world.topics
    follower = Follower(connection, topics)
    told = Receipts(follower, name, lambda: ReceiptLog(connection, topics.enforcement_receipts.name), present, GatewayMetrics())
    with ExitStack() as stack:
        stack.callback(told.stop, 20)
        stack.callback(follower.stop)
        follower.start()
        told.start()
        assert follower.wait_ready(30)
        yield follower


@pytest.fixture
def rows(world, run_verb):
    """The rows of `receipts`, by gateway."""

    def run(*options: str) -> dict[str, dict]:
        result = run_verb(receipts, "receipts", "-o", "ndjson", *options, *world.options)
        assert result.exit_code == 0, result.output
        return {row["gateway"]: row for row in map(json.loads, result.stdout.splitlines())}

    return run


def test_what_real_gateways_have_applied(world, rows) -> None:
    order(world, "before-1", "before-2", "before-3")
    with gateway(world, "gateway/a"), gateway(world, "gateway/b"):
        until(lambda: rows().keys() == {"gateway/a", "gateway/b"})
        order(world, "s-1", "s-2", "s-3", "s-4")
        until(lambda: all(row["enforced"] == 4 for row in rows().values()))
        for row in rows().values():
            assert (row["state"], row["lag"], row["control_lag"], row["unapplied"], row["oldest_unapplied"]) == ("running", 0, 0, 0, None)
            assert 0 <= row["p50_ms"] <= row["p99_ms"]
            assert (row["positions"], row["ends"]) == ({"0": 2, "1": 1, "2": 1}, {"0": 3, "1": 2, "2": 2})
    assert {row["state"] for row in rows().values()} == {"stopped"}


def test_a_gateway_that_lags_and_one_that_is_silent_are_named(world, rows, run_verb) -> None:
    tell(world, Applied("slow", {0: -1, 1: -1, 2: -1}, -1, wall(-1000), 42), Applied("gone", {0: -1}, -1, wall(-60_000)))
    tell(world, Stopped("over", wall(-2000)), Refused("slow", "s-0", wall(-500), 401, "c", 2))
    order(world, "s-1", "s-2", "s-3", "s-4")
    tell(world, Applied("fast", {0: 1, 1: 0, 2: 0}, -1, wall()), Applied("slow", {0: 0, 1: 0, 2: -1}, -1, wall(), 42))
    found = rows()
    assert {name: row["state"] for name, row in found.items()} == {"fast": "running", "gone": "silent", "over": "stopped", "slow": "running"}
    assert {name: (row["lag"], row["unapplied"]) for name, row in found.items()} == {"fast": (0, 0), "gone": (4, 4), "over": (4, 0), "slow": (2, 2)}
    slow = found["slow"]
    assert (slow["oldest_unapplied"]["session_id"] in ("s-3", "s-4"), slow["refused"], slow["inflight_cut"], slow["view_age_ms"]) == (True, 1, 2, 42)
    assert found["gone"].keys() == slow.keys()
    result = run_verb(receipts, "receipts", "--max-delay", "1h", *world.options)
    assert isinstance(result.exception, CheckRefused)
    assert "gone has been silent for" in str(result.exception)
    assert "slow" not in str(result.exception)
    until(lambda: "slow has 2 commands unapplied, the oldest of 's-" in str(run_verb(receipts, "receipts", "--max-delay", "1s", *world.options).exception))


def test_an_old_command_that_somebody_lacks_is_found_however_short_the_window(world, rows, monkeypatch) -> None:
    order(world, "s-1", "s-2")
    # By the clock of whoever looks, the command came an hour ago.
    monkeypatch.setattr(receipts, "time", AnHourLater)
    producer = KafkaProducer(bootstrap_servers=world.servers)
    record = encode_receipt(Applied("slow", {0: -1, 1: 0}, -1, wall(3_600_000)))
    producer.send(world.topics.enforcement_receipts.name, key=record.key, value=record.value, timestamp_ms=int(wall(3_600_000)))
    producer.close()
    (row,) = rows("--since", "10s").values()
    assert (row["unapplied"], row["oldest_unapplied"]["session_id"], row["oldest_ms"] >= 3_600_000) == (1, "s-1", True)


class AnHourLater:
    """Stands in for the module `time`."""

    @staticmethod
    def time_ns() -> int:
        return time.time_ns() + 3600 * 10**9


def test_how_far_each_is_on_each_partition(world, run_verb) -> None:
    order(world, "s-1", "s-2")
    tell(world, Applied("one", {0: 0}, -1, wall()))
    result = run_verb(receipts, "receipts", "--by-partition", "-o", "ndjson", *world.options)
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"gateway": "one", "partition": 0, "applied": 0, "end": 1, "lag": 0}, {"gateway": "one", "partition": 1, "applied": -1, "end": 1, "lag": 1},
        {"gateway": "one", "partition": 2, "applied": -1, "end": 0, "lag": 0},
    ]  # fmt: skip
    table = run_verb(receipts, "receipts", *world.options).stdout
    assert ("GATEWAY" in table, "P99 MS" in table, "running" in table) == (True, True, True)


def test_without_a_gateway_that_is_said_and_a_check_refuses(world, run_verb) -> None:
    result = run_verb(receipts, "receipts", *world.options)
    assert (result.exit_code, "no gateway has told anything in the last 10m" in result.stderr) == (0, True)
    result = run_verb(receipts, "receipts", "--max-delay", "10s", *world.options)
    assert isinstance(result.exception, CheckRefused)


def test_a_record_that_is_no_receipt_is_passed_over_and_said(world, rows, run_verb) -> None:
    world.write(world.topics.enforcement_receipts.name, (0, (b"g", b"{", [])))
    tell(world, Applied("one", {0: -1}, -1, wall()))
    assert rows().keys() == {"one"}
    assert "offset 0 is no receipt" in run_verb(receipts, "receipts", *world.options).stderr


@pytest.mark.parametrize("options", [("--since", "1s"), ("--since", "8d"), ("--max-delay", "1ms"), ("--max-delay", "soon")])
def test_windows_have_bounds(world, run_verb, options) -> None:
    assert isinstance(run_verb(receipts, "receipts", *options, *world.options).exception, InputError)


def test_topics_that_are_not_there_are_named(embedded, run_verb) -> None:
    result = run_verb(receipts, "receipts", "--bootstrap-servers", embedded.bootstrap_servers, "--topic-prefix", "absent-")
    assert isinstance(result.exception, AbsenceError)
    assert "absent-session-commands" in str(result.exception)


# --- commands tail --receipts -------------------------------------------------------------------------------------


def tailed(result) -> dict[str, tuple]:
    assert result.exit_code == 0, result.output
    lines = map(json.loads, result.stdout.splitlines())
    return {line["session_id"]: (line["applied_ms"], line["unapplied_by"]) for line in lines}


def test_each_command_tells_who_has_applied_it(world, run_verb) -> None:
    tell(world, Applied("fast", {0: -1}, -1, wall()), Applied("slow", {0: -1}, -1, wall()))
    order(world, "s-1")
    until(lambda: wall() % 2 == 0)
    tell(world, Applied("fast", {0: 0}, -1, wall()))
    found = tailed(run_verb(follow, "commands", "tail", "--receipts", "--from-beginning", "--no-follow", "-o", "ndjson", *world.options))
    (took,) = found["s-1"][0].items()
    assert (took[0], took[1] >= 0, found["s-1"][1]) == ("fast", True, ["slow"])
    text = run_verb(follow, "commands", "tail", "--receipts", "--from-beginning", "--no-follow", *world.options).stdout
    assert f"applied by fast +{took[1]}ms; not yet by slow" in text


def test_a_command_waits_for_those_who_run_and_not_for_ever(world, run_verb, monkeypatch) -> None:
    monkeypatch.setattr(follow.Acknowledgements.__module__ + ".WAIT", 20_000)
    with gateway(world, "gateway/a"), gateway(world, "gateway/b"):
        done = threading.Event()

        def write() -> None:
            while not done.wait(0.2):
                order(world, "s-1")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            found = tailed(run_verb(follow, "commands", "tail", "--receipts", "-n", "3", "-o", "ndjson", *world.options))
        finally:
            done.set()
            writer.join()
    assert found["s-1"][0].keys() == {"gateway/a", "gateway/b"}
    assert found["s-1"][1] == []
    monkeypatch.setattr(follow.Acknowledgements.__module__ + ".WAIT", 1)
    tell(world, Applied("mute", {0: -1}, -1, wall()))
    done = threading.Event()
    writer = threading.Thread(target=lambda: [order(world, "s-2") for _ in iter(lambda: done.wait(0.2), True)])
    writer.start()
    try:
        found = tailed(run_verb(follow, "commands", "tail", "--receipts", "-n", "1", "-o", "ndjson", *world.options))
    finally:
        done.set()
        writer.join()
    assert found["s-2"][1] == ["mute"]


def test_how_a_line_says_it() -> None:
    assert told_line({}) == "no gateway tells"
    assert told_line({"a": 3, "b": None}) == "applied by a +3ms; not yet by b"
    many = {f"g-{n}": n for n in range(NAMED + 1)} | {f"h-{n}": None for n in range(NAMED + 2)}
    assert told_line(many) == "applied by 5 gateways within 4ms; not yet by h-0, h-1, h-2, h-3 and 2 more"
    assert told_line({"a\x1b[2J": 1}) == "applied by a\N{REPLACEMENT CHARACTER}[2J +1ms"
