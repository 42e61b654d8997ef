"""Kafka clients that fail in words one can act on, and leave nothing open."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import (
    AuthorizationError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from monitor.broker.connection import Connection
from monitor.broker.reach import require_broker
from monitor.core.errors import AbsenceError
from monitor.core.instants import SECOND

CLIENT_ID: Final = "session-monitor"
BOOTSTRAP_WAIT: Final = 10 * SECOND
_LOGIN: Final = "--sasl-username, the password and --sasl-mechanism"
REQUEST_WAIT: Final = 15 * SECOND


@contextmanager
def administrator(connection: Connection) -> Iterator[KafkaAdminClient]:
    """Ask about topics and make them. Raises AbsenceError, also for what goes wrong inside the block."""
    with _client(connection, KafkaAdminClient) as client:
        yield client


@contextmanager
def consumer(connection: Connection, **settings: Any) -> Iterator[KafkaConsumer]:
    """Read, without a group. Raises AbsenceError, also for what goes wrong inside the block."""
    with _client(
        connection, KafkaConsumer, allow_auto_create_topics=False, enable_auto_commit=False, **settings
    ) as client:
        yield client


@contextmanager
def producer(connection: Connection) -> Iterator[KafkaProducer]:
    """Write a few records, each to be waited for. Raises AbsenceError, also for what goes wrong inside the block."""
    wait = {
        "max_block_ms": BOOTSTRAP_WAIT,
        "delivery_timeout_ms": 2 * REQUEST_WAIT,
        "allow_auto_create_topics": False,
    }
    with _client(connection, KafkaProducer, acks="all", enable_idempotence=True, **wait) as client:
        yield client


@contextmanager
def _client(connection: Connection, kind: Any, **settings: Any) -> Iterator[Any]:
    require_broker(connection)
    try:
        with _overheard() as heard:
            try:
                client = kind(
                    **connection.kafka_python(),
                    client_id=CLIENT_ID,
                    bootstrap_timeout_ms=BOOTSTRAP_WAIT,
                    request_timeout_ms=REQUEST_WAIT,
                    **settings,
                )
            except KafkaTimeoutError as error:
                raise heard.refusal or error from error
        try:
            yield client
        finally:
            client.close()
    except KafkaError as error:
        # A broker that ends the connection sooner than its refusal can be read looks like one that does not serve.
        doubt = (
            f"; or that {_LOGIN} are right"
            if connection.sasl and isinstance(error, KafkaTimeoutError)
            else ""
        )
        raise AbsenceError(f"{connection.bootstrap_servers}: {explain(error)}{doubt}") from error


class _Listener(logging.Handler):
    """Remembers why the broker did not let us in."""

    refusal: SaslAuthenticationFailedError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first refusal."""
        if self.refusal is None:
            refusals = (one for one in record.args or () if isinstance(one, SaslAuthenticationFailedError))
            self.refusal = next(refusals, None)


@contextmanager
def _overheard() -> Iterator[_Listener]:
    """Listen to the client while it connects: of a refused login it only says that time ran out."""
    log, listener = logging.getLogger("kafka.net"), _Listener()
    propagated = log.propagate
    log.addHandler(listener)
    log.propagate = False  # it says the same dozens of times
    try:
        yield listener
    finally:
        log.propagate = propagated
        log.removeHandler(listener)


def absent(connection: Connection, topic: str) -> AbsenceError:
    """To be raised where a topic is not there."""
    return AbsenceError(
        f"{connection.bootstrap_servers}: topic {topic} is not there: run session-monitor topics apply, or check --topic-prefix"
    )


def explain(error: KafkaError) -> str:
    """What the error means here, and what to do."""
    said = str(error) or type(error).__name__
    if isinstance(error, UnknownTopicOrPartitionError):
        return f"a topic is not there ({said}): run session-monitor topics apply, or check --topic-prefix"
    if isinstance(error, TopicAuthorizationFailedError | AuthorizationError):
        return f"the broker does not let us ({said}): check the ACLs of this user"
    if isinstance(error, SaslAuthenticationFailedError):
        return f"the broker does not know us ({said}): check {_LOGIN}"
    if isinstance(error, KafkaTimeoutError | KafkaConnectionError):
        return (
            f"the broker was found but did not serve in time ({said}): check that the addresses it advertises"
            " (advertised.listeners) can be reached from here, and that its partitions have leaders"
        )
    return f"the broker refused ({said})"
