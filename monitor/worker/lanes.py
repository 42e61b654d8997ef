"""Records on their way to one partition: taken, in flight, acknowledged. No I/O: the appender drives it.

Records carry consecutive numbers over all lanes, so that "everything before mark m is acknowledged" is a
comparison with the oldest number that is still on its way.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from monitor.worker.ports import Headers

Substitute = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of the smaller record that is written where the broker refuses the first as too large."""


class Item(NamedTuple):
    """One record taken."""

    number: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    instead: Substitute | None


class Builder(Protocol):
    """aiokafka's BatchBuilder: `append` answers None when the batch is full; the first record always fits."""

    def append(
        self,
        *,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> object | None:
        """Add a record."""


class Lane:
    """The queue of one (topic, partition), at most one batch of it in flight: that alone keeps the order."""

    __slots__ = ("flight", "largest", "partition", "topic", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        """Empty."""
        self.topic = topic
        self.partition = partition
        self.waiting: deque[Item] = deque()
        self.flight: list[Item] = []
        self.largest: int | None = None
        """Records put into one batch at most, while the broker has just refused a larger one."""

    @property
    def oldest(self) -> int | None:
        """The number of the oldest record not acknowledged."""
        if self.flight:
            return self.flight[0].number
        return self.waiting[0].number if self.waiting else None

    def fill(self, builder: Builder) -> int:
        """Move as many waiting records as fit into a batch, and into flight; how many."""
        append, waiting, flight = builder.append, self.waiting, self.flight
        most = self.largest or len(waiting)
        while waiting and len(flight) < most:
            item = waiting[0]
            headers = item.headers if type(item.headers) is list else [*item.headers]
            if append(timestamp=None, key=item.key, value=item.value, headers=headers) is None:
                break
            flight.append(waiting.popleft())
        return len(flight)

    def acknowledged(self) -> int:
        """The batch in flight stands on the log; how many records it had."""
        count = len(self.flight)
        self.flight.clear()
        self.largest = None
        return count

    def refused(self) -> Item | None:
        """The batch in flight was too large. It is queued again to go in halves, or its single record in its
        smaller form; None, or the record for which there is no smaller form.
        """  # fmt: skip
        flight = self.flight
        if len(flight) > 1:
            self.largest = len(flight) // 2
            self.waiting.extendleft(reversed(flight))
            flight.clear()
            return None
        item = flight[0]
        if item.instead is None:
            return item
        key, value, headers = item.instead
        flight.clear()
        self.waiting.appendleft(Item(item.number, key, value, headers, None))
        return None
