import gc
import logging
import uuid

import pytest
from kafka import KafkaConsumer, TopicPartition

from monitor.wire.events import read_access_event
from tests.publish.worlds import BOTH, make_topic, world


@pytest.fixture(scope="session", params=BOTH)
def broker(request):
    with world(request) as address:
        yield address


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


@pytest.fixture
def log(broker):
    return Log(broker)


@pytest.fixture
def refused(caplog):
    """Lets go of refused sockets within the test (see `broker_away`)."""
    # Records of its log would keep the errors, those their frames, and those the sockets.
    caplog.set_level(logging.CRITICAL + 1, "kafka")
    yield
    gc.collect()
