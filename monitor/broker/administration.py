"""The topics as they have to be: made where they are missing, checked where they are there."""

import time
from enum import StrEnum
from typing import Any, Final

import msgspec
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from monitor.broker.clients import administrator, explain
from monitor.broker.connection import Connection
from monitor.core.errors import AbsenceError
from monitor.wire.topics import Topic, Topics

_VISIBLE_SECONDS: Final = 15.0
_BROKERS_DEFAULT: Final = -1


class Kind(StrEnum):
    """What a finding says."""

    MISSING = "missing"
    FAULT = "fault"
    UNKNOWN = "unknown"
    """The broker doesn't tell: no failure."""


class Finding(msgspec.Struct, frozen=True):
    """One thing about one topic that is not as it has to be."""

    kind: Kind
    topic: str
    what: str
    advice: str

    @property
    def fails(self) -> bool:
        """Whether a worker must not start on it."""
        return self.kind is not Kind.UNKNOWN


def apply_topics(connection: Connection, topics: Topics, replication: int = _BROKERS_DEFAULT) -> list[str]:
    """Make the topics that are missing, wait until they can be written, and name them. Those there stay as they are.

    Raises AbsenceError where the broker can't be reached or refuses one. `replication` -1 is the broker's default.
    """
    with administrator(connection) as admin:
        present = set(admin.list_topics())
        missing = [topic for topic in topics.all() if topic.name not in present]
        if not missing:
            return []
        wanted = {
            topic.name: {
                "num_partitions": topic.partitions, "replication_factor": replication, "configs": topic.configs,
            } for topic in missing
        }  # fmt: skip
        refused = []
        for said in admin.create_topics(wanted, raise_errors=False)["topics"]:
            error = for_code(said["error_code"])
            # Somebody else may be at it at the same time.
            if said["error_code"] and error is not TopicAlreadyExistsError:
                refused.append(f"{said['name']}: {said['error_message'] or error.__name__}")
        if refused:
            raise AbsenceError(f"the broker refused to make topics: {'; '.join(refused)}")
        _wait_until_led(admin, missing)
        return [topic.name for topic in missing]


def verify_topics(connection: Connection, topics: Topics) -> list[Finding]:
    """What is not as it has to be, in the order of the catalogue. Raises AbsenceError where no broker can be asked."""
    with administrator(connection) as admin:
        described = {
            one["name"]: one for one in admin.describe_topics([topic.name for topic in topics.all()])
        }
        there = [topic for topic in topics.all() if described.get(topic.name, {}).get("partitions")]
        configs = _configs(admin, there)
    findings = []
    for topic in topics.all():
        if topic not in there:
            make = "run session-monitor topics apply with the same options"
            findings.append(Finding(Kind.MISSING, topic.name, "is not there", make))
            continue
        findings += _compare(topic, len(described[topic.name]["partitions"]), configs[topic.name], connection)
    return findings


def _compare(
    topic: Topic, partitions: int, configs: dict[str, str] | str, connection: Connection
) -> list[Finding]:
    """`configs` is text where the broker did not tell: the reason."""
    findings = []
    if partitions != topic.partitions:
        advice = (
            f"run everything with --partitions {partitions}, or use a new --topic-prefix: what is keyed can't be spread anew"
            if topic.co_partitioned
            else "delete it while nothing runs, then run session-monitor topics apply with the same options"
        )
        what = f"has {partitions} partitions, needs {topic.partitions}"
        findings.append(Finding(Kind.FAULT, topic.name, what, advice))
    if isinstance(configs, str):
        what = f"its settings can't be read: {configs}"
        return [
            *findings,
            Finding(
                Kind.UNKNOWN, topic.name, what, "check them by hand: session-monitor topics show prints them"
            ),
        ]
    for fault in topic.faults(topic.partitions, configs):
        what = fault.removeprefix(f"{topic.name}: ")
        setting = what.split(" ", 1)[0]
        if setting not in configs:
            findings.append(
                Finding(
                    Kind.UNKNOWN, topic.name, f"the broker does not tell its {setting}", "check it by hand"
                )
            )
            continue
        change = (
            f"kafka-configs.sh --bootstrap-server {connection.bootstrap_servers} --alter --entity-type topics"
            f" --entity-name {topic.name} --add-config {setting}={topic.configs[setting]}"
        )
        findings.append(Finding(Kind.FAULT, topic.name, what, f"run: {change}"))
    return findings


def _configs(admin: KafkaAdminClient, topics: list[Topic]) -> dict[str, dict[str, str] | str]:
    """By topic: its settings, or why the broker does not tell them."""
    if not topics:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics]
    try:
        told: dict[str, dict[str, Any]] = admin.describe_configs(resources, config_filter="all").get(
            "topic", {}
        )
    except KafkaError as error:
        return {topic.name: explain(error) for topic in topics}
    found: dict[str, dict[str, str] | str] = {}
    for topic in topics:
        said = told.get(topic.name)
        found[topic.name] = (
            {name: str(one["value"]) for name, one in said.items()}
            if isinstance(said, dict) and said
            else f"the broker said {said!r}"
        )
    return found


def _wait_until_led(admin: KafkaAdminClient, topics: list[Topic]) -> None:
    """Until each partition has a leader: before, the first writers would meet errors."""
    wanted = {topic.name: topic.partitions for topic in topics}
    deadline = time.monotonic() + _VISIBLE_SECONDS
    while True:
        led = {
            one["name"]: sum(partition["leader_id"] >= 0 for partition in one["partitions"])
            for one in admin.describe_topics(list(wanted))
        }
        waiting = sorted(name for name, partitions in wanted.items() if led.get(name, 0) < partitions)
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise AbsenceError(
                f"topics were made but have no leaders after {_VISIBLE_SECONDS:.0f} s: {', '.join(waiting)}"
            )
        time.sleep(0.02)
