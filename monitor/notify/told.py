"""`Told`: what one receiver has been told, so that it hears of each state of an alert once. Pure.

Alerts come as they stand on session-alerts, in order: a state, then updates of it, then the next state.
"""

from enum import StrEnum

from monitor.core.instants import Millis
from monitor.wire.alerts import AlertRecord, AlertState


class Decision(StrEnum):
    """Whether to tell of it."""

    TELL = "tell"
    UPDATE = "update"
    """Its state has been told: there are newer figures, no more."""
    SILENCED = "silenced"
    """Somebody has silenced it, or the alert that it ends."""


class _Standing(StrEnum):
    FIRING = "firing"
    RESOLVED = "resolved"
    HUSHED = "hushed"
    """It fires, and was never told."""


class Told:
    """For one thread. It takes as much room as there are fingerprints on the topic."""

    def __init__(self) -> None:
        """Nothing has been told yet."""
        self._of: dict[str, tuple[_Standing, Millis]] = {}

    def __len__(self) -> int:
        """Alerts of which something is known."""
        return len(self._of)

    def judge(self, alert: AlertRecord) -> Decision:
        """What to do about it."""
        return self._judge(alert)[0]

    def keep(self, alert: AlertRecord) -> None:
        """It has been done."""
        self._of[alert.fingerprint] = self._judge(alert)[1], int(alert.since)

    def forget(self, fingerprint: str) -> None:
        """Its record has been removed from the topic."""
        self._of.pop(fingerprint, None)

    def _judge(self, alert: AlertRecord) -> tuple[Decision, _Standing]:
        before, since = self._of.get(alert.fingerprint, (None, 0))
        same = since == alert.since
        if alert.state is AlertState.FIRING:
            if before is _Standing.FIRING and same:
                return Decision.UPDATE, _Standing.FIRING
            if silenced_by(alert):
                return Decision.SILENCED, _Standing.HUSHED
            return Decision.TELL, _Standing.FIRING
        if before is _Standing.RESOLVED and same:
            return Decision.UPDATE, _Standing.RESOLVED
        # Whoever heard that it fires hears that it is over, silenced or not: something was begun for it, and has to end.
        if before is _Standing.HUSHED or (silenced_by(alert) and before is not _Standing.FIRING):
            return Decision.SILENCED, _Standing.RESOLVED
        return Decision.TELL, _Standing.RESOLVED


def silenced_by(alert: AlertRecord) -> tuple[str, ...]:
    """The ids of the silences that it meets."""
    ids: tuple[str, ...] = getattr(alert, "silenced_by", ())
    return ids
