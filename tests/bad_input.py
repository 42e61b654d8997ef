"""Bad input as an acceptance suite: the corpus between good records, through a running worker, and back again.

Nothing of ours writes the input or reads the topics; what people type (`dead-letters`) is run as they run it. The same
suite runs on the embedded broker and on Apache Kafka.
"""

import hashlib
import json
import subprocess
import sys
import time
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer
from kafka import KafkaProducer

from tests.data.bad_records import BadCase, bad_records
from tests.kafka.plain import Worker, read_all

POLICY: Final = """
version: 1
timing: {lateness: 500ms}
defaults: {idle: 4s, absolute: 1h}
"""
PARTITIONS: Final = 8
PREFIX: Final = "dead_letter_"
MIB: Final = 1 << 20
LIMIT: Final = 1_048_588
"""max.message.bytes of access-events."""

STRANGE: Final = [
    BadCase("keys that are not UTF-8", "not_json", b"\xff\x00\xfe", b'{"type":"session.activity",', []),
    BadCase("an empty key", "not_json", b"", b"{", []),
    BadCase("a key of 2000 bytes", "not_json", b"k" * 2000, b"{", []),
    BadCase(
        "headers of every shape", "not_json", b"s-1", b"\x00",
        [("traceparent", b"00-1"), ("same", b"1"), ("same", b"2"), ("", b"nameless"), ("binary", b"\xff\x00"), ("n\u00e4me", b"")],
    ),
    BadCase("headers of 40 KiB", "empty", None, b"", [(f"h{number}", b"x" * 4096) for number in range(10)]),
    BadCase("the largest that the topic takes uncompressed", "too_large", b"s-1", b"y" * (LIMIT - 100), []),
]  # fmt: skip
"""What a plain producer can do besides: keys, headers and sizes of records, byte for byte as well."""

NOTHING: Final = [
    BadCase("neither key nor value", "tombstone", None, None, []),
    BadCase("headers without a value", "tombstone", b"s-1", None, [("void", None), ("full", b"x")]),
]
"""Records that kafka-python won't send, but librdkafka does."""

REFUSED: Final = [
    BadCase("2 MiB, compressed to nothing", "too_large", b"s-1", b"z" * (2 * MIB), [("traceparent", b"00-2")]),
    BadCase("2 MiB under a long key", "too_large", b"k" * 2000, b"w" * (2 * MIB), []),
]
"""Compressed they pass the limit of access-events; as they are, dead-letters refuses them."""


class Sent:
    """What was written, and where the broker put it."""

    def __init__(self) -> None:
        self.bad: dict[tuple[int, int], BadCase] = {}
        self.refused: dict[tuple[int, int], BadCase] = {}
        self.good: Counter[str] = Counter()
        """Events of each good session."""


def home(session_id: str) -> int:
    """The partition that a plain kafka-python producer chooses."""
    from kafka.partitioner.default import murmur2

    return (murmur2(session_id.encode()) & 0x7FFFFFFF) % PARTITIONS


def good_sessions() -> list[str]:
    """One for each partition."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < PARTITIONS:
        found.setdefault(home(f"good-{number}"), f"good-{number}")
        number += 1
    return [found[partition] for partition in range(PARTITIONS)]


def activity(session_id: str, **members: Any) -> bytes:
    return json.dumps({"type": "session.activity", "session_id": session_id, **members}).encode()


def write_corpus(bootstrap: str, topic: str) -> Sent:
    """Each bad record between two good ones of its partition, as fast as a producer goes."""
    sent, sessions = Sent(), good_sessions()
    stranger = BadCase("another subject", "subject_mismatch", None, None, [])
    mismatches = [
        stranger._replace(value=activity(session, subject="mallory"), key=session.encode()) for session in sessions
    ]
    plain = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5, max_request_size=4 * MIB)
    # Small on the wire and in the log, so that the topic's limit lets it pass.
    packed = KafkaProducer(
        bootstrap_servers=bootstrap, acks="all", max_request_size=4 * MIB, compression_type="gzip"
    )
    futures: list[tuple[BadCase, Any]] = []

    def good(partition: int) -> None:
        session = sessions[partition]
        plain.send(topic, key=session.encode(), value=activity(session, subject=f"user-of-{session}"))
        sent.good[session] += 1

    try:
        for partition in range(PARTITIONS):
            good(partition)
        plain.flush()  # the sessions have their subjects before somebody else claims them
        for number, case in enumerate([*map(_sendable, bad_records()), *STRANGE, *mismatches, *REFUSED]):
            partition = number % PARTITIONS if case.reason != "subject_mismatch" else home(case.key.decode())
            producer = packed if len(case.value or b"") > LIMIT - 200 else plain
            good(partition)
            futures.append(
                (case, producer.send(topic, partition=partition, key=case.key, value=case.value, headers=case.headers))
            )
            good(partition)
        for case, future in futures:
            place = future.get(timeout=30)
            (sent.refused if case in REFUSED else sent.bad)[place.partition, place.offset] = case
        for case in NOTHING:
            sent.bad[_by_librdkafka(bootstrap, topic, case)] = case
        good(0)
        plain.flush()
    finally:
        plain.close()
        packed.close()
    return sent


def _sendable(case: BadCase) -> BadCase:
    """kafka-python sends no record without key and value."""
    return case._replace(key=b"s-1") if case.value is None and case.key is None else case


def _by_librdkafka(bootstrap: str, topic: str, case: BadCase) -> tuple[int, int]:
    places = []
    producer = Producer({"bootstrap.servers": bootstrap, "allow.auto.create.topics": False})
    producer.produce(
        topic, value=case.value, key=case.key, partition=0, headers=case.headers,
        on_delivery=lambda error, message: places.append((error, message.partition(), message.offset())),
    )  # fmt: skip
    assert producer.flush(30) == 0
    ((error, partition, offset),) = places
    assert error is None
    return partition, offset


def dead_letters(bootstrap: str, prefix: str) -> list[tuple[tuple[int, int], dict[str, str], Any]]:
    """(the position it came from, our headers without their prefix, the record) of each."""
    found = []
    for record in read_all(bootstrap, f"{prefix}dead-letters"):
        ours = {name.removeprefix(PREFIX): said.decode() for name, said in record.headers if name.startswith(PREFIX)}
        found.append(((int(ours["partition"]), int(ours["offset"])), ours, record))
    return found


def until(condition: Callable[[], bool], what: str, worker: Worker, seconds: float = 40) -> None:
    """Return as soon as it is so; fails with the end of the worker's log where it does not come to be."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert worker.process is not None
        assert worker.process.poll() is None, f"the worker ended:\n{worker.tail()}"
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s\n{worker.tail()}")
        time.sleep(0.2)


def ends(bootstrap: str, prefix: str) -> dict[str, list[dict[str, Any]]]:
    """The lifecycle records of expiry, by session."""
    found = defaultdict(list)
    for record in read_all(bootstrap, f"{prefix}session-lifecycle"):
        said = json.loads(record.value)
        if said["type"] == "session.expired":
            found[said["session_id"]].append(said)
    return found


def expired(bootstrap: str, prefix: str) -> set[str]:
    """The sessions that gateways were ordered to end."""
    found = set()
    for record in read_all(bootstrap, f"{prefix}session-commands"):
        said = json.loads(record.value or b"{}")
        if said.get("type") == "session.expire":
            found.add(said["session_id"])
    return found


@contextmanager
def running(bootstrap: str, prefix: str, directory: Path) -> Iterator[Worker]:
    """A worker; it must be there still at the end, and end in order."""
    policy = directory / "policy.yaml"
    policy.write_text(POLICY)
    worker = Worker(bootstrap, prefix, policy, directory / "worker.log").start()
    try:
        worker.wait_until_ready()
        yield worker
        assert worker.process is not None
        assert worker.process.poll() is None, worker.tail()
        assert worker.stop() == 0, worker.tail()
    finally:
        worker.ensure_dead()


def check_every_bad_record_is_put_aside(bootstrap: str, prefix: str, sent: Sent, worker: Worker) -> None:
    """Byte for byte: key, value, its own headers; the reason, and where it came from. Once each."""
    many = len(sent.bad) + len(sent.refused)
    until(lambda: len(dead_letters(bootstrap, prefix)) >= many, f"{many} dead letters", worker)
    letters = dead_letters(bootstrap, prefix)
    came = {
        (record.partition, record.offset): record.headers for record in read_all(bootstrap, f"{prefix}access-events")
    }
    places = Counter(place for place, _, _ in letters)
    assert places == Counter([*sent.bad, *sent.refused])
    wrong = []
    for place, ours, record in letters:
        case = sent.bad.get(place) or sent.refused[place]
        own = [header for header in record.headers if not header[0].startswith(PREFIX)]
        if ours["reason"] != case.reason or ours["topic"] != f"{prefix}access-events" or not ours["detail"]:
            wrong.append(f"{case.name}: said {ours}")
        if place in sent.bad:
            if (record.key, record.value) != (case.key, case.value):
                wrong.append(f"{case.name}: key {record.key!r:.60}, value {record.value!r:.60}")
            # The embedded broker keeps one header of a name: what stands on the topic is what came.
            if own != came[place] or len(own) < len(dict(case.headers)) or "digest" in ours:
                wrong.append(f"{case.name}: headers {record.headers!r:.200}")
        else:
            said = json.loads(record.value)
            digest = {"sha256": hashlib.sha256(case.value or b"").hexdigest(), "size": len(case.value or b"")}
            if said != digest or ours["digest"] != "sha-256":
                wrong.append(f"{case.name}: left {record.value!r:.200}")
            if record.key not in {case.key, None}:
                wrong.append(f"{case.name}: key {record.key!r:.60}")
    assert not wrong, "\n".join(wrong)


def check_good_records_were_processed(bootstrap: str, prefix: str, sent: Sent, worker: Worker) -> None:
    """Every good session ends by its limit, with every one of its events counted; no other session was ever there."""
    until(lambda: sent.good.keys() <= expired(bootstrap, prefix), "an expiry of each good session", worker)
    until(lambda: sent.good.keys() <= ends(bootstrap, prefix).keys(), "an account of each good session", worker)
    accounts = ends(bootstrap, prefix)
    assert expired(bootstrap, prefix) == set(sent.good)
    assert {name: [sum(said["counts"].values()) for said in told] for name, told in accounts.items()} == {
        name: [count] for name, count in sent.good.items()
    }
    assert {told[0]["subject"] for told in accounts.values()} == {f"user-of-{name}" for name in sent.good}


def run_cli(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """As a shell would."""
    return subprocess.run(
        [sys.executable, "-m", "monitor", *arguments],
        capture_output=True, text=True, timeout=60, check=False, **settings,
    )  # fmt: skip


def check_they_can_be_listed(bootstrap: str, prefix: str, sent: Sent) -> list[dict[str, Any]]:
    """`dead-letters list` for people and for programs; the lines for programs."""
    where = ["--bootstrap-servers", bootstrap, "--topic-prefix", prefix]
    listed = run_cli("dead-letters", "list", "-o", "ndjson", *where)
    assert listed.returncode == 0, listed.stderr
    rows = [json.loads(line) for line in listed.stdout.splitlines()]
    assert {(row["partition"], row["offset"]): row["reason"] for row in rows} == {
        place: case.reason for place, case in {**sent.bad, **sent.refused}.items()
    }
    for row in rows:
        place = row["partition"], row["offset"]
        if place in sent.refused:
            assert row["sha256"] == hashlib.sha256(sent.refused[place].value or b"").hexdigest()
            continue
        value = b64decode(row["value_base64"]) if "value_base64" in row else row.get("value")
        assert (value.encode() if isinstance(value, str) else value) == sent.bad[place].value
    table = run_cli("dead-letters", "list", "--reason", "too_large", *where)
    assert table.returncode == 0, table.stderr
    shown = {word for word in table.stdout.split() if word.startswith(f"{prefix}access-events/")}
    assert shown == {
        f"{prefix}access-events/{partition}@{offset}"
        for (partition, offset), case in {**sent.bad, **sent.refused}.items()
        if case.reason == "too_large"
    }
    return rows


def check_repaired_ones_are_processed(
    bootstrap: str, prefix: str, sent: Sent, rows: list[dict[str, Any]], worker: Worker, directory: Path
) -> None:
    """One of each reason, repaired by hand and put back, is a session like any other; what is bad still stays out."""
    chosen: dict[str, dict[str, Any]] = {}
    for row in rows:
        if "sha256" not in row and not row.get("headers"):
            chosen.setdefault(row["reason"], row)
    cloudevent = next(row for row in rows if _name(sent, row) == "binary CloudEvent whose data is broken")
    lines = []
    for reason, row in chosen.items():
        kept = {name: said for name, said in row.items() if name != "value_base64"}
        lines.append(json.dumps(kept | {"value": activity(f"repaired-{reason}").decode()}))
    lines.append(json.dumps(cloudevent | {"value": json.dumps({"session_id": "repaired-cloudevent"})}))
    still_bad = next(row for row in rows if row["reason"] == "bad_time" and not row.get("headers"))
    file = directory / "repaired.ndjson"
    file.write_text("\n".join([*lines, json.dumps(still_bad)]) + "\n")
    where = ["--bootstrap-servers", bootstrap, "--topic-prefix", prefix]
    replayed = run_cli("dead-letters", "replay", "--repaired", str(file), *where)
    assert replayed.returncode == 2, replayed.stderr
    assert f"put back {len(lines)}, left out 1, not delivered 0" in replayed.stdout
    assert f"line {len(lines) + 1}: bad_time" in replayed.stderr
    wanted = {f"repaired-{reason}" for reason in [*chosen, "cloudevent"]}
    assert len(wanted) >= 12
    until(lambda: wanted <= expired(bootstrap, prefix), f"an expiry of each of {sorted(wanted)}", worker)
    assert expired(bootstrap, prefix) == wanted | set(sent.good)
    assert len(dead_letters(bootstrap, prefix)) == len(rows)


def play(bootstrap: str, prefix: str, directory: Path) -> None:
    """The whole suite on one broker."""
    assert len(bad_records()) >= 60
    with running(bootstrap, prefix, directory) as worker:
        sent = write_corpus(bootstrap, f"{prefix}access-events")
        check_every_bad_record_is_put_aside(bootstrap, prefix, sent, worker)
        check_good_records_were_processed(bootstrap, prefix, sent, worker)
        rows = check_they_can_be_listed(bootstrap, prefix, sent)
        check_repaired_ones_are_processed(bootstrap, prefix, sent, rows, worker, directory)


def _name(sent: Sent, row: dict[str, Any]) -> str:
    case = sent.bad.get((row["partition"], row["offset"]))
    return "" if case is None else case.name
