"""Alerts to be told of."""

from monitor.core.instants import MINUTE
from monitor.wire.alerts import AlertRecord, AlertState
from monitor.wire.times import Instant

T = 1_795_500_000_000


def alert(number: int = 0, *, state: str = "firing", since: int = T, updated: int | None = None, **others) -> AlertRecord:
    """One of timeout churn; its fingerprint is its number."""
    updated = since + (0 if state == "firing" else MINUTE) if updated is None else updated
    said = {"severity": "warning", "summary": "alice timed out 12 times within the hour", "subject": "alice", **others}
    return AlertRecord(
        fingerprint=f"{number:032x}", alert="timeout_churn", state=AlertState(state), since=Instant(since), updated=Instant(updated), **said
    )
