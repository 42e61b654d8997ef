"""The SDK: access events out of any Python service."""

from monitor.publish.asynchronous import AsyncPublisher
from monitor.publish.errors import BufferFull, DeliveryError, DeliveryFailure, PublisherClosed
from monitor.publish.identity import hashed_session_id
from monitor.publish.publisher import Publisher

__all__ = [
    "AsyncPublisher",
    "BufferFull",
    "DeliveryError",
    "DeliveryFailure",
    "Publisher",
    "PublisherClosed",
    "hashed_session_id",
]
