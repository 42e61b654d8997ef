"""What has come into force at a gateway: told after the view knows it and whoever holds something open has heard of it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from monitor.core.instants import LogMillis
from monitor.gateway.facts import Now
from monitor.gateway.view import Positions, StoredRecord

NOWHERE: Final = Positions({}, -1)
"""Before anything is in force."""
_SPECIAL: Final = ord("~")


class InForce(msgspec.Struct, frozen=True):
    """What one turn of the follower brought into force, and since when."""

    positions: Positions
    now: Now
    """After the last of it: all is in force since then at the latest."""
    commands: Mapping[LogMillis, int] = {}
    """The commands that came with it: append time -> how many. Of those that were loaded there are none: nobody was admitted before."""


ForceListener: TypeAlias = Callable[[InForce], None]
"""Called by the thread that feeds the view, last of all: it must neither raise nor wait."""


def count_commands(records: Iterable[StoredRecord]) -> Counter[LogMillis]:
    """How many commands there are among these records, by append time. 0.1 us a record."""
    return Counter([one.timestamp for one in records if one.key and one.key[0] != _SPECIAL and one.value is not None])
