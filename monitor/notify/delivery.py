"""`Delivery`: one alert to one receiver, attempted until it is taken, refused for good, or given up."""

import logging
from collections.abc import Callable
from enum import StrEnum

import msgspec

from monitor.core.instants import Millis
from monitor.notify import metrics
from monitor.notify.answer import Verdict
from monitor.notify.backoff import Backoff
from monitor.notify.metrics import NotifyMetrics
from monitor.notify.receiver import Receiver
from monitor.wire.alerts import AlertRecord

log = logging.getLogger(__name__)


class Ending(StrEnum):
    """How it ended."""

    DELIVERED = "delivered"
    REFUSED = metrics.REFUSED
    GIVEN_UP = metrics.UNREACHABLE
    STOPPED = "stopped"
    """We are ending: it is still to be delivered."""


class Fate(msgspec.Struct, frozen=True):
    """What became of one alert."""

    ending: Ending
    detail: str = ""


class Delivery:
    """For one thread."""

    def __init__(
        self, receiver: Receiver, backoff: Backoff, give_up_after: Millis, metrics: NotifyMetrics, *,
        now: Callable[[], Millis], pause: Callable[[Millis], bool], dice: Callable[[], float],
    ) -> None:  # fmt: skip
        """`pause` waits so long, and says whether we are ending; `now` is the wall clock, `dice` gives numbers from 0 up to 1."""
        self._receiver, self._backoff, self._give_up_after, self._metrics = receiver, backoff, give_up_after, metrics
        self._now, self._pause, self._dice = now, pause, dice

    def deliver(self, alert: AlertRecord, since: Millis) -> Fate:
        """Attempt it once at least; `give_up_after` counts from `since`, when it could have been delivered first."""
        failures = 0
        while True:
            answer = self._receiver.deliver(alert)
            if answer.verdict is Verdict.TAKEN:
                return self._delivered(alert, failures)
            if answer.verdict is Verdict.REFUSED:
                return Fate(Ending.REFUSED, answer.detail)
            failures += 1
            self._metrics.failed(self._receiver.name)
            if self._now() - since >= self._give_up_after:
                return Fate(Ending.GIVEN_UP, f"{answer.detail} (given up after {failures} attempts)")
            pause = self._backoff.pause(failures, answer.retry_after, self._dice)
            log.warning(
                "alert_delivery_failed",
                extra={
                    "receiver": self._receiver.name, "fingerprint": alert.fingerprint, "error": answer.detail,
                    "failures": failures, "again_in_ms": pause,
                },
            )  # fmt: skip
            if self._pause(pause):
                return Fate(Ending.STOPPED)

    def _delivered(self, alert: AlertRecord, failures: int) -> Fate:
        self._metrics.delivered(self._receiver.name, alert.state)
        log.info(
            "alert_delivered",
            extra={"receiver": self._receiver.name, "fingerprint": alert.fingerprint, "state": alert.state.value, "failures": failures},
        )
        return Fate(Ending.DELIVERED)
