"""Topics of one test's own on an embedded broker."""

import uuid
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from monitor.broker.connection import Connection
from monitor.cli.settings import Installation
from monitor.wire.topics import Topics

PARTITIONS = 3


class World:
    """Prefixed topics, and a plain client's hands to write and read them."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.topics = Topics(f"t{uuid.uuid4().hex[:8]}-", PARTITIONS)
        admin = KafkaAdminClient(bootstrap_servers=servers)
        try:
            admin.create_topics(
                [
                    NewTopic(name=topic.name, num_partitions=topic.partitions, replication_factor=1)
                    for topic in self.topics.all()
                ]
            )
        finally:
            admin.close()

    @property
    def installation(self) -> Installation:
        return Installation(Connection(bootstrap_servers=self.servers), self.topics)

    @property
    def options(self) -> list[str]:
        return ["--bootstrap-servers", self.servers, "--topic-prefix", self.topics.prefix]

    def write(self, topic: str, *records: tuple[int, Any]) -> list[int]:
        """Each record is a partition and a (key, value, headers); the offsets."""
        producer = KafkaProducer(bootstrap_servers=self.servers, acks="all")
        try:
            futures = [
                producer.send(
                    topic, partition=number, key=record[0], value=record[1], headers=list(record[2])
                )
                for number, record in records
            ]
            return [future.get(timeout=20).offset for future in futures]
        finally:
            producer.close()

    def read(self, topic: str) -> list[Any]:
        """Everything there is, by partition and offset."""
        consumer = KafkaConsumer(bootstrap_servers=self.servers, group_id=None)
        try:
            places = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
            consumer.assign(places)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(places)
            found = []
            while any(consumer.position(place) < ends[place] for place in places):
                found += [record for some in consumer.poll(200).values() for record in some]
            return sorted(found, key=lambda record: (record.partition, record.offset))
        finally:
            consumer.close()
