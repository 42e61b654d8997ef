"""A topic of alerts on a broker, as detection writes it, and a notifier that follows it."""

from contextlib import contextmanager

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from monitor.broker.tail import tail
from monitor.notify.backoff import Backoff
from monitor.notify.courier import CourierState
from monitor.notify.notifier import Notifier
from monitor.wire.alerts import encode_alert
from monitor.wire.dead_letters import decode_dead_letter
from tests.notify.listening import until

QUICK = Backoff(first=10, longest=50, longest_asked=200)


class Alerts:
    """Writes session-alerts; each call returns once the broker has it."""

    def __init__(self, world) -> None:
        self._producer = KafkaProducer(bootstrap_servers=world.bootstrap_servers)
        self._world, self.topic = world, world.topics.session_alerts.name

    def close(self) -> None:
        self._producer.close()

    def write(self, *alerts) -> None:
        for one in alerts:
            record = encode_alert(one)
            self.raw(record.key, record.value, record.headers)

    def raw(self, key: bytes, value: bytes | None, headers=(), timestamp: int | None = None) -> None:
        self._producer.send(self.topic, key=key, value=value, headers=list(headers), timestamp_ms=timestamp).get(20)


@contextmanager
def notifying(world, *receivers, **settings):
    """A notifier that has taken up the topic: what is written from now on is news to it."""
    notifier = Notifier(world.connection, world.topics, receivers, **{"backoff": QUICK, **settings})
    notifier.start()
    try:
        until(lambda: set(notifier.states.values()) <= {CourierState.FOLLOWING, CourierState.DELIVERING})
        yield notifier
    finally:
        notifier.stop()


def dead_letters(world):
    """What has been put aside."""
    found = tail(world.connection, world.topics.dead_letters.name, earliest=True, follow=False)
    return [decode_dead_letter(one.key, one.value, one.headers) for one in found if one is not None]


def committed(world, notifier, number: int = 0) -> int | None:
    """How far a receiver's group is."""
    courier = notifier.couriers[number]
    client = KafkaConsumer(bootstrap_servers=world.bootstrap_servers, group_id=courier.group, enable_auto_commit=False)
    try:
        return client.committed(TopicPartition(world.topics.session_alerts.name, 0))
    finally:
        client.close()


def told(listening):
    """What a webhook was told: number, state; in order."""
    return [(int(post.said["fingerprint"], 16), post.said["state"]) for post in listening.taken]


def figure(notifier, name: str, **labels):
    """A metric of the notifier."""
    notifier.observe()
    return notifier.metrics.registry.get_sample_value(f"session_monitor_notify_{name}", labels)
