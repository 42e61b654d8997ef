"""`Courier`: follows session-alerts for one receiver, in a thread of its own, and delivers in order.

How far it has got is the committed offset of a consumer group of the receiver's own. It commits after an alert is delivered or put aside,
so what was cut short is delivered again, under the same key. Of the records before that offset it takes at its start what has been told,
so that updates of a told state are no news. A receiver that begins hears of what fires, and of nothing that is over.
"""

import logging
import random
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from monitor.broker.clients import REQUEST_WAIT, absent, administrator, consumer, producer
from monitor.broker.connection import Connection
from monitor.broker.reach import require_broker
from monitor.broker.tail import TailRecord, read_between
from monitor.core.errors import AbsenceError
from monitor.core.instants import DAY, SECOND, Millis
from monitor.notify.backoff import Backoff
from monitor.notify.clock import wall
from monitor.notify.delivery import Delivery, Ending, Fate
from monitor.notify.metrics import NotifyMetrics
from monitor.notify.receiver import Receiver
from monitor.notify.told import Decision, Told
from monitor.wire.alerts import AlertRecord, AlertState, decode_alert
from monitor.wire.bad_record import BadRecord
from monitor.wire.dead_letters import encode_dead_letter
from monitor.wire.topics import Topics

log = logging.getLogger(__name__)

GIVE_UP_AFTER: Final[Millis] = DAY
_POLL: Final[Millis] = 200
_AT_ONCE: Final = 100
"""Records held while one of them waits for its receiver."""
_SILENCE: Final[Millis] = 10 * SECOND
"""So long without a record, and the broker is asked whether that is all."""
_ASKING: Final[Millis] = 5 * SECOND
_PAUSES: Final = (100, 200, 500, SECOND, 2 * SECOND, 5 * SECOND)
_STOP_WAIT: Final = 25.0
"""Seconds: an attempt that is under way takes up to 20."""
_OTHERS: Final = b"~"
"""What keys begin with that are not an alert's."""


class CourierState(StrEnum):
    """What it is at."""

    STOPPED = "stopped"
    CONNECTING = "connecting"
    FOLLOWING = "following"
    DELIVERING = "delivering"
    """An alert is on its way, or waits for its receiver."""
    WAITING = "waiting"
    """The broker or a topic is not there: it will try again."""


class Courier:
    """Delivers from `start` to `stop`."""

    def __init__(
        self, connection: Connection, topics: Topics, receiver: Receiver, metrics: NotifyMetrics, *,
        backoff: Backoff, give_up_after: Millis, now: Callable[[], Millis] = wall, dice: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        """Nothing is read or sent before `start`."""
        self.receiver = receiver
        self.state = CourierState.STOPPED
        self.last_error = ""
        """Why it waits, or what the receiver last said of an alert that it did not take."""
        self.group = f"{topics.app_id}-notify-{receiver.name}"
        """The consumer group under which the broker knows how far it is."""
        self._connection, self._metrics, self._now = connection, metrics, now
        self._alerts, self._dead_letters = topics.session_alerts.name, topics.dead_letters.name
        self._told = Told()
        self._next: dict[TopicPartition, int] = {}
        """Of each partition, the first record that has not been dealt with. Empty: nothing has been read in this life."""
        self._committed: dict[TopicPartition, int] = {}
        self._began: Millis = 0
        self._delivery = Delivery(receiver, backoff, give_up_after, metrics, now=now, pause=self._pause, dice=dice)
        self._due: Millis | None = None
        self._failures = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        metrics.begin(receiver.name)

    def start(self) -> None:
        """Begin; returns at once. A second call does nothing."""
        if self._thread is None:
            self._stopping.clear()
            self._began = self._now()
            self._thread = threading.Thread(target=self._run, name=f"notify-{self.receiver.name}", daemon=True)
            self._thread.start()

    def ask_to_stop(self) -> None:
        """Begin no further attempt."""
        self._stopping.set()

    def stop(self) -> None:
        """End it, at once or after the attempt that is under way, within 25 s; idempotent. What is not delivered is, in the next life."""
        self.ask_to_stop()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_STOP_WAIT)
        self.state = CourierState.STOPPED

    def observe(self) -> None:
        """Bring the figures up to date that time moves: before each scrape."""
        due = self._due
        self._metrics.waiting(self.receiver.name, 0 if due is None else max(0, self._now() - due))

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.state = CourierState.CONNECTING
            try:
                with consumer(self._connection, group_id=self.group, auto_offset_reset="earliest") as client:
                    self._follow(client)
            except AbsenceError as error:
                self._wait(str(error))
            except Exception as error:
                # Whatever it is: alerts that silently no longer reach anybody would be worse.
                log.exception("notify_courier_failed")
                self._wait(f"{type(error).__name__}: {error}")

    def _wait(self, why: str) -> None:
        self._metrics.connected(self.receiver.name, whether=False)
        if self._stopping.is_set():
            return
        self.state, self.last_error = CourierState.WAITING, why
        pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        self._failures += 1
        log.warning("notify_waits_for_the_broker", extra={"receiver": self.receiver.name, "error": why, "again_in_ms": pause})
        self._pause(pause)

    def _pause(self, time: Millis) -> bool:
        """Wait, and do what is due meanwhile; whether we are ending."""
        until = self._now() + time
        while not self._stopping.is_set():
            self.receiver.tend(self._now())
            # A clock that is set must not make it wait for longer than that.
            left = min(time, until - self._now())
            if left <= 0:
                return False
            self._stopping.wait(min(left, SECOND) / SECOND)
        return True

    def _follow(self, client: KafkaConsumer) -> None:
        """Deliver until stopped. Raises what ends the connection."""
        self._take_up(client)
        self._failures, heard = 0, self._now()
        self._metrics.connected(self.receiver.name, whether=True)
        while not self._stopping.is_set():
            self.state = CourierState.FOLLOWING
            self.receiver.tend(self._now())
            if self._turn(client):
                heard = self._now()
            elif abs(self._now() - heard) > _SILENCE:
                self._ask(client)
                heard = self._now()

    def _take_up(self, client: KafkaConsumer) -> None:
        """Stand where it was left off."""
        numbers = client.partitions_for_topic(self._alerts)
        if not numbers:
            raise absent(self._connection, self._alerts)
        assigned = [TopicPartition(self._alerts, number) for number in sorted(numbers)]
        begins, ends = client.beginning_offsets(assigned), client.end_offsets(assigned)
        for one in assigned:
            if one not in self._next:
                self._load(client, one, begins[one], ends[one])
            elif self._next[one] > ends[one]:
                self._start_over(one, begins[one])
        client.assign(assigned)
        for one in assigned:
            client.seek(one, self._next.get(one, begins[one]))

    def _load(self, client: KafkaConsumer, one: TopicPartition, begin: int, end: int) -> None:
        """Learn what has been told; where nobody has ever begun, tell what fires."""
        committed: int | None = client.committed(one)
        if committed is not None and committed > end:
            self._start_over(one, begin)
            return
        if committed is None:
            if not self._begin(client, one, begin, end):
                return
        else:
            for record in read_between(client, {one: begin}, {one: committed}):
                self._learn(record)
        self._next[one] = end if committed is None else committed
        self._commit(client, one)

    def _begin(self, client: KafkaConsumer, one: TopicPartition, begin: int, end: int) -> bool:
        """Tell what fires, and nothing that is over; whether that is done.

        Not committed one by one: cut short, the next life begins anew, and tells nothing that is over either.
        """
        # Read twice: where they stand takes little room, they themselves much.
        newest = {record.key: record.offset for record in read_between(client, {one: begin}, {one: end})}
        for record in read_between(client, {one: begin}, {one: end}):
            if newest.get(record.key) != record.offset:
                continue
            alert = self._read(record)
            if alert is not None and alert.state is AlertState.RESOLVED:
                self._told.keep(alert)
            elif alert is not None and self._deal(record) is _Dealt.NOT_YET:
                return False
        return True

    def _learn(self, record: TailRecord) -> None:
        """It was dealt with in an earlier life."""
        alert = self._read(record)
        if alert is not None:
            self._told.keep(alert)
            self.receiver.update(alert)

    def _start_over(self, one: TopicPartition, begin: int) -> None:
        """The log has got shorter (a topic made anew): all that stands there now counts, but for what this life has told."""
        log.warning("log_got_shorter", extra={"topic": one.topic, "partition": one.partition, "next": self._next.get(one)})
        self._next[one] = begin

    def _turn(self, client: KafkaConsumer) -> bool:
        """One poll, dealt with; whether there was anything."""
        fetched: dict[TopicPartition, list[TailRecord]] = client.poll(_POLL, max_records=_AT_ONCE)
        for one, records in fetched.items():
            for record in records:
                self._metrics.behind(self.receiver.name, max(0, (client.highwater(one) or 0) - record.offset))
                dealt = self._deal(record)
                if dealt is _Dealt.NOT_YET:
                    break
                self._next[one] = record.offset + 1
                if dealt is _Dealt.TOLD:
                    self._commit(client, one)
            self._commit(client, one)
        if not fetched:
            self._metrics.behind(self.receiver.name, 0)
        return bool(fetched)

    def _ask(self, client: KafkaConsumer) -> None:
        """Raise AbsenceError where a silence is not for want of records: kafka-python tells of no outage by itself."""
        require_broker(self._connection)
        ends: dict[TopicPartition, int] = client.end_offsets(list(self._next), timeout_ms=_ASKING)
        if self._turn(client):
            return
        # By position: compaction leaves holes before the end.
        wrong = [f"{one.topic}/{one.partition}" for one, end in ends.items() if client.position(one) != end]
        if wrong and not self._turn(client):
            raise AbsenceError(
                f"{self._connection.bootstrap_servers}: {', '.join(wrong)} end elsewhere than was read, and nothing more comes"
            )

    def _commit(self, client: KafkaConsumer, one: TopicPartition) -> None:
        if self._committed.get(one) != self._next[one]:
            client.commit({one: OffsetAndMetadata(self._next[one], "", -1)})
            self._committed[one] = self._next[one]

    def _deal(self, record: TailRecord) -> "_Dealt":
        """Tell of one record, or know why not. Raises AbsenceError where it can't be put aside."""
        alert = self._read(record)
        if alert is None:
            return _Dealt.PASSED
        decision = self._told.judge(alert)
        if decision is Decision.TELL:
            if not self._tell(record, alert):
                return _Dealt.NOT_YET
        else:
            self.receiver.update(alert)
            if decision is Decision.SILENCED:
                self._metrics.silenced(self.receiver.name)
        # Only now: what is cut short is still to be told.
        self._told.keep(alert)
        return _Dealt.TOLD if decision is Decision.TELL else _Dealt.PASSED

    def _read(self, record: TailRecord) -> AlertRecord | None:
        """The alert in it, if it is one."""
        key = record.key or b""
        if key.startswith(_OTHERS):
            return None
        if record.value is None:
            fingerprint = key.decode(errors="replace")
            self._told.forget(fingerprint)
            self.receiver.drop(fingerprint)
            return None
        try:
            return decode_alert(record.value)
        except BadRecord as error:
            self._metrics.not_understood(self.receiver.name)
            log.warning("alert_not_understood", extra={"partition": record.partition, "offset": record.offset, "error": str(error)})
            return None

    def _tell(self, record: TailRecord, alert: AlertRecord) -> bool:
        """Whether it is delivered or put aside, or else we are ending."""
        # What became due while nobody was there to deliver it has its whole time from now.
        self._due = max(record.timestamp, self._began)
        self.state = CourierState.DELIVERING
        try:
            fate = self._delivery.deliver(alert, self._due)
        finally:
            self._due = None
        if fate.ending is Ending.STOPPED:
            return False
        if fate.ending is not Ending.DELIVERED:
            self._put_aside(record, fate)
            if fate.ending is Ending.REFUSED:
                self.receiver.drop(alert.fingerprint)
            else:
                self.receiver.update(alert)
        return True

    def _put_aside(self, record: TailRecord, fate: Fate) -> None:
        self.last_error = fate.detail
        log.error(
            "alert_put_aside",
            extra={
                "receiver": self.receiver.name, "reason": fate.ending.value, "error": fate.detail, "partition": record.partition,
                "offset": record.offset,
            },
        )  # fmt: skip
        detail = f"{self.receiver.name}: {fate.detail}"
        letter = encode_dead_letter(record, fate.ending.value, detail, record.topic, record.partition)
        # kafka-python's producer would have a missing topic made, on brokers that do so; with the wrong settings.
        with administrator(self._connection) as admin:
            if self._dead_letters not in admin.list_topics():
                raise absent(self._connection, self._dead_letters)
        with producer(self._connection) as client:
            sent = client.send(self._dead_letters, key=letter.key, value=letter.value, headers=letter.headers)
            sent.get(2 * REQUEST_WAIT / SECOND)
        self._metrics.put_aside(self.receiver.name, fate.ending.value)


class _Dealt(StrEnum):
    """What became of one record."""

    PASSED = "passed"
    """It was nothing to tell."""
    TOLD = "told"
    NOT_YET = "not yet"
    """We are ending: it is still to be delivered."""
