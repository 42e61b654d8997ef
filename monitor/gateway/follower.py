"""The follower: a view kept up from `session-commands` and `session-control`, in a thread of its own.

It reads both topics whole, up to their ends as they were when it asked; then the view is ready, and it follows. A
broker that goes away is waited for, with growing pauses; the view stays, ages, and says so. What was applied is never
applied again, and a log that is shorter than it was (an unclean election, a topic made anew) is read again from where
it changed. Who was away for so long that compaction may have taken what came meanwhile reads everything anew, and
decides by what was known until that is loaded.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from monitor.broker.clients import absent, consumer
from monitor.broker.connection import Connection
from monitor.broker.reach import require_broker
from monitor.core.errors import AbsenceError
from monitor.core.instants import HOUR, MINUTE, SECOND, LogMillis, Millis
from monitor.gateway.changes import Change, ChangeKind, Listener
from monitor.gateway.facts import Now
from monitor.gateway.fetches import Stored, lighten
from monitor.gateway.in_force import NOWHERE, ForceListener, InForce, count_commands
from monitor.gateway.view import Positions, View
from monitor.wire.topics import Topics

log = logging.getLogger(__name__)

_POLL: Final[Millis] = 200
"""How long a poll waits at most: stopping takes no longer."""
_AT_ONCE: Final = 4000
"""Records applied between two looks at the clock: some 20 ms of work, and 4 MB held."""
_SILENCE: Final[Millis] = 3 * SECOND
"""So long without a record, though watermarks come every second: then the broker is asked whether that is all."""
_CHECKED: Final[Millis] = MINUTE
"""How often it is asked all the same: one partition may be silent among many that are not."""
_ASKING: Final[Millis] = 5 * SECOND
_AWAY: Final[Millis] = HOUR // 2
"""So long without reading, and everything is read anew. Compaction leaves the last hour alone (`Topics.session_commands`);
of what is older it may have taken the tombstone between two lives of one id, and the second would go unseen."""
_PAUSES: Final = (100, 200, 500, SECOND, 2 * SECOND, 5 * SECOND)
_STOP_WAIT: Final = 10.0
_READING: Final[dict[str, Any]] = {
    "auto_offset_reset": "earliest",
    # See the README: the base install has no fast CRC.
    "check_crcs": False,
    "fetch_max_bytes": 4 << 20,
    "max_partition_fetch_bytes": 1 << 20,
}


class FollowerState(StrEnum):
    """What the follower is at."""

    STOPPED = "stopped"
    CONNECTING = "connecting"
    LOADING = "loading"
    FOLLOWING = "following"
    WAITING = "waiting"
    """The broker or a topic is not there: it will try again."""


def present() -> Now:
    """The present, by the system's clocks."""
    return Now(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)


class Follower:
    """Keeps `view` up to date from `start` to `stop`. Its twin without a broker is `MemoryView`."""

    def __init__(self, connection: Connection, topics: Topics, *, now: Callable[[], Now] = present) -> None:
        """Nothing is read before `start`. Of `topics` only the names count: the broker says how many partitions there are."""
        self.view = View(1, loaded=False)
        """What is known. Another object each time that it was loaded: ask for it anew for each decision."""
        self.state = FollowerState.STOPPED
        self.last_error = ""
        """Why it is waiting."""
        self.loading_seconds = 0.0
        """How long the last loading took."""
        self._fed = self.view
        self._fed_at: dict[TopicPartition, Millis] = {}
        """When each partition was last known to have been read to its end."""
        self._connection, self._now = connection, now
        self._commands, self._control = topics.session_commands.name, TopicPartition(topics.session_control.name, 0)
        self._listeners: list[Listener] = []
        self._in_force = NOWHERE
        self._force_listeners: list[ForceListener] = []
        self._stopping, self._ready = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = 0

    @property
    def ready(self) -> bool:
        """Whether the view has been loaded: before, it admits nobody."""
        return self._ready.is_set()

    @property
    def positions(self) -> Positions:
        """Up to where everything is in force: known to the view, and to all that have subscribed."""
        return self._in_force

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with what changes once the view is ready, from the follower's thread."""
        self._listeners.append(listener)

    def when_in_force(self, listener: ForceListener) -> None:
        """Call `listener` each time that something has come into force, from the follower's thread."""
        self._force_listeners.append(listener)

    def wait_ready(self, seconds: float) -> bool:
        """Wait until the view is loaded; whether it is."""
        return self._ready.wait(seconds)

    def start(self) -> None:
        """Begin to follow; returns at once. A second call does nothing."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="gateway-follower", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End it, within 10 s; idempotent. The view stays, and ages."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_STOP_WAIT)
        self.state = FollowerState.STOPPED

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.state = FollowerState.CONNECTING
            try:
                with consumer(self._connection, **_READING) as client:
                    self._follow(client)
            except AbsenceError as error:
                self._wait(str(error))
            except Exception as error:
                # Whatever it is: a gateway that silently no longer learns who ended would be worse.
                log.exception("gateway_follower_failed")
                self._wait(f"{type(error).__name__}: {error}")

    def _wait(self, why: str) -> None:
        if self._stopping.is_set():
            return
        self.state, self.last_error = FollowerState.WAITING, why
        pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        self._failures += 1
        log.warning("gateway_view_waits", extra={"error": why, "again_in_ms": pause, "ready": self.ready})
        self._stopping.wait(pause / SECOND)

    def _follow(self, client: KafkaConsumer) -> None:
        """Read until stopped. Raises what ends the connection."""
        if not lighten(client):
            log.warning("gateway_reads_slowly", extra={"why": "this kafka-python is not one whose fetches are known"})
        began = time.monotonic()
        doubted = self._load(client)
        while doubted and not self._stopping.is_set():
            # Compaction works while we read: of [end, tombstone, end of another life] we may have read the first before it was
            # removed, and the last after. Whoever is doubted twice is not of another life, or the first would be gone by now.
            log.info("gateway_view_doubted", extra={"sessions": len(doubted)})
            self._fed = View(len(self._fed.positions), loaded=False)
            doubted = self._load(client) - doubted
        if self._stopping.is_set():
            return
        self.loading_seconds = time.monotonic() - began
        self.state, self.last_error, self._failures = FollowerState.FOLLOWING, "", 0
        self._publish()
        heard = asked = self._now().monotonic
        while not self._stopping.is_set():
            moved = self._turn(client, catching_up=False)
            now = self._now().monotonic
            heard = now if moved else heard
            if now - heard > _SILENCE or now - asked > _CHECKED:
                self._ask(client)
                heard = asked = now

    def _load(self, client: KafkaConsumer) -> set[str]:
        """Read up to the ends; the sessions of which what is known may be of another life, where all was read anew."""
        ends = self._assign(client)
        self.state = FollowerState.LOADING
        while not self._stopping.is_set() and any(client.position(one) < end for one, end in ends.items()):
            self._turn(client, catching_up=True)
        return set() if self._fed.loaded else set(self._fed.commanded.outranked)

    def _publish(self) -> None:
        """Decide by what has been read; whoever holds something open has to look at it again."""
        view, before = self._fed, self.view
        if not view.loaded:
            view.finish_loading()
            self.view = view
            if before.loaded:
                self._tell([Change(ChangeKind.CONTROLS)])
            self._bring_into_force({})
            self._ready.set()
        log.info(
            "gateway_view_current",
            extra={"seconds": round(self.loading_seconds, 3), "sessions": len(view.commanded), "locks": len(view.locks)},
        )

    def _ask(self, client: KafkaConsumer) -> None:
        """Raise AbsenceError where a silence is not for want of records: kafka-python tells of no outage by itself."""
        require_broker(self._connection)
        ends = client.end_offsets(list(client.assignment()), timeout_ms=_ASKING)
        before = {one: self._applied(one) + 1 for one in ends}
        self._turn(client, catching_up=False)  # what is still to be had is no fault
        now = self._now().monotonic
        wrong = []
        for one, end in ends.items():
            if before[one] > end or before[one] == self._applied(one) + 1 < end:
                wrong.append(f"{one.topic}/{one.partition}")
            elif self._applied(one) + 1 >= end:
                self._fed_at[one] = now
        if wrong:
            raise AbsenceError(
                f"{self._connection.bootstrap_servers}: {', '.join(sorted(wrong))} end elsewhere than was read, and nothing more comes"
            )

    def _assign(self, client: KafkaConsumer) -> dict[TopicPartition, int]:
        """Take up all partitions where the view stands; their ends as they are now."""
        numbers = client.partitions_for_topic(self._commands)
        for name, there in ((self._commands, numbers), (self._control.topic, client.partitions_for_topic(self._control.topic))):
            if not there:
                raise absent(self._connection, name)
        count = max(numbers) + 1
        now = self._now().monotonic
        away = now - min(self._fed_at.values(), default=now)
        if count != len(self._fed.positions) or away > _AWAY:
            log.info("gateway_view_begins", extra={"partitions": count, "away_ms": away})
            self._fed = View(count, loaded=False)
        assigned = [TopicPartition(self._commands, number) for number in range(count)]
        client.assign([*assigned, self._control])
        if not self._fed.loaded:
            self._fed_at = dict.fromkeys([*assigned, self._control], now)
        ends: dict[TopicPartition, int] = client.end_offsets([*assigned, self._control])
        for one, end in ends.items():
            at = self._applied(one) + 1
            if at > end:
                self._start_over(one, 0)
            if at == 0 or at > end:
                client.seek_to_beginning(one)
            else:
                client.seek(one, at)
        return ends

    def _turn(self, client: KafkaConsumer, *, catching_up: bool) -> bool:
        """One poll, applied; whether there was anything. Controls first, so that no watermark is ahead of them for a moment."""
        fetched: dict[TopicPartition, list[Stored]] = client.poll(_POLL, max_records=_AT_ONCE)
        now, view = self._now(), self._fed
        changes: list[Change] | None = [] if view.loaded and self._listeners else None
        commands: Counter[LogMillis] = Counter()
        for one, records in sorted(fetched.items(), key=lambda item: item[0] != self._control):
            if now.monotonic - self._fed_at[one] > _AWAY and view.loaded:
                raise AbsenceError(f"{one.topic}/{one.partition} was out of reach for too long: everything is read anew")
            self._fed_at[one] = now.monotonic
            if records[0].offset <= self._applied(one):
                self._start_over(one, records[0].offset)
            if one == self._control:
                view.take_controls(records, changes)
                continue
            highwater = client.highwater(one)
            news = not catching_up and highwater is not None and client.position(one) >= highwater
            view.take_commands(one.partition, records, now, changes, news=news)
            if view.loaded and self._force_listeners:
                commands.update(count_commands(records))
        for one in client.assignment():
            # By position: compaction leaves holes, at the end too.
            if one == self._control:
                view.control_read_to(client.position(one) - 1)
            else:
                view.read_to(one.partition, client.position(one) - 1)
        if changes:
            self._tell(changes)
        if view.loaded:
            self._bring_into_force(commands)
        return bool(fetched)

    def _bring_into_force(self, commands: Mapping[LogMillis, int]) -> None:
        """Say how far it is. Only now: what is told before its listeners let go of what they hold would not be true."""
        applied = self._fed.applied
        if applied != self._in_force:
            self._in_force = applied
            told = InForce(applied, self._now(), commands)
            for listener in self._force_listeners:
                listener(told)

    def _tell(self, changes: list[Change]) -> None:
        for listener in self._listeners:
            listener(changes)

    def _start_over(self, one: TopicPartition, offset: int) -> None:
        """The log has got shorter: what stands there from `offset` on counts, though as much had been read before."""
        log.warning("log_got_shorter", extra={"topic": one.topic, "partition": one.partition, "applied": self._applied(one), "from": offset})
        if one == self._control:
            self._fed.start_controls_over(offset)
        else:
            self._fed.start_over(one.partition, offset)

    def _applied(self, one: TopicPartition) -> int:
        return self._fed.control if one == self._control else self._fed.positions[one.partition]
