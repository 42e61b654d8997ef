"""`Backoff`: how long to wait between attempts: twice as long each time, up to a bound, with full jitter."""

from collections.abc import Callable
from typing import Final

import msgspec

from monitor.core.instants import MINUTE, SECOND, Millis

_DOUBLINGS: Final = 30


class Backoff(msgspec.Struct, frozen=True):
    """The pauses. After the n-th failure any time up to `first` * 2^(n-1) and `longest` is as likely as another."""

    first: Millis = SECOND
    longest: Millis = 30 * SECOND
    """A receiver that comes back hears of it within so long."""
    longest_asked: Millis = 5 * MINUTE
    """What a receiver can ask for (`Retry-After`) at the most."""

    def pause(self, failures: int, asked: Millis | None, dice: Callable[[], float]) -> Millis:
        """How long to wait after so many failures in a row (1 and more). `dice` gives numbers from 0 up to 1.

        Where the receiver has asked for a time, it gets it, and the jitter on top.
        """
        bound = min(self.longest, self.first << min(failures - 1, _DOUBLINGS))
        return min(asked or 0, self.longest_asked) + int(bound * dice())
