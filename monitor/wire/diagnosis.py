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
    words = " or ".join({str: "text", int: "a number", float: "a number", list: "a list of texts", bool: "true or false"}[t] for t in wanted if t is not float)
    try:
        value = msgspec.json.decode(raw)
    except UnicodeDecodeError:
        return BadRecord(DeadLetterReason.NOT_UTF8, f"{name} is not UTF-8")
    except (msgspec.MsgspecError, RecursionError):
        reason = DeadLetterReason.BAD_TIME if name in _TIMES else DeadLetterReason.BAD_VALUE
        return BadRecord(reason, f"{name} can't be represented: a lone surrogate, or a number out of range")
    boolean = isinstance(value, bool) and bool not in wanted
    texts = not isinstance(value, list) or all(isinstance(item, str) for item in value)
    if boolean or not texts or not isinstance(value, wanted):
        return BadRecord(DeadLetterReason.WRONG_TYPE, f"{name} must be {words}")
    if isinstance(value, str | list):
        return BadRecord(DeadLetterReason.TOO_LONG, f"{name} is too long")
    reason = DeadLetterReason.BAD_TIME if name in _TIMES else DeadLetterReason.BAD_VALUE
    return BadRecord(reason, f"{name} is out of range")
