"""People: they come in the morning, pause, walk away and find their session expired, and go home.

Each day of each person is drawn from a source of its own, so that a million sessions need no more memory than those
of a day.
"""

from collections.abc import Iterator
from random import Random
from typing import Final

import msgspec

from monitor.bench.labelled.addresses import Network, browser, phone, updated
from monitor.bench.labelled.chance import chance, heavy, named, weighted
from monitor.bench.labelled.course import Script, Stretch
from monitor.core.events import Attributes, Principal
from monitor.core.instants import DAY, HOUR, MINUTE, SECOND, Millis

ZONES: Final = {-8 * HOUR: 2.0, -5 * HOUR: 3.0, 0: 2.0, HOUR: 4.0, 11 * HOUR // 2: 2.0, 9 * HOUR: 1.0}
"""Offsets from UTC, by how many people work there."""
ROLES: Final = {("analyst",): 5.0, ("engineer",): 4.0, ("support",): 3.0, ("admin",): 0.6}
CLASSIFICATIONS: Final = {"public": 1.0, "internal": 6.0, "confidential": 2.0, "restricted": 1.0}
WORKLOADS: Final = {"console": 6.0, "inference": 3.0, "training": 1.0}
TENANTS: Final = ("acme", "globex", "initech")
GATEWAYS: Final = ("gateway/eu-1", "gateway/eu-2", "gateway/us-1")

DAWN: Final[Millis] = 5 * HOUR
"""Nobody begins a day earlier, nor works longer than into the next one's."""
AT_WORK_WEEKDAY, AT_WORK_WEEKEND = 0.92, 0.05
CRUNCH = 0.02
"""Of all days: work into the night."""
SHIFT = 0.01
"""Of all days: a shift of more than twelve hours beside a console, as support and operations have them."""
UPDATES = 0.005
"""Of the sessions with a pause in them: the browser is another version after it. Once in about four months for each person."""
FORGETS: Final[Millis] = 30 * MINUTE
"""After a pause of that length some begin anew, and some go on where they were."""


class Person(msgspec.Struct, frozen=True):
    """Who does not change from day to day."""

    number: int
    subject: str
    roles: tuple[str, ...]
    zone: Millis
    tenant: str
    home: Network
    office: Network
    carrier: Network
    agent: str
    app: str
    second_browser: bool
    mobile: bool
    closes: float
    """How often they sign off when they leave."""


def person(seed: int, number: int) -> Person:
    """One of the people, always the same."""
    source = chance(seed, "person", number)
    roles = weighted(source, ROLES)
    return Person(
        number, f"u-{number:06d}@example.com", roles, weighted(source, ZONES), source.choice(TENANTS), Network(source),
        Network(source), Network(source), browser(source), phone(source), source.random() < 0.2,
        source.random() < 0.15 and roles != ("admin",), source.uniform(0.2, 0.8),
    )  # fmt: skip


def life(seed: int, number: int, begins: Millis, days: int) -> Iterator[Script]:
    """All sessions of one person, in the order in which they open. The first day begins at `begins` in UTC, a Monday."""
    who = person(seed, number)
    for day in range(-1, days + 1):
        source = chance(seed, "person", number, day)
        if source.random() >= (AT_WORK_WEEKDAY if day % 7 < 5 else AT_WORK_WEEKEND):
            continue
        scripts = _day(who, source, begins + day * DAY - who.zone, monday=day % 7 == 0)
        del source  # two kilobytes for each person, until their next day
        scripts.sort(key=_opened, reverse=True)
        while scripts:
            yield scripts.pop()


def _opened(script: Script) -> Millis:
    return script.opened


def _day(who: Person, source: Random, midnight: Millis, *, monday: bool) -> list[Script]:
    """The sessions of one day, which begins at this local midnight."""
    # On Mondays all come at once, to the same meeting.
    came = midnight + int(source.gauss(8.5 if monday else 8.8, 0.15 if monday else 0.7) * HOUR)
    left = midnight + int(source.gauss(17.5, 0.9) * HOUR)
    if source.random() < CRUNCH:
        left = midnight + int(source.uniform(21, 24) * HOUR)
    came = max(midnight + DAWN, came)
    if source.random() < SHIFT:
        found = [_sitting(who, source, _shift(source, came, came + int(source.uniform(12.2, 13.5) * HOUR)), None)]
    else:
        found = _sat_through(who, source, _work(source, came, left))
    if who.second_browser:
        begins = came + int(source.uniform(0.5, 4) * HOUR)
        found += _sat_through(who, source, _work(source, begins, begins + int(source.uniform(0.3, 2) * HOUR)))
    if who.mobile:
        found += _carried(who, source, midnight)
    return found


def _work(source: Random, came: Millis, left: Millis) -> list[Stretch]:
    """Stretches at the keyboard from coming to leaving, with pauses and a meal."""
    found: list[Stretch] = []
    at, eats = came, came + int(source.gauss(3.7, 0.4) * HOUR)
    while at < left:
        step = source.randrange(20 * SECOND, 90 * SECOND)
        lasts = min(heavy(source, 25 * MINUTE, 0.9, MINUTE, 4 * HOUR), left - at)
        found.append(Stretch(at, step, 1 + lasts // step))
        pause = heavy(source, 8 * MINUTE, 1.0, 2 * MINUTE, 5 * HOUR)
        if found[-1].ends > eats:
            pause += heavy(source, 42 * MINUTE, 0.35, 15 * MINUTE, 3 * HOUR)
            eats += 6 * HOUR
        at = found[-1].ends + pause
    return found


def _shift(source: Random, came: Millis, left: Millis) -> tuple[Stretch, ...]:
    """Never away for a quarter of an hour: the absolute limit strikes, and the session goes on after a login."""
    found: list[Stretch] = []
    at = came
    while at < left:
        found.append(Stretch(at, MINUTE, source.randint(10, 60)))
        at = found[-1].ends + source.randrange(2 * MINUTE, 14 * MINUTE)
    return tuple(found)


def _sat_through(who: Person, source: Random, work: list[Stretch]) -> list[Script]:
    """One browser's sessions: one at a time, the next after the last was closed, or left until it has surely expired."""
    found: list[Script] = []
    since = 0
    for place in range(1, len(work) + 1):
        last = place == len(work)
        away = DAY if last else work[place].begins - work[place - 1].ends
        if away > FORGETS and (last or source.random() < 0.5):
            closes = work[place - 1].ends + 5 * SECOND if source.random() < who.closes else None
            # Left alone it outlives a short pause: whoever comes back too early goes on in it.
            if last or closes is not None or away > FORGETS + MINUTE:
                found.append(_sitting(who, source, tuple(work[since:place]), closes))
                since = place
    return found


def _sitting(who: Person, source: Random, work: tuple[Stretch, ...], closes: Millis | None) -> Script:
    """A session in a browser. Now and then the address changes within its network, rarely the browser updates itself."""
    where = who.office if source.random() < 0.6 else who.home
    attributes = _attributes(who, source, where.address(source), who.agent)
    changes = []
    if source.random() < 0.1:
        at = source.randrange(work[0].begins, work[-1].ends + 1)
        changes.append((at, msgspec.structs.replace(attributes, client_ip=where.address(source))))
    elif len(work) > 1 and source.random() < UPDATES:
        changes.append((work[-1].begins, msgspec.structs.replace(attributes, user_agent=updated(who.agent))))
    return Script(
        session_id=named(source), attributes=attributes, stretches=work, changes=tuple(changes), closes=closes, returns=True,
        late=_in_flight(source), source=source.choice(GATEWAYS), lag=_lag(source),
    )  # fmt: skip


def _carried(who: Person, source: Random, midnight: Millis) -> list[Script]:
    """An app's session of the day: looked at for minutes, from home, on the way, from the office, and back."""
    looks, at = [], midnight + int(source.uniform(6.5, 8) * HOUR)
    while at < midnight + 21 * HOUR:
        looks.append(Stretch(at, 20 * SECOND, 1 + heavy(source, 4 * MINUTE, 0.8, 20 * SECOND, HOUR) // (20 * SECOND)))
        at = looks[-1].ends + heavy(source, 50 * MINUTE, 1.0, MINUTE, 6 * HOUR)
    attributes = _attributes(who, source, who.home.address(source), who.app)
    leaves = midnight + int(source.gauss(8.1, 0.3) * HOUR)
    arrives = leaves + heavy(source, 35 * MINUTE, 0.4, 15 * MINUTE, 2 * HOUR)
    goes = max(arrives + 4 * HOUR, midnight + int(source.gauss(17.5, 0.5) * HOUR))
    comes = goes + heavy(source, 35 * MINUTE, 0.4, 15 * MINUTE, 2 * HOUR)
    moves = [(leaves, who.carrier), (arrives, who.office), (goes, who.carrier), (comes, who.home)]
    if source.random() < 0.5:
        # A lift, a stairwell: from the office's network to the carrier's and back within minutes.
        dips = arrives + int(source.uniform(1, 3) * HOUR)
        moves[2:2] = [(dips, who.carrier), (dips + heavy(source, 3 * MINUTE, 0.8, 10 * SECOND, 30 * MINUTE), who.office)]
    changes = [(at, msgspec.structs.replace(attributes, client_ip=network.address(source))) for at, network in moves]
    return [
        Script(
            session_id=named(source), attributes=attributes, stretches=tuple(looks), changes=tuple(changes), returns=True,
            source=source.choice(GATEWAYS), lag=_lag(source),
        )
    ]  # fmt: skip


def _attributes(who: Person, source: Random, address: str, agent: str) -> Attributes:
    workload = "console" if agent == who.app else weighted(source, WORKLOADS)
    return Attributes(
        who.subject, Principal.USER, who.roles, weighted(source, CLASSIFICATIONS), workload, None, who.tenant, address, agent
    )


def _in_flight(source: Random) -> tuple[Millis, ...]:
    """Once in two hundred sessions a request is under way while the session ends: no gateway could have stopped it."""
    return (source.randrange(30, 250),) if source.random() < 0.005 else ()


def _lag(source: Random) -> Millis:
    """Tens of milliseconds; some gateways' clocks lie behind by up to two seconds, which is all that the monitor waits."""
    behind = source.randrange(200, 1900) if source.random() < 0.05 else 0
    return heavy(source, 50, 0.6, 5, 1500) + behind
