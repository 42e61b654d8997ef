"""`Answer`: what one attempt to deliver came to, and whether another one makes sense."""

from enum import StrEnum
from typing import Final

import msgspec

from monitor.core.instants import Millis

TIMED_OUT: Final = 408
TOO_MANY: Final = 429


class Verdict(StrEnum):
    """What to do next."""

    TAKEN = "taken"
    REFUSED = "refused"
    """For good: the same request would be refused again."""
    AGAIN = "again"
    """It may well be taken later."""


class Answer(msgspec.Struct, frozen=True):
    """Of one attempt."""

    verdict: Verdict
    detail: str = ""
    """What was answered, or what went wrong; without addresses, which may hold secrets."""
    retry_after: Millis | None = None
    """How long the other side asks us to wait."""


def judge(status: int, detail: str, retry_after: Millis | None = None) -> Answer:
    """The answer that an HTTP status is (RFC 9110 section 15). A redirect is refused: it is not followed."""
    if 200 <= status < 300:
        return Answer(Verdict.TAKEN)
    said = f"HTTP {status}" + (f": {detail}" if detail else "")
    if status >= 500 or status in (TIMED_OUT, TOO_MANY):
        return Answer(Verdict.AGAIN, said, retry_after)
    return Answer(Verdict.REFUSED, said)
