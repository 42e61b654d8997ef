"""`Alertmanager`: alerts as Prometheus' Alertmanager takes them (API v2, `POST /api/v2/alerts`).

It forgets what it does not hear of, so all that fires is sent again every `repeat`, with an end that lies some repeats ahead: an alert
outlives a failure of a few of them, and goes by itself where nobody sends any more. That end is ours, so its `resolve_timeout` plays no part.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from monitor.core.errors import InputError
from monitor.core.instants import MINUTE, SECOND, Millis
from monitor.notify.answer import Answer, Verdict
from monitor.notify.clock import wall
from monitor.notify.endpoint import Endpoint
from monitor.notify.receiver import check_name
from monitor.notify.told import silenced_by
from monitor.notify.wording import alert_name, description
from monitor.wire.alerts import AlertRecord, AlertState
from monitor.wire.times import format_time

log = logging.getLogger(__name__)

PATH: Final = "/api/v2/alerts"
REPEAT: Final[Millis] = MINUTE
VALID_FOR: Final = 5
"""Repeats for which an alert stands without being sent again."""
AGAIN: Final[Millis] = 5 * SECOND
"""After a repeat that failed."""
AT_ONCE: Final = 100
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
LABELS: Final = ("subject", "session_id", "gateway", "workload", "tenant")


class Alertmanager:
    """A `Receiver`. Of what fires it keeps the newest record; what is silenced is not sent."""

    def __init__(
        self, name: str, endpoint: Endpoint, *, generator_url: str = "", labels: Mapping[str, str] | None = None,
        repeat: Millis = REPEAT, now: Callable[[], Millis] = wall,
    ) -> None:  # fmt: skip
        """`endpoint` is where Alertmanager itself is: its root, or the prefix that it is served under.

        `generator_url`: where people look at an alert, `{fingerprint}` in it becomes the alert's. `labels` are put on every alert,
        such as `cluster`. Raises InputError.
        """
        if repeat <= 0:
            raise InputError(f"receiver {name}: the time between two repeats must be more than nothing")
        if wrong := sorted(label for label in labels or () if not _LABEL.fullmatch(label)):
            raise InputError(f"receiver {name}: labels can't be called {', '.join(map(repr, wrong))}: letters, digits and _, no digit first")
        self.name = check_name(name)
        self.repeat_failures = 0
        """Repeats that failed in a row."""
        self._endpoint, self._root = endpoint.below(PATH), endpoint
        self._generator_url, self._labels, self._repeat, self._now = generator_url, dict(labels or {}), repeat, now
        self._firing: dict[str, AlertRecord] = {}
        self._due: Millis = 0

    def __repr__(self) -> str:
        """Its name, and where it is."""
        return f"Alertmanager({self.name!r}, {self._root!r})"

    @property
    def firing(self) -> int:
        """Alerts that are sent again and again."""
        return len(self._firing)

    def deliver(self, alert: AlertRecord) -> Answer:
        """One attempt. A resolved alert has the labels under which it fired: by those it is known there."""
        if _over(alert):
            answer = self._endpoint.post(orjson.dumps([self._alert(alert, _ended(alert), self._firing.get(alert.fingerprint))]), {})
        else:
            answer = self._send([alert])
        if answer.verdict is Verdict.TAKEN:
            self.update(alert)
        return answer

    def update(self, alert: AlertRecord) -> None:
        """What fires goes with the next repeat; what is silenced goes no more, and so is over there after `VALID_FOR` repeats."""
        if _over(alert) or silenced_by(alert):
            self.drop(alert.fingerprint)
        else:
            self._firing[alert.fingerprint] = alert

    def drop(self, fingerprint: str) -> None:
        """It is not sent again."""
        self._firing.pop(fingerprint, None)

    def tend(self, now: Millis) -> None:
        """Send all that fires, where it is time."""
        # A clock that was set back must not silence us.
        if self._due - self._repeat <= now < self._due:
            return
        alerts = list(self._firing.values())
        failed = next((one for one in self._repeated(alerts) if one.verdict is Verdict.AGAIN), None)
        self.repeat_failures = 0 if failed is None else self.repeat_failures + 1
        self._due = now + (self._repeat if failed is None else min(AGAIN, self._repeat))
        if failed is not None:
            log.warning("alertmanager_repeat_failed", extra={"receiver": self.name, "error": failed.detail, "firing": len(alerts)})

    def _repeated(self, alerts: list[AlertRecord]) -> Iterator[Answer]:
        for at in range(0, len(alerts), AT_ONCE):
            batch = alerts[at : at + AT_ONCE]
            answer = self._send(batch)
            if answer.verdict is Verdict.REFUSED:
                # One of them is at fault, and the others must not go with it.
                yield from map(self._send_alone, batch)
            else:
                yield answer

    def _send_alone(self, alert: AlertRecord) -> Answer:
        answer = self._send([alert])
        if answer.verdict is Verdict.REFUSED:
            log.error("alertmanager_repeat_refused", extra={"receiver": self.name, "fingerprint": alert.fingerprint, "error": answer.detail})
            self.drop(alert.fingerprint)
        return answer

    def _send(self, alerts: Sequence[AlertRecord]) -> Answer:
        end = self._now() + VALID_FOR * self._repeat
        return self._endpoint.post(orjson.dumps([self._alert(alert, end) for alert in alerts]), {})

    def _alert(self, alert: AlertRecord, end: Millis, fired: AlertRecord | None = None) -> dict[str, Any]:
        """As Alertmanager takes it; `fired` is the record under whose labels it is known there."""
        known = fired or alert
        about = {name: value for name in LABELS if (value := getattr(known, name, None))}
        named = {"alertname": alert_name(known.alert), "severity": known.severity, "fingerprint": known.fingerprint}
        annotations = {"summary": alert.summary, "description": description(alert)}
        said = {
            "labels": self._labels | about | named,
            "annotations": {name: value for name, value in annotations.items() if value},
            "startsAt": format_time(int(known.since)),
            # It takes no end before the beginning.
            "endsAt": format_time(max(end, int(known.since))),
        }
        if self._generator_url:
            said["generatorURL"] = self._generator_url.replace("{fingerprint}", alert.fingerprint)
        return said


def _over(alert: AlertRecord) -> bool:
    return alert.state is AlertState.RESOLVED


def _ended(alert: AlertRecord) -> Millis:
    ended: Millis | None = getattr(alert, "ended", None)
    return int(alert.updated if ended is None else ended)
