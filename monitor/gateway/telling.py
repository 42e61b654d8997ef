"""`Telling`: what one running instance of a gateway tells on Kafka: which sessions are used, what is in force, and who was refused."""

import secrets
import socket
from collections.abc import Callable
from typing import Final, Protocol

from monitor.broker.connection import Connection
from monitor.core.instants import MINUTE, Millis
from monitor.gateway.activity import Activity
from monitor.gateway.dispatch import Dispatch, to_kafka
from monitor.gateway.enforcer import Witness
from monitor.gateway.facts import Facts, Now
from monitor.gateway.inflight import InFlight
from monitor.gateway.metrics import GatewayMetrics
from monitor.gateway.receipt_log import ReceiptLog
from monitor.gateway.receipts import ForceFollowing, Receipts
from monitor.wire.topics import Topics

GRANULARITIES: Final = (100, MINUTE)
"""Milliseconds within which uses of a session may be told as one: the least and the most."""
IN_FLIGHT_EVERY: Final = 5
"""Granularities between two words for a request that still runs."""


class Underway(Protocol):
    """`inflight.Request`."""

    def end(self) -> None:
        """It is over."""


class HoldsSessions(Protocol):
    """`InFlight`: as long as a request runs, its session is in use."""

    def begin(self, facts: Facts) -> Underway | None:
        """A request has been admitted, and runs. None: there is nothing to be held."""


class HoldsNone:
    """Where nobody is to be told."""

    def begin(self, facts: Facts) -> None:
        """Nothing is held."""


class Tells(Protocol):
    """`Telling`, `TellsNobody`."""

    @property
    def witnesses(self) -> tuple[Witness, ...]:
        """Those who want to know of decisions."""

    @property
    def inflight(self) -> HoldsSessions:
        """Who wants to know of requests that run."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


class TellsNobody:
    """Without Kafka."""

    witnesses: tuple[Witness, ...] = ()
    inflight: HoldsSessions = HoldsNone()

    def start(self) -> None:
        """Nothing to be done."""

    def stop(self) -> None:
        """Nothing to be done."""


class Telling:
    """Use it with `start` and `stop`; it connects in the background."""

    def __init__(
        self, connection: Connection, topics: Topics, name: str, following: ForceFollowing, now: Callable[[], Now], metrics: GatewayMetrics,
        *, receipts: bool, granularity: Millis | None,
    ) -> None:  # fmt: skip
        """`receipts`: whether they are written. Uses of a session within `granularity` are told as one; None: none is told."""
        self.witnesses: tuple[Witness, ...] = ()
        self.inflight: HoldsSessions = HoldsNone()
        self._receipts = self._dispatch = self._in_flight = None
        if receipts:
            self._receipts = Receipts(following, name, lambda: ReceiptLog(connection, topics.enforcement_receipts.name), now, metrics)
            self.witnesses += (self._receipts,)
        if granularity is not None:
            dispatch = self._dispatch = Dispatch(to_kafka(connection, topics, name, granularity), lambda: now().wall)
            metrics.watch_activity(lambda: dispatch.figures)
            self.witnesses += (Activity(following, dispatch),)
            self.inflight = self._in_flight = InFlight(following, dispatch, now, period=IN_FLIGHT_EVERY * granularity)

    def start(self) -> None:
        """Begin to tell. Idempotent."""
        for part in (self._receipts, self._dispatch, self._in_flight):
            if part is not None:
                part.start()

    def stop(self) -> None:
        """Deliver what waits, and withdraw; within some seconds. Idempotent."""
        for part in (self._in_flight, self._dispatch, self._receipts):
            if part is not None:
                part.stop()


def instance_name(prefix: str) -> str:
    """A name for this running instance alone."""
    return f"{prefix}/{socket.gethostname()}/{secrets.token_hex(4)}"
