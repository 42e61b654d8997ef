"""Brings the live view what it shows: follows the commands topic, and asks the workers that the topic names."""

import threading
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, Final
from urllib.request import ProxyHandler, build_opener

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from prometheus_client.parser import text_string_to_metric_families

from monitor.broker.connection import Connection
from monitor.cli.gathered import Gathered
from monitor.cli.view import Picture
from monitor.core.errors import MonitorError
from monitor.core.instants import Millis
from monitor.observe.client import WorkerClient
from monitor.wire.commands import CommandRecord
from monitor.wire.topics import Topic

POLL_SECONDS: Final = 0.5
STARTING_SECONDS: Final = 0.1
"""As long as a partition has no owner."""
ANSWER_SECONDS: Final = 2.0
FOLLOW_MILLIS: Final = 100
STOP_SECONDS: Final = 1.0
"""For both threads together; one that hangs on a worker that hangs is left to the end of the process."""
MOST_SESSIONS: Final = 500
"""Live sessions asked of one worker."""
EVENTS: Final = "session_monitor_events"


class Feed:
    """Two threads and what they have gathered. `stop` is idempotent and takes at most a second.

    What can't be reached is asked again and shown as a notice: a view never ends what it looks at.
    """

    def __init__(
        self,
        connection: Connection,
        topic: Topic,
        token: str,
        gathered: Gathered,
        on_command: Callable[[CommandRecord], None] = lambda _: None,
    ) -> None:
        """`topic` is session-commands; `on_command` is called for each, in a thread of the feed."""
        self._connection = connection
        self._topic = topic
        self._token = token
        self._gathered = gathered
        self._on_command = on_command
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, name="session-monitor-follow", daemon=True),
            threading.Thread(target=self._poll, name="session-monitor-poll", daemon=True),
        ]
        self._clients: dict[str, WorkerClient] = {}

    def start(self) -> None:
        """Begin with the first command on the topic."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def ready(self) -> bool:
        """Whether every partition has an owner that answers."""
        with self._lock:
            return self._gathered.complete

    def picture(self) -> Picture:
        """What is known right now."""
        with self._lock:
            return self._gathered.picture(_wall())

    def notice(self, text: str) -> None:
        """Say something in the view; an empty text takes it back."""
        with self._lock:
            self._gathered.notice = text

    # --- the commands topic --------------------------------------------------------------------------

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow_once()
            except (KafkaError, OSError) as error:
                self.notice(f"the broker can't be read: {error}")
                self._stopping.wait(POLL_SECONDS)

    def _follow_once(self) -> None:
        consumer = KafkaConsumer(
            **self._connection.kafka_python(), client_id="session-monitor-view", enable_auto_commit=False,
            group_id=None, auto_offset_reset="earliest", fetch_max_wait_ms=FOLLOW_MILLIS,
        )  # fmt: skip
        try:
            places = [TopicPartition(self._topic.name, number) for number in range(self._topic.partitions)]
            consumer.assign(places)
            consumer.seek_to_beginning(*places)
            while not self._stopping.is_set():
                for records in consumer.poll(timeout_ms=FOLLOW_MILLIS).values():
                    self._take(records)
        finally:
            consumer.close()

    def _take(self, records: list[Any]) -> None:
        for record in records:
            with self._lock:
                command = self._gathered.record(record.key, record.value)
            if command is not None:
                self._on_command(command)

    # --- the workers' APIs ---------------------------------------------------------------------------

    def _poll(self) -> None:
        while not self._stopping.wait(POLL_SECONDS if self.ready else STARTING_SECONDS):
            with self._lock:
                apis = self._gathered.apis
            try:
                self._ask(apis)
            except (MonitorError, OSError, ValueError) as error:
                self.notice(str(error))

    def _ask(self, apis: list[str]) -> None:
        self._clients = {api: self._clients.get(api) or WorkerClient(api, self._token, ANSWER_SECONDS) for api in apis}
        clients = self._clients.values()
        sessions = [row for client in clients for row in islice(client.sessions(_LIVE), MOST_SESSIONS)]
        matches = [client.matches({}) for client in clients]
        views = [view for client in clients for view in client.partitions().partitions]
        events = sum(_events(api) for api in apis)
        with self._lock:
            gathered = self._gathered
            gathered.sessions(sessions, sum(one.live for one in matches), sum(one.ended for one in matches))
            gathered.partitions(views)
            gathered.counters(_monotonic(), events)
            gathered.notice = ""


_LIVE: Final = {"state": "live", "limit": str(MOST_SESSIONS)}
# A proxy from the environment is none of ours.
_open: Final = build_opener(ProxyHandler({})).open


def _events(api: str) -> float:
    """Events applied so far, by a worker's metrics: records, less the worker's own ticks."""
    with _open(f"{api}/metrics", timeout=ANSWER_SECONDS) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return sum(
            sample.value
            for family in families
            if family.name == EVENTS
            for sample in family.samples
            if sample.name.endswith("_total") and sample.labels.get("path") != "tick"
        )


def _wall() -> Millis:
    return time.time_ns() // 1_000_000


def _monotonic() -> Millis:
    return time.monotonic_ns() // 1_000_000
