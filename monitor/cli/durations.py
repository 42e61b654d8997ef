"""Durations as options give them: with a unit, and within bounds."""

from monitor.core.errors import InputError
from monitor.core.instants import Millis
from monitor.policy.durations import format_duration, parse_duration


def within(option: str, text: str, bounds: tuple[Millis, Millis]) -> Millis:
    """The duration that an option gives. Raises InputError where it is none, or out of bounds."""
    try:
        given = parse_duration(text)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None
    least, most = bounds
    if not least <= given <= most:
        raise InputError(f"{option} is {text}; allowed are {format_duration(least)} to {format_duration(most)}")
    return given
