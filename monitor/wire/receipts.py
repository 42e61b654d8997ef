"""Records of enforcement-receipts: a gateway's word for what is in force there."""

from typing import Annotated, Final, TypeAlias

import msgspec

from monitor.core.instants import Millis
from monitor.wire.cloudevents import write_headers
from monitor.wire.codec import Record, decode, encode, from_json
from monitor.wire.times import Instant

Offset: TypeAlias = Annotated[int, msgspec.Meta(ge=-1)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class Applied(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="gateway.applied"):
    """Every command up to these offsets is in force at this gateway."""

    gateway: Name
    """One running instance; the `source` of its events."""
    positions: dict[int, Offset]
    """Partition of session-commands -> the last offset applied."""
    control: Offset
    """The last offset of session-control applied; -1: none yet."""
    at: Instant
    view_age_ms: Count | None = None
    """Of its oldest partition."""


class Stopped(msgspec.Struct, frozen=True, tag_field="type", tag="gateway.stopped"):
    """The instance has ended: nothing more is to be expected of it."""

    gateway: Name
    at: Instant


class Refused(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="gateway.refused"):
    """The first refusal of a session at this gateway."""

    gateway: Name
    session_id: str
    at: Instant
    status: int
    """The HTTP status it was refused with."""
    command_id: str | None = None
    """Absent where a lock, a policy or a posture refused it, and no command."""
    inflight_cut: Count = 0
    """Streams and requests that were running, and were cut."""


Receipt: TypeAlias = Applied | Stopped | Refused

_reader: Final[msgspec.json.Decoder[Receipt]] = msgspec.json.Decoder(Receipt, dec_hook=from_json)


def encode_receipt(receipt: Receipt) -> Record:
    """The record of a receipt, under its gateway's name."""
    at: Millis = int(receipt.at)
    type_ = str(type(receipt).__struct_config__.tag)
    about = receipt.session_id if isinstance(receipt, Refused) else ""
    headers = write_headers(type_, f"{type_}/{at}/{about}", receipt.gateway, at)
    return Record(receipt.gateway.encode(), encode(receipt), headers)


def decode_receipt(value: bytes | None) -> Receipt:
    """The receipt in these bytes. Raises BadRecord."""
    return decode(_reader, value)
