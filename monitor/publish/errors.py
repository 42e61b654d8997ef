"""What can go wrong after an event was found good: no room, no delivery, no publisher any more."""

import msgspec

from monitor.core.errors import AbsenceError, MonitorError


class DeliveryFailure(msgspec.Struct, frozen=True):
    """One event that did not reach the log. Publish it again, or know that it is lost."""

    type: str
    session_id: str
    id: str
    error: str
    """What the Kafka client said."""
    tag: int | None = None
    """The caller's own mark of the event (the command line's line number)."""


class BufferFull(AbsenceError):  # noqa: N818 - it names a state that callers choose to handle, as queue.Full does
    """There was no room for the event, at once (`on_full="raise"`) or in time; it was not taken."""


class PublisherClosed(MonitorError):  # noqa: N818 - as BufferFull
    """The publisher is closed, not started, or of another process: the event was not taken."""


class DeliveryError(AbsenceError):
    """Events were taken but are not (or not yet) acknowledged by the broker."""

    def __init__(self, message: str, failures: tuple[DeliveryFailure, ...] = ()) -> None:
        """`failures` are the events known to be lost; empty where they are only late."""
        super().__init__(message)
        self.failures = failures
