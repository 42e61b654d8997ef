"""Records of session-alerts: what detection has seen, one record for each fingerprint."""

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
    """An alert as it stands on the topic."""

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


_reader: Final = reader(AlertRecord)


def encode_alert(alert: AlertRecord) -> Record:
    """The record of an alert, under its fingerprint."""
    updated = int(alert.updated)
    headers = write_headers(TYPE, f"{alert.fingerprint}/{updated}", SOURCE, updated)
    return Record(alert.fingerprint.encode(), encode(alert), headers)


def decode_alert(value: bytes | None) -> AlertRecord:
    """The alert in these bytes. Raises BadRecord."""
    return decode(_reader, value)
