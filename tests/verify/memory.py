"""Topics in memory, as the verifier reads them."""

from collections import defaultdict
from types import SimpleNamespace

APPEND_TIME = 1


class MemoryLog:
    """Records by topic and partition; `drop` leaves holes, as retention and compaction do."""

    def __init__(self, topics):
        """`topics` says which there are and how many partitions each has."""
        self._counts = {topic.name: topic.partitions for topic in topics.all()}
        self.logs = defaultdict(list)
        self._ends = defaultdict(int)
        self.begins = defaultdict(int)

    def append(self, topic, partition, at, key, value, headers=(), offset=None, timestamp_type=APPEND_TIME):
        place = topic, partition
        offset = self._ends[place] if offset is None else offset
        self._ends[place] = max(self._ends[place], offset + 1)
        self.logs[place].append(
            SimpleNamespace(
                partition=partition, offset=offset, timestamp=at, timestamp_type=timestamp_type, key=key, value=value,
                headers=list(headers),
            )
        )  # fmt: skip
        return offset

    def drop(self, topic, which, partition=0):
        self.logs[topic, partition] = [record for record in self.logs[topic, partition] if not which(record)]

    def cut(self, topic, offset, partition=0):
        """Retention."""
        self.begins[topic, partition] = offset
        self.drop(topic, lambda record: record.offset < offset, partition)

    def partitions(self, topic):
        return range(self._counts[topic])

    def bounds(self, topic, partition):
        return self.begins[topic, partition], self._ends[topic, partition]

    def read(self, topic, partition, since=None):
        return (record for record in self.logs[topic, partition] if since is None or record.timestamp >= since)
