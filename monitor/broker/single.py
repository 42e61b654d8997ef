"""One acknowledged write to a topic of one partition: an order that somebody gives, and waits for."""

from collections.abc import Sequence

from monitor.broker.clients import REQUEST_WAIT, absent, administrator, producer
from monitor.broker.connection import Connection


def write_one(
    connection: Connection, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
) -> int:  # fmt: skip
    """Write one record and return its offset, once all in-sync replicas have it. Raises AbsenceError."""
    # kafka-python's producer would have a missing topic made, on brokers that do so; with the wrong settings.
    with administrator(connection) as admin:
        if topic not in admin.list_topics():
            raise absent(connection, topic)
    with producer(connection) as client:
        sent = client.send(topic, key=key, value=value, headers=list(headers), partition=0)
        return int(sent.get(2 * REQUEST_WAIT / 1000).offset)
