"""Wire structs <-> JSON bytes, with instants as RFC 3339 text, for every record but the hot access event."""

import re
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from monitor.core.errors import InvariantError
from monitor.wire.bad_record import BadRecord, BadTime, DeadLetterReason
from monitor.wire.times import Instant, TokenInstant, format_time, parse_expires, parse_time

Headers: TypeAlias = list[tuple[str, bytes]]

MAX_OWN_BYTES: Final = 256 * 1024
"""The largest record of ours that is read: an event's 64 KiB and what the monitor says about it."""

MAX_DETAIL: Final = 200

MAX_DEPTH: Final = 64
SHALLOW_BYTES: Final = 512
"""A value up to this size can't nest deep enough to hurt, and is not looked at."""

_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")

T = TypeVar("T")


class Record(NamedTuple):
    """A record to be written."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def encode(said: msgspec.Struct | dict[str, object]) -> bytes:
    """The struct, or the members, as JSON. Raises InvariantError where an instant can't be written."""
    return _encoder.encode(said)


def reader(type_: type[T]) -> msgspec.json.Decoder[T]:
    """A decoder of this wire struct, for `decode`."""
    return msgspec.json.Decoder(type_, dec_hook=from_json)


def decode(decoder: msgspec.json.Decoder[T], value: bytes | None, limit: int = MAX_OWN_BYTES) -> T:
    """The struct that these bytes say. Raises BadRecord, whatever they are."""
    checked = check_bounds(value, limit)
    try:
        return decoder.decode(checked)
    except msgspec.ValidationError as error:
        raise _judge(str(error)) from None
    except msgspec.DecodeError:
        raise BadRecord(DeadLetterReason.NOT_JSON, "not one JSON object") from None
    except UnicodeDecodeError:
        raise BadRecord(DeadLetterReason.NOT_UTF8, "not UTF-8") from None
    except RecursionError:
        raise BadRecord(DeadLetterReason.TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels") from None


def check_bounds(value: bytes | None, limit: int) -> bytes:
    """The value, if there is one, not above `limit` bytes and not nested too deep. Raises BadRecord."""
    if value is None:
        raise BadRecord(DeadLetterReason.TOMBSTONE, "the record has no value")
    size = len(value)
    if size == 0:
        raise BadRecord(DeadLetterReason.EMPTY, "the value has no bytes")
    if size > limit:
        raise BadRecord(DeadLetterReason.TOO_LARGE, f"the value has {size} bytes; at most {limit} are allowed")
    if size > SHALLOW_BYTES and _is_deep(value):
        raise BadRecord(DeadLetterReason.TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels")
    return value


def _is_deep(value: bytes) -> bool:
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", value)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _judge(message: str) -> BadRecord:
    """The error for what msgspec says of a struct: a path and types, never the value."""
    what, _, path = message.partition(" - at ")
    message = message[:MAX_DETAIL]  # it repeats names of members, which are as long as somebody likes
    if "missing required field" in what:
        return BadRecord(DeadLetterReason.MISSING_FIELD, message)
    if what.startswith("Expected `object`") and not path:
        return BadRecord(DeadLetterReason.NOT_AN_OBJECT, "the JSON is not an object")
    if what.startswith("Expected") and ", got" in what:
        return BadRecord(DeadLetterReason.WRONG_TYPE, message)
    if "of length <=" in what:
        return BadRecord(DeadLetterReason.TOO_LONG, message)
    if what.startswith("Invalid") and path == "`$.type`":
        return BadRecord(DeadLetterReason.UNKNOWN_TYPE, "type is not one that is known here")
    if what.startswith("Invalid"):
        # Of these alone msgspec repeats the value.
        return BadRecord(DeadLetterReason.BAD_VALUE, f"the value at {path[:MAX_DETAIL] or '`$`'} is not one of those allowed")
    return BadRecord(DeadLetterReason.BAD_VALUE, message)


def from_json(type_: type, value: Any) -> Any:
    """The decoding hook: instants from text (or a number, where that may stand). Raises BadTime."""
    if type_ is Instant:
        if not isinstance(value, str):
            raise BadTime("an instant must be RFC 3339 text")
        return Instant(parse_time(value))
    if type_ is TokenInstant:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise BadTime("an instant must be RFC 3339 text, or a number of seconds since 1970")
        return TokenInstant(parse_expires(value))
    raise InvariantError(f"no wire form is known for {type_.__name__}")


_encoder: Final = msgspec.json.Encoder(enc_hook=format_time)
