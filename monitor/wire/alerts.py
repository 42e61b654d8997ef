"""Records of session-alerts: what detection has seen, one record for each fingerprint.

Under keys that begin with `~` stand records of other kinds: `monitor.wire.silences`.
"""

from enum import StrEnum
from typing import Any, Final

import msgspec

from monitor.wire.cloudevents import write_headers
from monitor.wire.codec import Record, decode, encode, reader
from monitor.wire.times import Instant

SOURCE: Final = "/session-monitor/detection"
TYPE: Final = "monitor.alert"
"""The CloudEvents type; the record itself has none."""


class AlertState(StrEnum):
    """An alert fires once, and resolves."""

    FIRING = "firing"
    RESOLVED = "resolved"


class AlertRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """An alert as it stands on the topic. A record with the same `fingerprint`, `state` and `since` as one before has newer figures at the most."""

    fingerprint: str
    alert: str
    """The detector's name, as in DESIGN section 8."""
    state: AlertState
    severity: str
    since: Instant
    updated: Instant
    summary: str
    subject: str | None = None
    session_id: str | None = None
    evidence: dict[str, Any] = {}
    """`expected`, `seen`, `sessions`, `cohort`; `seen` has `cut` where there was more than an alert holds."""
    gateway: str | None = None
    workload: str | None = None
    tenant: str | None = None
    silenced_by: tuple[str, ...] = ()
    """The silences that keep it from people."""
    count: int | None = None
    """Of a storm alone: how many alerts it stands for. They are not raised one by one."""
    ended: Instant | None = None
    """When it was over; of a resolved one alone."""


_reader: Final = reader(AlertRecord)


def is_alert(key: bytes | None) -> bool:
    """Whether what stands under this key is an alert, or the tombstone of one."""
    return key is not None and key[:1] not in {b"", b"~"}


def encode_alert(alert: AlertRecord) -> Record:
    """The record of an alert, under its fingerprint."""
    updated = int(alert.updated)
    headers = write_headers(TYPE, f"{alert.fingerprint}/{updated}", SOURCE, updated)
    return Record(alert.fingerprint.encode(), encode(alert), headers)


def encode_forgotten(fingerprint: str) -> Record:
    """The tombstone of an alert that was over long ago."""
    return Record(fingerprint.encode(), None, [])


def decode_alert(value: bytes | None) -> AlertRecord:
    """The alert in these bytes. Raises BadRecord. Ask `is_alert` of the key first."""
    return decode(_reader, value)
