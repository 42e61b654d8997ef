"""`Notifier`: alerts from session-alerts to all receivers, each at its own pace."""

import random
from collections.abc import Callable, Sequence

from monitor.broker.connection import Connection
from monitor.core.errors import InputError
from monitor.core.instants import Millis
from monitor.notify.backoff import Backoff
from monitor.notify.clock import wall
from monitor.notify.courier import GIVE_UP_AFTER, Courier, CourierState
from monitor.notify.metrics import NotifyMetrics
from monitor.notify.receiver import Receiver
from monitor.wire.topics import Topics


class Notifier:
    """A courier for each receiver: one that hangs or fails holds up no other. Run one for each receiver's name.

    Two of them tell everything twice, under the same keys.
    """

    def __init__(
        self, connection: Connection, topics: Topics, receivers: Sequence[Receiver], *, metrics: NotifyMetrics | None = None,
        give_up_after: Millis = GIVE_UP_AFTER, backoff: Backoff | None = None, now: Callable[[], Millis] = wall,
        dice: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        """Nothing is read or sent before `start`. `give_up_after`: what fails for so long becomes a dead letter.

        Raises InputError where two receivers have one name, or there is none.
        """
        names = [receiver.name for receiver in receivers]
        if not names:
            raise InputError("nobody is to be told of alerts: name a receiver")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"receivers need names of their own, by which it is known how far each has got; twice: {', '.join(twice)}")
        self.metrics = metrics or NotifyMetrics()
        self.couriers = tuple(
            Courier(
                connection, topics, receiver, self.metrics, backoff=backoff or Backoff(), give_up_after=give_up_after, now=now, dice=dice
            )
            for receiver in receivers
        )

    @property
    def states(self) -> dict[str, CourierState]:
        """What each receiver's courier is at."""
        return {courier.receiver.name: courier.state for courier in self.couriers}

    def start(self) -> None:
        """Begin; returns at once, whether there is a broker or not. A second call does nothing."""
        for courier in self.couriers:
            courier.start()

    def stop(self) -> None:
        """End, within 25 s; idempotent. What has not been delivered is delivered by the next one."""
        for courier in self.couriers:
            courier.ask_to_stop()
        for courier in self.couriers:
            courier.stop()

    def observe(self) -> None:
        """Bring the metrics up to date that time moves: before each scrape."""
        for courier in self.couriers:
            courier.observe()
