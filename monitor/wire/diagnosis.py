"""Why a body could not be decoded: the slow second look that only bad records get."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from monitor.wire.bad_record import BadRecord, DeadLetterReason

_JSON_TYPES: Final[Mapping[str, tuple[type, ...]]] = MappingProxyType(
    {
        "roles": (list,),
        "auth_time": (str, int, float),
        "expires": (str, int, float),
        "final": (bool,),
        "controls_to": (int,),
    }
)
"""What a member may be where it isn't text."""

_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "roles": "a list of texts",
        "auth_time": "RFC 3339 text or a number of seconds",
        "expires": "RFC 3339 text or a number of seconds",
        "final": "true or false",
        "controls_to": "a whole number",
    }
)

_TIMES: Final = frozenset({"auth_time", "expires"})
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def diagnose(body: bytes, type_: type[msgspec.Struct]) -> BadRecord:
    """The error for a body that did not decode as `type_`; names the first member that is wrong."""
    try:
        members = _decode_members(body)
    except msgspec.ValidationError:
        return BadRecord(DeadLetterReason.NOT_AN_OBJECT, "the JSON is not an object")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _malformed(body)
    for field in msgspec.structs.fields(type_):
        raw = members.get(field.encode_name)
        if raw is not None:
            try:
                msgspec.json.decode(raw, type=field.type)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return _wrong(field.encode_name, bytes(raw))
    return _malformed(body)


def _malformed(body: bytes) -> BadRecord:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return BadRecord(DeadLetterReason.NOT_UTF8, f"not UTF-8 at byte {error.start}")
    return BadRecord(DeadLetterReason.NOT_JSON, "not one JSON object")


def _wrong(name: str, raw: bytes) -> BadRecord:
    if raw == b"null":
        return BadRecord(DeadLetterReason.MISSING_FIELD, f"{name} is missing")
    wanted = _JSON_TYPES.get(name, (str,))
    unfit = DeadLetterReason.BAD_TIME if name in _TIMES else DeadLetterReason.BAD_VALUE
    try:
        value = msgspec.json.decode(raw)
    except UnicodeDecodeError:
        return BadRecord(DeadLetterReason.NOT_UTF8, f"{name} is not UTF-8")
    except (msgspec.MsgspecError, RecursionError):
        return BadRecord(unfit, f"{name} is out of range")
    if int in wanted and isinstance(value, int | float) and not isinstance(value, bool):
        return BadRecord(unfit, f"{name} is out of range, or no whole number")
    if isinstance(value, wanted) and not (isinstance(value, bool) and bool not in wanted):
        if isinstance(value, str):
            return BadRecord(DeadLetterReason.TOO_LONG, f"{name} is too long")
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return BadRecord(DeadLetterReason.TOO_LONG, f"{name} has too many texts, or one that is too long")
    return BadRecord(DeadLetterReason.WRONG_TYPE, f"{name} must be {_WORDS.get(name, 'text')}")
