"""Durations as people write them: `15m`, `1h30m`, `500ms`, `4d`, and `none` for a limit that never strikes."""

import re
from typing import Final

from monitor.core.errors import InputError
from monitor.core.instants import DAY, HOUR, MINUTE, NEVER, SECOND, Millis

NONE: Final = "none"
LONGEST: Final[Millis] = 3650 * DAY
"""What is longer is a mistake in the unit, or means `none`."""

_UNITS: Final = (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1))
_FORM: Final = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit, _ in _UNITS))
_EXAMPLES: Final = "like 15m, 12h, 1h30m, 2s, 500ms or 4d"


def parse_duration(text: str) -> Millis:
    """Milliseconds, from units in falling order, each at most once. Raises InputError, which says how to write it."""
    match = _FORM.fullmatch(text)
    if match is None or not text:
        number = text.replace("_", "").isdigit()
        told = f"{text!r} has no unit" if number else f"{text!r} is not a duration"
        raise InputError(f"{told}: write it {_EXAMPLES}")
    given = zip(match.groups(), _UNITS, strict=True)
    millis = sum(int(count) * unit for count, (_, unit) in given if count is not None)
    if millis > LONGEST:
        raise InputError(
            f"{text!r} is longer than {format_duration(LONGEST)}: a limit that never strikes is written none"
        )
    return millis


def format_duration(millis: Millis | None) -> str:
    """The shortest spelling that `parse_duration` reads back; `none` for `NEVER` and for None."""
    if millis is None or millis >= NEVER:
        return NONE
    if millis == 0:
        return "0s"
    parts = []
    for unit, size in _UNITS:
        if unit == "d" and (millis < 2 * DAY or millis % DAY):
            continue  # people say 24h and 36h
        count, millis = divmod(millis, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
