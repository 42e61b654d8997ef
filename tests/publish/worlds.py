"""The brokers that the tests of publishing run on, and their topics."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from monitor.broker.apache import ApacheKafka
from monitor.broker.embedded import EmbeddedBroker
from monitor.wire.events import read_access_event

BOTH = [pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)]
"""The worlds that a `broker` fixture takes as its params."""


@contextmanager
def world(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the broker that the fixture's param names: the shared fixture's where there is one."""
    try:
        yield request.getfixturevalue(request.param).bootstrap_servers
    except pytest.FixtureLookupError:
        with EmbeddedBroker() if request.param == "embedded" else ApacheKafka(heap="512m") as own:
            yield own.bootstrap_servers


def make_topic(address: str, name: str, partitions: int = 8) -> None:
    """Make it, unless it is there already, and wait until it can be written."""
    admin = KafkaAdminClient(bootstrap_servers=address)
    pause = threading.Event()
    try:
        if name not in admin.list_topics():
            admin.create_topics([NewTopic(name, partitions, 1)])
        for _ in range(200):
            (topic,) = admin.describe_topics([name])
            if len(topic["partitions"]) == partitions and all(
                one["leader_id"] >= 0 for one in topic["partitions"]
            ):
                return
            pause.wait(0.05)
        raise AssertionError(f"{name} did not come up: {topic}")
    finally:
        admin.close()


class Log:
    """An access-events topic of one test's own."""

    def __init__(self, address: str) -> None:
        self.address, self.prefix = address, uuid.uuid4().hex[:8] + "-"
        self.topic = self.prefix + "access-events"
        make_topic(address, self.topic)

    def settings(self, **others):
        return {"bootstrap_servers": self.address, "topic_prefix": self.prefix, **others}

    def records(self):
        """All there is, by partition."""
        partitions = [TopicPartition(self.topic, number) for number in range(8)]
        consumer = KafkaConsumer(bootstrap_servers=self.address, consumer_timeout_ms=5000)
        try:
            consumer.assign(partitions)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(partitions)
            found = []
            while any(consumer.position(one) < ends[one] for one in partitions):
                found += [record for some in consumer.poll(500).values() for record in some]
            return found
        finally:
            consumer.close()

    def events(self):
        return [read_access_event(record.value, record.headers) for record in self.records()]


def broker_away(test):
    """For a test whose broker is away: kafka-python 3.0 leaves refused sockets to the garbage collector."""
    marked = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")(test)
    return pytest.mark.usefixtures("refused")(marked)
