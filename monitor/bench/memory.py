"""What a session costs in resident memory: a worker with the sessions, minus the same worker before them."""

import time
from pathlib import Path

from monitor.bench.observer import Observer
from monitor.bench.stage import Stage
from monitor.bench.throughput import POLICY
from monitor.broker.connection import Connection

WARM_UP = (50_000, 500_000)
"""Sessions and events that come first: modules, buffers and pools have then reached the size they keep. What opening many
sessions at once takes for a moment is not given back to the system, and would be counted as theirs."""
APART = 1 << 28
"""The number of the first session of the warm-up: none of the sessions measured."""
SETTLE = 3.0
"""Seconds for checkpoints in flight, and a turn of the collector."""


def measure(connection: Connection, sessions: int, directory: Path) -> float:
    """Bytes of resident memory for each session."""
    with Stage(connection, directory, POLICY, "memory") as stage, Observer(connection, stage.topics) as observer:
        worker = stage.worker()
        stage.ready(observer, worker)
        few, many = WARM_UP
        stage.preload(few, many, APART)
        stage.drain(worker, stage.ends())
        time.sleep(SETTLE)
        before = worker.usage().rss_bytes
        stage.preload(sessions, 2 * sessions)
        stage.drain(worker, stage.ends())
        time.sleep(SETTLE)
        return (worker.usage().rss_bytes - before) / sessions
