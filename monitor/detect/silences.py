"""Which silences keep an alert from people."""

from collections.abc import Iterable
from typing import Final

from monitor.core.instants import NEVER, Millis
from monitor.wire.alerts import AlertRecord
from monitor.wire.silences import Silence

MOST_NAMED: Final = 20
"""Silences that an alert names; one is enough to silence it."""


def silenced(alert: AlertRecord, silences: Iterable[Silence], now: Millis) -> tuple[str, ...]:
    """The ids of the silences that stand at `now` and meet this alert, in order; of none it goes to people."""
    return tuple(sorted(one.id for one in silences if one.stands(now) and one.meets(alert))[:MOST_NAMED])


def next_change(silences: Iterable[Silence], after: Millis) -> Millis:
    """The first instant after this one at which a silence begins or ends; `NEVER` if none does."""
    instants = (int(instant) for one in silences for instant in (one.record.since, one.record.until))
    return min((instant for instant in instants if instant > after), default=NEVER)
