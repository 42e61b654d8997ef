"""CloudEvents 1.0 over Kafka, both ways (Kafka protocol binding sections 3.2 and 3.3).

What makes a record a CloudEvent: a `content-type` of `application/cloudevents...` (structured), a `ce_specversion`
header (binary), or a `specversion` member in the body (structured). Other headers mean nothing here.

Attributes become members: `type`, `id`, `source`, `time`. The attribute `subject` is not our `subject` (a
principal): in CloudEvents it says what the event is about, and that is the session. So it names the session
where the data has no `session_id`; failing that, the extension `partitionkey` does, since sessions are the key.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from monitor.core.instants import Millis
from monitor.wire.bad_record import BadRecord, DeadLetterReason
from monitor.wire.codec import Headers
from monitor.wire.times import format_time

PREFIX: Final = "ce_"
CONTENT_TYPE: Final = "content-type"
STRUCTURED: Final = "application/cloudevents"
VERSION: Final = "1.0"
REQUIRED: Final = ("id", "source", "type")
_SPECVERSION: Final = ("ce_specversion", VERSION.encode())
_CONTENT_TYPE: Final = (CONTENT_TYPE, b"application/json")


class Said(msgspec.Struct):
    """What the headers of one record say."""

    attributes: dict[str, str]
    content_type: str

    @property
    def structured(self) -> bool:
        """Whether the value is a whole CloudEvent."""
        return self.content_type.startswith(STRUCTURED)

    @property
    def binary(self) -> bool:
        """Whether the headers are a CloudEvent's attributes, and the value its data."""
        return not self.structured and "specversion" in self.attributes


def read_headers(headers: Sequence[tuple[str, bytes | None]]) -> Said:
    """The CloudEvents attributes among the headers; of a repeated header the last. Raises BadRecord."""
    attributes: dict[str, str] = {}
    content_type = ""
    for name, value in headers:
        lowered = name.lower()
        if value is None or not (lowered == CONTENT_TYPE or lowered.startswith(PREFIX)):
            continue
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise BadRecord(DeadLetterReason.NOT_UTF8, f"the header {lowered[:64]!a} is not UTF-8") from None
        if lowered == CONTENT_TYPE:
            content_type = text.strip().lower()
        else:
            attributes[lowered[len(PREFIX) :]] = text
    return Said(attributes, content_type)


def check_format(content_type: str) -> None:
    """Refuse a structured CloudEvent that is not JSON. Raises BadRecord."""
    if content_type and content_type.partition(";")[0].strip() != STRUCTURED + "+json":
        raise BadRecord(DeadLetterReason.UNSUPPORTED_CLOUDEVENT, "a structured CloudEvent must be application/cloudevents+json")


def check_data(content_type: str | None) -> None:
    """Refuse data that is not JSON; without a content type it is taken to be. Raises BadRecord."""
    media = (content_type or "application/json").lower().partition(";")[0].strip()
    if not (media in {"application/json", "text/json"} or media.endswith("+json")):
        raise BadRecord(DeadLetterReason.UNSUPPORTED_CLOUDEVENT, "the data of a CloudEvent must be JSON")


def check_attributes(attributes: Mapping[str, str | None]) -> None:
    """Refuse what is no CloudEvent 1.0. Raises BadRecord."""
    if attributes.get("specversion") != VERSION:
        raise BadRecord(DeadLetterReason.UNSUPPORTED_CLOUDEVENT, f"the specversion of a CloudEvent must be {VERSION}")
    for name in REQUIRED:
        if not attributes.get(name):
            raise BadRecord(DeadLetterReason.MISSING_FIELD, f"the CloudEvents attribute {name} is missing or empty")


def write_headers(type_: str, id_: str, source: str, time: Millis) -> Headers:
    """The headers of a binary CloudEvent whose data is a JSON record of ours."""
    return [
        _SPECVERSION, ("ce_id", id_.encode()), ("ce_source", source.encode()), ("ce_type", type_.encode()),
        ("ce_time", format_time(time).encode()), _CONTENT_TYPE,
    ]  # fmt: skip


def partition_source(partition: int) -> str:
    """The `source` of what is decided about a partition: the same whoever owns it, as are the ids."""
    return f"/session-monitor/partitions/{partition}"
