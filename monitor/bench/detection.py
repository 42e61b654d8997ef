"""How well alerts tell abuse from healthy traffic, and what a record of session-lifecycle costs: labelled histories through `detect.watch`."""

import time
from collections.abc import Iterable
from typing import Final

import msgspec

from monitor.bench.labelled import Alert, History, Score, Shape, score
from monitor.bench.labelled.policy import TEXT
from monitor.core.instants import MINUTE, Millis
from monitor.core.lifecycle import Lifecycle
from monitor.detect.pool import Pool
from monitor.detect.settings import Detector
from monitor.detect.watch import Watch
from monitor.policy import compile_policy
from monitor.wire.alerts import AlertRecord, AlertState, decode_alert
from monitor.wire.codec import Record
from monitor.wire.lifecycle import encode_lifecycle
from monitor.wire.partitioner import partition_for

WATCHED: Final = (
    Detector.LONG_SESSION, Detector.TIMEOUT_CHURN, Detector.CAP_EVASION, Detector.CONCURRENT_SESSIONS, Detector.SESSION_MOVED,
)  # fmt: skip
"""What one partition of session-lifecycle is watched for today."""
HOW: Final = (
    "A seeded history of healthy sessions, half of it before any abuse, with labelled abuse of each watched kind in its other half, as"
    " records of session-lifecycle; a watch for each partition, all in one process, default thresholds, time told once a minute of the"
    " history. CPU seconds are those of the watches alone, for records and for time that passes by themselves. Precision: of the labels found and the false alerts together."
)


class Detected(msgspec.Struct, frozen=True):
    """What was measured."""

    scores: list[Score]
    healthy_sessions: int
    records: int
    taking: float
    """CPU seconds for the records themselves ..."""
    passing: float
    """... and for the time that passed in between."""
    alerts: int


def measure(shape: Shape) -> Detected:
    """Play one history. Raises InputError for one that can't be made."""
    policy = compile_policy(TEXT)
    pool, history, told = Pool(), History(shape), _Told()
    watches = [Watch(number, lambda: policy, pool=pool) for number in range(shape.partitions)]
    offsets = [0] * shape.partitions
    minute, taking, passing = shape.begins + MINUTE, 0.0, 0.0
    for entry in history:
        if not isinstance(entry.what, Lifecycle):
            continue
        record = encode_lifecycle(entry.what)
        number = partition_for(record.key or b"", shape.partitions)
        began = time.process_time()
        while entry.at >= minute:
            for watch in watches:
                watch.advance(minute)
            minute += MINUTE
        passed = time.process_time()
        watches[number].take(offsets[number], record.value or b"")
        passing, taking = passing + passed - began, taking + time.process_time() - passed
        offsets[number] += 1
        for watch in watches:
            told.take(watch.alerts())
    labels = [label for label in history.labels if label.detector in WATCHED]
    scores = [one for one in score(labels, told.alerts(), history.healthy_sessions) if one.detector in WATCHED]
    return Detected(scores, history.healthy_sessions, sum(offsets), round(taking, 2), round(passing, 2), len(told.lives))


class _Told:
    """The alerts, each life once."""

    def __init__(self) -> None:
        self.lives: dict[tuple[str, Millis], AlertRecord] = {}
        self._ended: dict[tuple[str, Millis], Millis] = {}

    def take(self, records: Iterable[Record]) -> None:
        """What a watch publishes; tombstones are passed over."""
        for record in records:
            if record.value is None:
                continue
            alert = decode_alert(record.value)
            life = alert.fingerprint, int(alert.since)
            self.lives.setdefault(life, alert)
            if alert.state is AlertState.RESOLVED:
                self._ended[life] = int(alert.updated)

    def alerts(self) -> list[Alert]:
        """As the score wants them."""
        return [
            Alert(
                detector=Detector(one.alert), at=int(one.since), ends=self._ended.get(life) if one.count else None, subject=one.subject,
                session_id=one.session_id, gateway=one.gateway, sessions=tuple(one.evidence.get("sessions", ())), storm=bool(one.count),
            )
            for life, one in self.lives.items()
        ]  # fmt: skip
