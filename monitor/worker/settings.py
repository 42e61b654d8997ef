"""What the operator can choose of the stream engine, with defaults that `reference/engine.md` section 9 argues for."""

from typing import Any, Final, Protocol, TypedDict

import msgspec

from monitor.core.instants import SECOND, Millis

SHIPPED: Final[Millis] = 10 * SECOND
"""The session timeout by default."""


class Connection(Protocol):
    """How every aiokafka client reaches the broker: `monitor.broker.connection.Connection` is one."""

    def aiokafka(self) -> dict[str, Any]:
        """Keyword arguments: bootstrap_servers, security_protocol, sasl_*, ssl_context."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Group, topic and limits of one worker process."""

    app_id: str
    """Faust's app id: the consumer group, and the first part of the changelog's name."""
    topic: str
    """access-events; session-lifecycle, for detection."""
    table: str = "sessions"
    """The last part of the changelog's name."""
    connection: Any
    """A `Connection`."""
    client_id: str = "session-monitor"
    instance_id: str | None = None
    """Static membership, where the operator gives each process a lasting name."""
    session_timeout_ms: Millis = SHIPPED
    heartbeat_ms: Millis = 3_000
    rebalance_timeout_ms: Millis = 30_000
    """How long the group waits for the final checkpoint of each member."""
    max_poll_interval_ms: Millis = 120_000
    """A worker that hands nothing over for so long leaves the group."""
    request_timeout_ms: Millis = 40_000
    fetch_bytes: int = 1 << 20
    """Per partition; bounds memory to partitions x this, and must hold the largest record batch."""
    fetch_wait_ms: Millis = 500
    """How long the broker may hold a fetch without data; it answers at once when there is some."""
    poll_records: int = 5_000
    """Records made into objects at a time: bounds how long the consumer's thread keeps the interpreter."""
    stop_timeout: float = 20.0
    """Seconds for the last checkpoint; then as many for leaving the group."""


class Times(TypedDict, total=False):
    """Times of an `EngineSettings`, by name."""

    session_timeout_ms: Millis
    heartbeat_ms: Millis
    rebalance_timeout_ms: Millis
    request_timeout_ms: Millis


def timeouts(session_timeout: Millis) -> Times:
    """A session timeout, and what follows from it.

    One shorter than what is shipped says that broker and workers are near one another and little is at stake: then nobody
    is waited for much longer than that. (The embedded broker now and then leaves a join without an answer: it is sent again.)
    """
    times = Times(session_timeout_ms=session_timeout, heartbeat_ms=min(3 * SECOND, session_timeout // 3))
    if session_timeout < SHIPPED:
        times["rebalance_timeout_ms"], times["request_timeout_ms"] = session_timeout - SECOND, session_timeout
    return times
