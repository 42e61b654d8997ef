"""The topics there are: names, keys, partitions, and the settings without which promises break.

`topics apply` creates from this catalogue and `topics verify` checks against it, so that it can't drift
from the documentation.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from monitor.core.instants import DAY, HOUR, Millis

ACCESS_RETENTION: Final[Millis] = 7 * DAY
MAX_MESSAGE_BYTES: Final = 1_048_588
"""Kafka's own default. It bounds a whole batch: one record is bounded by the wire (64 KiB), not by the broker."""

DEAD_LETTER_HEADROOM: Final = 64 * 1024

_UNLIMITED: Final = -1


class Topic(msgspec.Struct, frozen=True):
    """One topic as it has to be."""

    name: str
    key: str
    """What its records are keyed by."""
    partitions: int
    cleanup: str
    """`delete` or `compact`."""
    written_by: str
    read_by: str
    co_partitioned: bool = False
    """Its partition count is N, the same for all three: partition p of each is one history."""
    append_time: bool = False
    """Its timestamps are the broker's: the only clock that decisions know."""
    at_least: dict[str, int] = {}
    """Settings that may be larger than here, not smaller (-1 stands for unlimited)."""

    @property
    def configs(self) -> dict[str, str]:
        """What to create the topic with."""
        return self._exact() | {name: str(value) for name, value in self.at_least.items()}

    def faults(self, partitions: int, configs: Mapping[str, str]) -> list[str]:
        """What is wrong with the topic as the broker has it: a sentence each; empty if nothing is."""
        found = []
        if partitions != self.partitions:
            found.append(f"{self.name}: has {partitions} partitions, needs {self.partitions}")
        for name, wanted in self._exact().items():
            if (actual := configs.get(name)) != wanted:
                found.append(f"{self.name}: {name} is {actual}, must be {wanted}")
        for name, least in self.at_least.items():
            actual = configs.get(name)
            if actual is None or _UNLIMITED < int(actual) < least:
                found.append(f"{self.name}: {name} is {actual}, must be at least {least}")
        return found

    def _exact(self) -> dict[str, str]:
        exact = {"cleanup.policy": self.cleanup}
        if self.append_time:
            exact["message.timestamp.type"] = "LogAppendTime"
        return exact


class Topics:
    """The catalogue for one installation."""

    def __init__(self, prefix: str = "", partitions: int = 8, app_id: str = "session-monitor") -> None:
        """`prefix` stands before every name; `partitions` is N of the co-partitioned topics."""
        self.prefix = prefix
        self.partitions = partitions
        self.app_id = prefix + app_id
        """The stream engine's id: it names the changelog after it, and the group."""
        self.detection_id = f"{self.app_id}-detection"
        """The same of detection, which is a group of its own."""
        size = {"max.message.bytes": MAX_MESSAGE_BYTES}
        self.access_events = Topic(
            f"{prefix}access-events", "session_id; ~tick", partitions, "delete",
            "services, gateways, SDK; the owner's ticks", "worker", co_partitioned=True, append_time=True,
            at_least=size | {"retention.ms": ACCESS_RETENTION},
        )  # fmt: skip
        self.session_commands = Topic(
            f"{prefix}session-commands", "session_id; ~warn/<session_id>; ~watermark/<partition>", partitions,
            "compact", "worker, to the same partition number as the event's", "gateways; worker on recovery",
            co_partitioned=True, append_time=True,
            # A gateway that starts from the beginning sees no session come back: tombstones outlive any bootstrap.
            at_least=size | {"min.compaction.lag.ms": HOUR, "delete.retention.ms": DAY},
        )  # fmt: skip
        self.changelog = Topic(
            f"{self.app_id}-sessions-changelog", "session_id; ~partition/<offset>", partitions, "compact",
            "worker", "worker on recovery", co_partitioned=True,
            at_least=size | {"min.compaction.lag.ms": HOUR, "delete.retention.ms": DAY},
        )  # fmt: skip
        self.session_control = Topic(
            f"{prefix}session-control", "control id; policy", 1, "compact", "CLI, dashboard, API; detection, where the policy lets alerts act",
            "every worker and gateway, whole", append_time=True,
            # A replay needs the controls as they were: none may vanish before the events that they ruled.
            at_least=size | {"min.compaction.lag.ms": ACCESS_RETENTION, "delete.retention.ms": ACCESS_RETENTION},
        )  # fmt: skip
        self.session_lifecycle = Topic(
            f"{prefix}session-lifecycle", "subject (session_id where unknown)", partitions, "delete", "worker",
            "detection, dashboard, audit", at_least=size | {"retention.ms": 30 * DAY},
        )  # fmt: skip
        self.detection_changelog = Topic(
            f"{self.detection_id}-state-changelog", "kind of state/key", partitions, "compact", "detection", "detection on recovery",
            at_least=size | {"min.compaction.lag.ms": HOUR, "delete.retention.ms": DAY},
        )  # fmt: skip
        self.session_alerts = Topic(
            f"{prefix}session-alerts", "alert fingerprint; ~silence/<id>", 1, "compact", "detection; CLI (silences)", "dashboard, notifiers, detection (silences)",
            # Whoever can't be reached for a day hears of each state all the same.
            at_least=size | {"min.compaction.lag.ms": DAY},
        )  # fmt: skip
        self.enforcement_receipts = Topic(
            f"{prefix}enforcement-receipts", "gateway", 1, "delete", "gateways", "dashboard, detection",
            at_least=size | {"retention.ms": 7 * DAY},
        )  # fmt: skip
        self.dead_letters = Topic(
            f"{prefix}dead-letters", "original key", 1, "delete", "worker, notifiers", "people; session-monitor dead-letters",
            at_least={"max.message.bytes": MAX_MESSAGE_BYTES + DEAD_LETTER_HEADROOM, "retention.ms": 7 * DAY},
        )  # fmt: skip

    def all(self) -> tuple[Topic, ...]:
        """Every topic, in the order of DESIGN section 3; what detection knows stands beside what it reads."""
        return (
            self.access_events, self.session_commands, self.changelog, self.session_control,
            self.session_lifecycle, self.detection_changelog, self.session_alerts, self.enforcement_receipts, self.dead_letters,
        )  # fmt: skip

    def co_partitioned(self) -> tuple[Topic, ...]:
        """The three that share N."""
        return tuple(topic for topic in self.all() if topic.co_partitioned)
