"""`History`: a stream of labelled records, in the order in which the broker appended them."""

from collections.abc import Iterator
from heapq import heappop, heappush, merge
from math import ceil
from operator import attrgetter
from typing import Final

import msgspec

from monitor.bench.labelled.abuse import KINDS, Abuse, Place
from monitor.bench.labelled.chance import chance
from monitor.bench.labelled.course import Course, Places, Script
from monitor.bench.labelled.fleet import Gateway, receipts
from monitor.bench.labelled.people import GATEWAYS, life, person
from monitor.bench.labelled.policy import Limits
from monitor.bench.labelled.programs import REPLICAS, agent, batch, replica, stream
from monitor.bench.labelled.records import Entry, Label
from monitor.core.errors import InputError
from monitor.core.instants import DAY, HOUR, Millis
from monitor.detect.living import Living
from monitor.detect.settings import Detector

MONDAY: Final[Millis] = 1_793_577_600_000
"""2026-11-02T00:00:00Z."""
LEAST_DAYS: Final = 4
"""So that half of a history is healthy alone, and the longest abuse has room in the other half."""

LEAST_WATCHED: Final[Millis] = 6 * HOUR


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a history is made of. The fewer healthy sessions, the more common abuse is among its like: as it stands, of 600 runs of agents one runs away."""

    seed: int = 1
    sessions: int = 50_000
    """Healthy ones, about so many: the population is chosen to fit."""
    days: int = 7
    each: int = 20
    """Abuses of each kind; 0: none."""
    kinds: tuple[Detector, ...] = tuple(Detector)
    partitions: int = 8
    watched: Millis = DAY
    """Gateways' receipts are part of the last so much of it: one is heard every five seconds."""
    begins: Millis = MONDAY
    """Midnight in UTC of a Monday."""

    @property
    def ends(self) -> Millis:
        """Where the stream breaks off; some sessions still live."""
        return self.begins + self.days * DAY

    @property
    def learns_until(self) -> Millis:
        """Up to then all is healthy: who has to learn what is usual does so."""
        return self.begins + self.days * DAY // 2


class Population(msgspec.Struct, frozen=True):
    """Who there is, so that so many sessions come of it."""

    people: int
    services: int
    agents: int
    jobs: int
    streams: int

    @classmethod
    def of(cls, shape: Shape) -> "Population":
        """Half of all sessions are people's, a quarter agents', an eighth services'; the rest are batch runs and streams."""
        each = shape.sessions / shape.days
        return cls(
            ceil(each * 0.5 / 1.63), ceil(each * 0.125 / (REPLICAS * 3.2)), ceil(each * 0.25 / 8), ceil(each * 0.05), ceil(each * 0.075 / 4.5)
        )  # fmt: skip


class History:
    """Entries in order, once; beside them, what the worker's tables would have at the entry that came last.

    The same shape gives the same entries, byte for byte. Memory grows with the people at work and the sessions that live.
    """

    def __init__(self, shape: Shape) -> None:
        """Raises InputError where there is no room for the abuse that is asked for."""
        self.shape = shape
        self.limits = Limits()
        self.healthy_sessions = 0
        """Opened so far ..."""
        self.healthy_learnt_from = 0
        """... and of these by `Shape.learns_until`: false alerts of that time say how one behaves that knows nothing yet."""
        self.now: Millis = shape.begins
        """The append time of the last entry."""
        self._population = Population.of(shape)
        self._places = Places(shape.begins, shape.partitions)
        self._abuse = self._planned()
        self.labels: tuple[Label, ...] = tuple(one.label for one in self._abuse)
        self._live: dict[str, Course] = {}
        self._entries = self._merged()

    def __iter__(self) -> Iterator[Entry]:
        """Itself: a history goes by once."""
        return self

    def __next__(self) -> Entry:
        """The next entry."""
        entry = next(self._entries)
        self.now = entry.at
        return entry

    def living(self, session_id: str, at: Millis | None = None) -> Living | None:
        """The session as the tables have it at `at`, or else now; None: it doesn't live, or is not known."""
        course = self._live.get(session_id)
        return None if course is None else course.living(self.now if at is None else at)

    def live(self) -> Iterator[Living]:
        """All sessions that live now."""
        for session_id in tuple(self._live):
            living = self.living(session_id)
            if living is not None:
                yield living

    # --- the parts -------------------------------------------------------------------------------------

    def _planned(self) -> list[Abuse]:
        shape, found = self.shape, []
        if shape.each and (shape.days < LEAST_DAYS or shape.watched < LEAST_WATCHED):
            raise InputError(
                f"there is no room for abuse in {shape.days} days, of which half are to learn from, with receipts for"
                f" {shape.watched // HOUR} hours: ask for {LEAST_DAYS} days and {LEAST_WATCHED // HOUR} hours at least"
            )
        watched = max(shape.learns_until, shape.ends - shape.watched)
        for number in range(shape.each):
            for kind in shape.kinds:
                source = chance(shape.seed, "abuse", kind.value, number)
                who = person(shape.seed, self._population.people + number * len(Detector) + list(Detector).index(kind))
                found.append(KINDS[kind](source, Place(shape.learns_until, shape.ends, watched, who, number)))
        return found

    def _merged(self) -> Iterator[Entry]:
        shape = self.shape
        watched = max(shape.begins, shape.ends - shape.watched)
        fleet = [
            Gateway(name=name, runs=(watched, shape.ends), restarts=watched + (number + 1) * 3 * HOUR)
            for number, name in enumerate(GATEWAYS)
        ]
        fleet += [one.gateway for one in self._abuse if one.gateway is not None]
        told = [receipts(one, chance(shape.seed, one.name), self._places, shape.partitions) for one in fleet]
        for entry in merge(self._lived(), *told, key=_appended):
            if entry.at >= shape.ends:
                return
            yield entry

    def _lived(self) -> Iterator[Entry]:
        """What sessions leave behind. Records of a session come no earlier than it opens, so those before the next opening are complete."""
        place = self._places.offset
        pending: list[tuple[int, str, int, Entry | None]] = []
        for script, healthy in merge(self._healthy(), self._injected(), key=_opened):
            if script.opened >= self.shape.ends:
                break
            yield from self._until(pending, place(script.opened))
            course = Course(script, self.limits.of(script.attributes), self._places, 1 + script.opened % 50)
            self.healthy_sessions += healthy
            self.healthy_learnt_from += healthy and script.opened < self.shape.learns_until
            self._live[script.session_id] = course
            for number, entry in enumerate(course.entries):
                heappush(pending, (place(entry.at, script.session_id), script.session_id, number, entry))
            heappush(pending, (place(course.entries[-1].at, script.session_id), script.session_id, len(course.entries), None))
            course.entries.clear()
        yield from self._until(pending, place(self.shape.ends))

    def _until(self, pending: list[tuple[int, str, int, Entry | None]], until: int) -> Iterator[Entry]:
        while pending and pending[0][0] < until:
            _, session_id, _, entry = heappop(pending)
            if entry is None:
                del self._live[session_id]
            else:
                yield entry

    def _healthy(self) -> Iterator[tuple[Script, bool]]:
        shape, of = self.shape, self._population
        seed, begins, days = shape.seed, shape.begins, shape.days
        actors = [life(seed, number, begins, days) for number in range(of.people)]
        actors += [replica(seed, service, number, begins, days) for service in range(of.services) for number in range(REPLICAS)]
        for lives, count in ((agent, of.agents), (batch, of.jobs), (stream, of.streams)):
            actors += [lives(seed, number, begins, days) for number in range(count)]
        for script in merge(*actors, key=attrgetter("opened")):
            if script.opened >= begins:
                yield script, True

    def _injected(self) -> Iterator[tuple[Script, bool]]:
        for script in sorted((script for one in self._abuse for script in one.scripts), key=attrgetter("opened")):
            yield script, False




def _appended(entry: Entry) -> Millis:
    return entry.at


def _opened(one: tuple[Script, bool]) -> Millis:
    return one[0].opened
