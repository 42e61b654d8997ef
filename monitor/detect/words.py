"""Numbers as summaries say them."""

from monitor.core.instants import SECOND, Millis
from monitor.policy.durations import format_duration


def many(count: int, one: str, more: str = "") -> str:
    """`1 network`, `3 networks`; `more` where the plural is another."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def rounded(duration: Millis) -> str:
    """Whole seconds from ten on; what is negative is none."""
    return format_duration(max(0, duration) if duration < 10 * SECOND else duration // SECOND * SECOND)
