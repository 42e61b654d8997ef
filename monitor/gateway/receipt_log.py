"""`ReceiptLog`: one connection on which receipts are written to `enforcement-receipts`, each acknowledged."""

from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from kafka.errors import KafkaError

from monitor.broker.connection import Connection
from monitor.broker.reach import require_broker
from monitor.core.errors import AbsenceError
from monitor.core.instants import SECOND, Millis
from monitor.publish.producer import KafkaPythonProducer
from monitor.wire.receipts import Receipt, encode_receipt

_CONNECTING: Final = 5.0
_DELIVERY: Final[Millis] = 5 * SECOND
_LINGER: Final[Millis] = 2
"""So that what is written at once goes in one batch."""
_SPARE: Final = 1.0
"""After the delivery's own time a record must have failed; if nobody says so, the connection is of no use."""


class ReceiptWriter(Protocol):
    """Where receipts go."""

    def write(self, receipts: Sequence[Receipt]) -> None:
        """Return once the broker has them all. Raises AbsenceError where some may be missing: write them again, elsewhere."""

    def close(self, timeout: float) -> None:
        """End; idempotent."""


class ReceiptLog:
    """Connects at once. Raises AbsenceError where no broker answers, or the topic is not there: it is never made here."""

    def __init__(self, connection: Connection, topic: str) -> None:
        """`topic` is enforcement-receipts."""
        require_broker(connection)
        self._servers = connection.bootstrap_servers
        self._producer = KafkaPythonProducer(connection.kafka_python(), topic, _CONNECTING, _DELIVERY, _LINGER)

    def write(self, receipts: Sequence[Receipt]) -> None:
        """Return once the broker has them all, in order, within 6 s. Raises AbsenceError where some may be missing."""
        outcomes: SimpleQueue[BaseException | None] = SimpleQueue()
        try:
            for receipt in receipts:
                outcome = self._producer.send(encode_receipt(receipt), None)
                outcome.add_callback(lambda _: outcomes.put(None))
                outcome.add_errback(outcomes.put)
            for _ in receipts:
                failure = outcomes.get(timeout=_DELIVERY / SECOND + _SPARE)
                if failure is not None:
                    raise failure
        except Empty:
            raise AbsenceError(f"{self._servers}: the broker has not acknowledged the receipts in time") from None
        except (KafkaError, ValueError) as error:
            raise AbsenceError(f"{self._servers}: receipts were not taken ({type(error).__name__}: {error})") from error

    def close(self, timeout: float) -> None:
        """End within `timeout` seconds or shortly after."""
        self._producer.close(timeout)
