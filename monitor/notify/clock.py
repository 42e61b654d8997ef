"""The one place of this room that reads a clock; everywhere else it is passed in."""

import time

from monitor.core.instants import Millis


def wall() -> Millis:
    """The system's wall clock."""
    return time.time_ns() // 1_000_000
