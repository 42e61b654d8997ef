"""What `doctor` finds out about the brokers: each check says what is so, and what to do where it shouldn't be."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec
from kafka.errors import KafkaError

from monitor.broker.administration import verify_topics
from monitor.broker.clients import administrator, producer
from monitor.broker.connection import Connection
from monitor.broker.reach import probe
from monitor.broker.tail import tail
from monitor.core.errors import AbsenceError
from monitor.core.instants import SECOND, Millis
from monitor.wire.topics import Topics

MOST_SKEW: Final[Millis] = 1 * SECOND
"""The broker's clock gives log time, `auth_time` comes from the hosts: apart, every limit is off by that much."""
_PATIENCE_SECONDS: Final = 1.5
_STAMPS: Final = "message.timestamp.type"


class Grade(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    FAILURE = "failure"


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    grade: Grade
    about: str
    what: str
    advice: str = ""


def check_brokers(connection: Connection, topics: Topics) -> Iterator[Check]:
    """Reach, topics, timestamps and clock. Ends early where nothing further can be told."""
    reached = False
    for host, port in connection.addresses():
        fault = probe(connection, host, port, 5.0)
        reached = reached or fault is None
        what, _, advice = (fault or "answers").partition(": ")
        yield Check(Grade.OK if fault is None else Grade.FAILURE, f"broker {host}:{port}", what, advice)
    if not reached:
        return
    try:
        yield from _inside(connection, topics)
    except AbsenceError as error:
        what, _, advice = str(error).rpartition(": ")
        yield Check(Grade.FAILURE, "broker", what, advice)


def _inside(connection: Connection, topics: Topics) -> Iterator[Check]:
    with administrator(connection) as admin:
        described = {one["name"]: one for one in admin.describe_topics() if one["partitions"]}
    findings = verify_topics(connection, topics)
    for one in findings:
        yield Check(Grade.FAILURE if one.fails else Grade.NOTE, f"topic {one.topic}", one.what, one.advice)
    if not findings:
        yield Check(Grade.OK, "topics", f"{len(topics.all())} are as they have to be")
    if any(one.topic == topics.access_events.name and _STAMPS in one.what for one in findings):
        what = f"not exact: without append times on {topics.access_events.name} the worker's receive time stands in"
        advice = "a replay, or a new owner, may decide otherwise than was decided: use a broker with LogAppendTime"
        yield Check(Grade.NOTE, "replays", what, advice)
    there = [topic.name for topic in topics.all() if topic.name in described]
    single = [name for name in there if len(described[name]["partitions"][0]["replica_nodes"]) == 1]
    if single:
        what = f"{len(single)} topics are kept by one broker only"
        yield Check(
            Grade.NOTE,
            "replication",
            what,
            "in production: 3 brokers, topics apply --replication-factor 3, min.insync.replicas 2",
        )
    leaderless = [
        name for name in there if any(part["leader_id"] < 0 for part in described[name]["partitions"])
    ]
    if leaderless:
        what = f"partitions without a leader: {', '.join(leaderless)}"
        yield Check(Grade.FAILURE, "replication", what, "bring the missing brokers back")
    yield _clock(
        connection, topics, append_times=not any(one.topic == topics.access_events.name for one in findings)
    )


def _clock(connection: Connection, topics: Topics, *, append_times: bool) -> Check:
    skew = _seen(connection, topics) if append_times else None
    if skew is None:
        try:
            skew = _measured(connection, topics)
        except (AbsenceError, KafkaError) as error:
            advice = "start a worker, whose ticks tell, and ask again; or allow this user to make topics"
            return Check(
                Grade.NOTE, "clock", f"the broker's clock can't be read: no traffic, and {error}", advice
            )
    if abs(skew) <= MOST_SKEW:
        return Check(Grade.OK, "clock", f"the broker's is {skew:+d} ms from this host's")
    what = f"the broker's is {abs(skew) / 1000:.1f} s {'ahead of' if skew > 0 else 'behind'} this host's"
    return Check(
        Grade.FAILURE,
        "clock",
        what,
        "set both by NTP: re-authentications and deadlines are judged by the broker's",
    )


def _seen(connection: Connection, topics: Topics) -> Millis | None:
    """From the next record of somebody else's, where one comes soon: a worker's ticks do."""
    until = time.monotonic() + _PATIENCE_SECONDS
    with contextlib.closing(tail(connection, topics.access_events.name)) as records:
        for record in records:
            if record is not None:
                return record.timestamp - _now()
            if time.monotonic() > until:
                return None
    return None


def _measured(connection: Connection, topics: Topics) -> Millis:
    """From a record of our own, on a topic that is gone afterwards: none of the real ones may carry it."""
    name = f"{topics.prefix}doctor-{uuid.uuid4().hex[:8]}"
    with administrator(connection) as admin:
        wanted = {
            "num_partitions": 1,
            "replication_factor": -1,
            "configs": {"message.timestamp.type": "LogAppendTime"},
        }
        admin.create_topics({name: wanted}, wait_for_metadata=True)
        try:
            with producer(connection) as client:
                client.send(name, value=b"", partition=0).get(10)  # connects; the next is one round trip
                before = _now()
                appended = int(client.send(name, value=b"", partition=0).get(10).timestamp)
                return appended - (before + _now()) // 2
        finally:
            admin.delete_topics([name])


def _now() -> Millis:
    return time.time_ns() // 1_000_000
