"""Instants on the wire: RFC 3339 text and JWT numbers <-> integer milliseconds.

In: any zone, any number of fraction digits (cut to milliseconds), lower-case `t` and `z`, the leap second
`:60` (as the last millisecond of its minute); from the year 1970 to the end of 2200. Out: UTC with milliseconds and `Z`.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from monitor.core.errors import InvariantError
from monitor.core.instants import Millis
from monitor.wire.bad_record import BadTime

LATEST: Final[Millis] = 7_289_654_400_000 - 1
"""The last millisecond of the year 2200."""

_LATEST_WRITTEN: Final[Millis] = 253_402_300_800_000 - 1
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - arithmetic in UTC, the zone is added by hand
_AWARE_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_CACHED: Final = 4096
"""Seconds kept in each direction; when full, a cache starts anew."""
_seconds: dict[str, Millis] = {}
_prefixes: dict[int, str] = {}
_texts: dict[Millis, str] = {}
"""One record names the same instant several times, and so do the records of one turn."""

_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


class Instant(int):
    """Milliseconds since 1970 in a wire struct: RFC 3339 text in JSON."""


class TokenInstant(Instant):
    """As `Instant`; in JSON it may also be a number: seconds, as in a JWT."""


def parse_time(text: str) -> Millis:
    """The instant of RFC 3339 text (RFC 3339 section 5.6). Raises BadTime.

    0.3 us for the shape we write, where its second has been met before.
    """
    if len(text) == 24 and text[19] == "." and text[23] == "Z":
        second = _seconds.get(text[:19])
        digits = text[20:23]
        # isascii first: isdigit alone knows digits that int() reads and RFC 3339 doesn't have.
        if second is not None and digits.isascii() and digits.isdigit():
            return second + int(digits)
        millis = _parse(text)
        if text[17:19] != "60":
            if len(_seconds) >= _CACHED:
                _seconds.clear()
            _seconds[text[:19]] = millis - int(digits)
        return millis
    return _parse(text)


def _parse(text: str) -> Millis:
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise BadTime("not an RFC 3339 instant with a zone, such as 2026-11-23T07:09:00.123Z")
    date, minute, second, fraction, sign, hours, minutes = found.groups()
    leap = second == "60"
    try:
        moment = datetime.fromisoformat(f"{date}T{minute}:{'59' if leap else second}")
    except ValueError:
        raise BadTime("no such day or time of day") from None
    millis = 999 if leap else int(f"{(fraction or '')[:3]:0<3}")
    since = moment - _EPOCH
    millis += (since.days * 86_400 + since.seconds) * 1000
    if sign is not None:
        if int(hours) > 23 or int(minutes) > 59:
            raise BadTime("no such offset from UTC")
        offset = (int(hours) * 60 + int(minutes)) * 60_000
        millis += offset if sign == "-" else -offset
    return _within(millis)


def _within(millis: Millis) -> Millis:
    if not 0 <= millis <= LATEST:
        raise BadTime("before 1970 or after 2200")
    return millis


def format_time(millis: Millis) -> str:
    """RFC 3339 in UTC with milliseconds. Raises InvariantError outside the years 1970 to 9999."""
    text = _texts.get(millis)
    if text is None:
        if len(_texts) >= _CACHED:
            _texts.clear()
        text = _texts[millis] = _format(millis)
    return text


def _format(millis: Millis) -> str:
    second, rest = divmod(millis, 1000)
    prefix = _prefixes.get(second)
    if prefix is None:
        if not 0 <= millis <= _LATEST_WRITTEN:
            raise InvariantError(f"instant {millis} ms can't be written: it lies outside the years 1970 to 9999")
        prefix = (_AWARE_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
        if len(_prefixes) >= _CACHED:
            _prefixes.clear()
        _prefixes[second] = prefix
    return f"{prefix}.{rest:03d}Z"


def parse_auth_time(value: str | float) -> Millis:
    """When the principal authenticated. A whole number of seconds stands for the end of its second. Raises BadTime."""
    millis, whole = _from_number(value)
    return _within(millis + 999) if whole else millis


def parse_expires(value: str | float) -> Millis:
    """When a credential ends by itself. A whole number of seconds is that second exactly. Raises BadTime."""
    return _from_number(value)[0]


def _from_number(value: str | float) -> tuple[Millis, bool]:
    """The instant, and whether it was a whole number of seconds (1.0 is one: JSON has no integers)."""
    if isinstance(value, str):
        return parse_time(value), False
    # The range first: a number that is not finite, or too large for a float, must not reach the arithmetic.
    if not 0 <= value <= LATEST // 1000:
        raise BadTime("a number here is seconds since 1970, up to the year 2200 (not milliseconds)")
    if isinstance(value, int) or value.is_integer():
        return int(value) * 1000, True
    return _within(round(value * 1000)), False
