"""Lists of sessions, taken from live partitions in bounded turns while events go on.

A listing goes through the partitions one after another. On reaching one it takes a snapshot of its
references (25 ns a session: 3 ms for 125,000) and then looks at them a slice at a time; each session is shown as it is
when it is looked at. A session that opens after its partition's snapshot is not in the list, and no session is
in it twice. Listings are few and short-lived: what nobody continues for a minute is dropped.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from monitor.core.controls import Target
from monitor.core.errors import InputError
from monitor.core.instants import MINUTE, Millis
from monitor.core.session import Session, State
from monitor.observe.views import (
    Matches,
    OwnedSessions,
    SessionDetail,
    SessionPage,
    SessionRow,
    detail_of,
    row_of,
)
from monitor.wire.times import parse_time

SLICE: Final = 500
"""Sessions looked at between two turns of the event loop: 3 ms if all of them match."""
SCAN: Final = 100_000
"""Sessions looked at for one page at the most."""
LISTINGS: Final = 8
KEPT: Final[Millis] = MINUTE
PAGE: Final = 100
LARGEST_PAGE: Final = 500
LONGEST_VALUE: Final = 1024

MEMBERS: Final = tuple(name for name in Target.__struct_fields__ if name != "all")
"""What a query may name of a target; several must all match, as in a control."""
PARAMETERS: Final = (*MEMBERS, "state", "started_before", "limit", "cursor")
_STATES: Final = {
    "live": frozenset({State.LIVE}), "expired": frozenset({State.EXPIRED}), "revoked": frozenset({State.REVOKED}),
    "ended": frozenset({State.EXPIRED, State.REVOKED}), "all": frozenset({State.LIVE, State.EXPIRED, State.REVOKED}),
}  # fmt: skip


class ListingGoneError(InputError):
    """A cursor of a listing that is no longer kept."""


class Query(msgspec.Struct, frozen=True):
    """Which sessions are asked for."""

    target: Target = Target()
    states: frozenset[State] = _STATES["all"]
    started_before: Millis | None = None
    limit: int = PAGE
    cursor: str | None = None

    def meets(self, session: Session) -> bool:
        """Whether this session is one of them."""
        return (
            session.state in self.states
            and (self.started_before is None or session.start < self.started_before)
            and self.target.matches(session.session_id, session.attributes)
        )


def read_query(parameters: Mapping[str, str]) -> Query:
    """The query in these parameters. Raises InputError, which names the one at fault."""
    for name, value in parameters.items():
        if name not in PARAMETERS:
            raise InputError(f"unknown parameter {name!r}: known are {', '.join(PARAMETERS)}")
        if not value or len(value) > LONGEST_VALUE:
            raise InputError(f"{name} must have 1 to {LONGEST_VALUE} characters")
    state = parameters.get("state", "all")
    if state not in _STATES:
        raise InputError(f"state must be one of {', '.join(_STATES)}")
    text = parameters.get("limit", str(PAGE))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= LARGEST_PAGE):
        raise InputError(f"limit must be a number from 1 to {LARGEST_PAGE}")
    before = parameters.get("started_before")
    return Query(
        Target(**{name: parameters[name] for name in MEMBERS if name in parameters}),  # type: ignore[arg-type]
        _STATES[state],
        None if before is None else parse_time(before),
        int(text),
        parameters.get("cursor"),
    )


class _Listing:
    """Where one listing stands."""

    __slots__ = ("name", "owned", "place", "query", "rest", "snapshot", "used_at")

    def __init__(self, query: Query, numbers: list[int]) -> None:
        self.name = secrets.token_hex(8)
        self.query = query
        self.rest = numbers
        self.owned: OwnedSessions | None = None
        self.snapshot: list[Session] = []
        self.place = 0
        self.used_at: Millis = 0

    @property
    def cursor(self) -> str:
        """What continues it from here. The place keeps a page that is asked for twice from skipping one."""
        number = -1 if self.owned is None else self.owned.partition.number
        return f"{self.name}.{number}.{self.place}"


class Listings:
    """Answers queries over the partitions of one worker. One event loop."""

    def __init__(self, owned: Mapping[int, OwnedSessions], monotonic: Callable[[], Millis]) -> None:
        """`owned` is the worker's own, and changes under our hands."""
        self._owned = owned
        self._monotonic = monotonic
        self._open: dict[str, _Listing] = {}

    def find(self, session_id: str) -> SessionDetail | None:
        """The session, or None where none of these partitions holds it. O(partitions)."""
        for owned in self._owned.values():
            partition = owned.partition
            session = partition.sessions.get(session_id)
            if session is not None:
                return detail_of(session, partition.number, partition.log_time)
        return None

    async def page(self, query: Query) -> SessionPage:
        """The next page. Raises ListingGoneError for a cursor that is not (any longer) known."""
        named = query.target.session_id
        if named is not None:
            return SessionPage(self._named(named, query))
        listing = self._continued(query.cursor) if query.cursor is not None else self._begun(query)
        wanted, rows, scanned = listing.query, list[SessionRow](), 0
        while len(rows) < query.limit and scanned < SCAN:
            owned = listing.owned
            if owned is None or listing.place >= len(listing.snapshot):
                if not self._reach_next(listing):
                    self._open.pop(listing.name, None)
                    return SessionPage(rows)
                continue
            partition = owned.partition
            if self._owned.get(partition.number) is not owned:
                listing.snapshot = []
                continue
            chunk = listing.snapshot[listing.place : listing.place + SLICE]
            for session in chunk:
                listing.place += 1
                scanned += 1
                if wanted.meets(session):
                    rows.append(row_of(session, partition.number, partition.log_time))
                    if len(rows) == query.limit:
                        break
            await asyncio.sleep(0)
        return SessionPage(rows, listing.cursor)

    async def count(self, query: Query) -> Matches:
        """How many sessions a query meets, live and ended. O(sessions), in bounded turns."""
        live = ended = 0
        for number in sorted(self._owned):
            owned = self._owned.get(number)
            snapshot = [] if owned is None else list(owned.partition.sessions.values())
            for start in range(0, len(snapshot), SLICE):
                for session in snapshot[start : start + SLICE]:
                    if query.meets(session):
                        live += session.state is State.LIVE
                        ended += session.state is not State.LIVE
                await asyncio.sleep(0)
        return Matches(live, ended)

    def _named(self, session_id: str, query: Query) -> list[SessionRow]:
        partitions = [owned.partition for owned in self._owned.values()]
        return [
            row_of(session, partition.number, partition.log_time)
            for partition in partitions
            if (session := partition.sessions.get(session_id)) is not None and query.meets(session)
        ]

    def _begun(self, query: Query) -> _Listing:
        now = self._monotonic()
        for name in [name for name, listing in self._open.items() if now - listing.used_at > KEPT]:
            del self._open[name]
        while len(self._open) >= LISTINGS:
            # The one that was used longest ago: `_continued` keeps the order.
            del self._open[next(iter(self._open))]
        listing = _Listing(query, sorted(self._owned))
        listing.used_at = now
        self._open[listing.name] = listing
        return listing

    def _continued(self, cursor: str) -> _Listing:
        name, _, place = cursor.partition(".")
        number, _, index = place.partition(".")
        listing = self._open.pop(name, None)
        if listing is None:
            raise ListingGoneError("this listing is no longer kept: ask again without a cursor")
        self._open[name] = listing
        listing.used_at = self._monotonic()
        here = listing.cursor.split(".")
        if here[1] != number or not (index.isascii() and index.isdigit()) or int(index[:12]) > listing.place:
            raise ListingGoneError("this page is no longer kept: ask again without a cursor")
        listing.place = int(index[:12])
        return listing

    def _reach_next(self, listing: _Listing) -> bool:
        while listing.rest:
            owned = self._owned.get(listing.rest.pop(0))
            if owned is not None:
                listing.owned, listing.snapshot, listing.place = (
                    owned,
                    list(owned.partition.sessions.values()),
                    0,
                )
                return True
        return False
