"""Instants and durations: integer milliseconds, with the two kinds of time told apart by name.

`EventMillis` is when a thing happened, as its source says (never later than its append time);
`LogMillis` is when the broker appended it: the only clock that decisions know.
"""

from typing import Final, TypeAlias

Millis: TypeAlias = int
EventMillis: TypeAlias = int
LogMillis: TypeAlias = int

NEVER: Final[Millis] = 1 << 60
"""An instant or a duration that does not come: larger than every real one, and safe to add to."""

SECOND: Final[Millis] = 1000
MINUTE: Final[Millis] = 60 * SECOND
HOUR: Final[Millis] = 60 * MINUTE
DAY: Final[Millis] = 24 * HOUR
