"""What the operator can choose of the stream engine, with defaults that `reference/engine.md` section 9 argues for."""

from typing import Any, Protocol

import msgspec

from monitor.core.instants import Millis


class Connection(Protocol):
    """How every aiokafka client reaches the broker: `monitor.broker.connection.Connection` is one."""

    def aiokafka(self) -> dict[str, Any]:
        """Keyword arguments: bootstrap_servers, security_protocol, sasl_*, ssl_context."""


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Group, topic and limits of one worker process."""

    app_id: str
    """Faust's app id: the consumer group, and the first part of the changelog's name."""
    topic: str
    """access-events."""
    connection: Any
    """A `Connection`."""
    client_id: str = "session-monitor"
    instance_id: str | None = None
    """Static membership, where the operator gives each process a lasting name."""
    session_timeout_ms: Millis = 10_000
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
