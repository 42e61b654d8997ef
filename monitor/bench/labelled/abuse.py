"""Abuse of each kind, as a person who looks at it would call it, and its label.

How strong it is comes from what healthy traffic of the same kind does and from the policy, and the reason stands beside it.
No detector's threshold is known here.
"""

from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Final

import msgspec

from monitor.bench.labelled.addresses import TOOLS, Network
from monitor.bench.labelled.chance import heavy, named
from monitor.bench.labelled.course import LATENESS, Script, Stretch
from monitor.bench.labelled.fleet import Gateway
from monitor.bench.labelled.people import GATEWAYS, Person
from monitor.bench.labelled.programs import pings, run, subscriber
from monitor.bench.labelled.records import Label
from monitor.core.events import ActivityKind, Attributes, Principal
from monitor.core.instants import HOUR, MINUTE, SECOND, Millis
from monitor.detect.settings import Detector

IDLE: Final[Millis] = 30 * MINUTE
ABSOLUTE: Final[Millis] = 12 * HOUR
"""What the policy gives people whose data is internal."""


class Place(msgspec.Struct, frozen=True):
    """Where in the history an abuse may lie, and who commits it."""

    since: Millis
    until: Millis
    watched: Millis
    """Gateways' receipts are there from then on."""
    who: Person
    number: int

    def draw(self, source: Random, lasts: Millis, since: Millis = 0) -> Millis:
        """A beginning, such that all of it lies within. ValueError where there is no room."""
        return source.randrange(max(self.since, since), self.until - lasts)


class Abuse(msgspec.Struct, frozen=True):
    """One label and what it speaks of."""

    label: Label
    scripts: tuple[Script, ...] = ()
    gateway: Gateway | None = None


def churn(source: Random, place: Place) -> Abuse:
    """A client that logs in every one and a half to four minutes, and leaves each session to its timeout.

    By clockwork, or with jitter. Healthy people are timed out a few times a day: this is as much in every quarter of an hour.
    """
    attributes = _attributes(place.who, source, ("support",))
    lasts, pace = int(source.uniform(1.5, 3) * HOUR), source.randrange(90 * SECOND, 4 * MINUTE)
    jitter = 0.0 if place.number % 2 else 0.6
    at = begins = place.draw(source, lasts + 2 * HOUR)
    scripts = []
    while at < begins + lasts:
        scripts.append(_script(source, attributes, (Stretch(at, SECOND),)))
        at += int(pace * source.uniform(1 - jitter, 1 + jitter))
    ends = scripts[-1].opened + IDLE + LATENESS
    return Abuse(_label(Detector.TIMEOUT_CHURN, begins, ends, scripts, subject=place.who.subject), tuple(scripts))


def runaway(source: Random, place: Place) -> Abuse:
    """An agent's run of ten to twenty-two hours. 99 % of its like take less than three, and none more than seven."""
    lasts = int(source.uniform(10, 22) * HOUR)
    begins = place.draw(source, lasts + HOUR)
    attributes = Attributes(
        f"agent-{9000 + place.number:04d}", Principal.SERVICE, ("agent",), "internal", "agent-run", None, "acme",
        Network(source).address(source), "acme-agent/1.8",
    )  # fmt: skip
    work = run(source, begins, lasts)
    script = _script(source, attributes, work, closes=work[-1].ends + SECOND)
    label = _label(Detector.LONG_SESSION, begins, work[-1].ends, [script], subject=attributes.subject, session_id=script.session_id)
    return Abuse(label, (script,))


def evasion(source: Random, place: Place) -> Abuse:
    """Sessions of three to seven hours, each closed before its absolute limit and followed within two minutes by the next.

    Together 1.4 to 2 times the limit, without a pause in which a person could eat.
    """
    attributes = _attributes(place.who, source, ("engineer",), workload="inference")
    lasts = int(source.uniform(1.4, 2) * ABSOLUTE)
    at = begins = place.draw(source, lasts + 8 * HOUR)
    scripts: list[Script] = []
    while at < begins + lasts:
        step = source.randrange(20 * SECOND, 60 * SECOND)
        work = Stretch(at, step, int(source.uniform(3, 7) * HOUR) // step)
        scripts.append(_script(source, attributes, (work,), closes=work.ends + SECOND))
        at = work.ends + source.randrange(5 * SECOND, 2 * MINUTE)
    ends = scripts[-1].stretches[-1].ends
    return Abuse(_label(Detector.CAP_EVASION, begins, ends, scripts, subject=place.who.subject), tuple(scripts))


def crowd(source: Random, place: Place) -> Abuse:
    """Five to twelve sessions of an administrator at once, opened within half an hour: the policy allows three."""
    attributes = _attributes(place.who, source, ("admin",))
    begins = place.draw(source, 5 * HOUR)
    ends, scripts = begins + int(source.uniform(1.5, 4) * HOUR), []
    opens = sorted(source.randrange(30 * MINUTE) for _ in range(source.randint(4, 11)))
    for opened in (0, *opens):
        step = source.randrange(30 * SECOND, 5 * MINUTE)
        work = Stretch(begins + opened, step, (ends - begins - opened) // step)
        scripts.append(_script(source, attributes, (work,), closes=ends))
    return Abuse(_label(Detector.CONCURRENT_SESSIONS, begins, ends, scripts, subject=place.who.subject), tuple(scripts))


def mismatch(source: Random, place: Place) -> Abuse:
    """One to six events within ten minutes that name another subject than the session's. Healthy clients never do."""
    attributes = _attributes(place.who, source, place.who.roles)
    opened = place.draw(source, 3 * HOUR)
    work = Stretch(opened, MINUTE, source.randint(60, 120))
    begins = opened + source.randrange(MINUTE, 40 * MINUTE)
    named_at = sorted([0, *(source.randrange(10 * MINUTE) for _ in range(source.randrange(6)))])
    wrong = tuple((begins + after, f"u-{900_000 + source.randrange(1000):06d}@example.com") for after in named_at)
    script = _script(source, attributes, (work,), mismatches=wrong)
    label = _label(
        Detector.SUBJECT_MISMATCH, begins, begins + named_at[-1] + HOUR, [script], subject=place.who.subject, session_id=script.session_id
    )
    return Abuse(label, (script,))


def stolen(source: Random, place: Place) -> Abuse:
    """Its owner goes on from one network while two to four others use the same session from theirs, with tools.

    They take turns every ten seconds to two minutes, for ten minutes to an hour. A healthy session is in two networks
    within minutes at the most: when its client leaves one for the other.
    """
    attributes = _attributes(place.who, source, ("analyst",))
    opened = place.draw(source, 5 * HOUR)
    work = Stretch(opened, 30 * SECOND, source.randint(200, 400))
    begins = opened + source.randrange(5 * MINUTE, 90 * MINUTE)
    ends = begins + int(source.uniform(10, 60) * MINUTE)
    thieves = [(Network(source).address(source), source.choice(TOOLS)) for _ in range(source.randint(2, 4))]
    turns = [(attributes.client_ip, attributes.user_agent), *thieves]
    changes, at, turn = [], begins, 0
    while at < ends:
        turn += 1
        address, agent = turns[turn % len(turns)]
        changes.append((at, msgspec.structs.replace(attributes, client_ip=address, user_agent=agent)))
        at += source.randrange(10 * SECOND, 2 * MINUTE)
    changes.append((ends, attributes))
    script = _script(source, attributes, (work,), changes=tuple(changes))
    label = _label(Detector.SESSION_MOVED, begins, ends, [script], subject=place.who.subject, session_id=script.session_id)
    return Abuse(label, (script,))


def held_open(source: Random, place: Place) -> Abuse:
    """A subscription that pings for four to eleven hours and asks for nothing; healthy ones ask every few minutes."""
    lasts = int(source.uniform(4, 11) * HOUR)
    begins = place.draw(source, lasts + HOUR)
    attributes = subscriber(source, 9000 + place.number)
    opening = Stretch(begins, SECOND, 1, ActivityKind.AGENT)
    script = _script(source, attributes, (opening,), keepalives=pings(source, begins, begins + lasts), closes=begins + lasts)
    label = _label(Detector.KEEPALIVE_ONLY, begins, begins + lasts, [script], subject=attributes.subject, session_id=script.session_id)
    return Abuse(label, (script,))


def lax(source: Random, place: Place) -> Abuse:
    """A gateway that says that it has applied commands and lets four to twelve ended sessions go on for 15 to 60 minutes.

    A healthy one lets through what was under way: a fraction of a second.
    """
    at = place.draw(source, 4 * HOUR, place.watched)
    gateway = Gateway(name=f"gateway/ap-{place.number}", runs=(at, at + 4 * HOUR - MINUTE))
    lasts, scripts, latest = int(source.uniform(15, 60) * MINUTE), [], 0
    first = at + 4 * HOUR
    for number in range(source.randint(4, 12)):
        attributes = msgspec.structs.replace(
            _attributes(place.who, source, ("analyst",)), subject=f"u-{800_000 + 100 * place.number + number:06d}@example.com"
        )  # fmt: skip
        work = Stretch(at + source.randrange(MINUTE, 20 * MINUTE), MINUTE, source.randint(5, 40))
        late, after = [], source.randrange(MINUTE, 5 * MINUTE)
        while after < lasts:
            late.append(after)
            after += source.randrange(61 * SECOND, 3 * MINUTE)
        ended = work.ends + IDLE + LATENESS
        first, latest = min(first, ended + late[0]), max(latest, ended + late[-1])
        scripts.append(_script(source, attributes, (work,), late=tuple(late), gateway=gateway.name))
    return Abuse(_label(Detector.UNENFORCED, first - SECOND, latest + SECOND, scripts, gateway=gateway.name), tuple(scripts), gateway)


def mute(source: Random, place: Place) -> Abuse:
    """A gateway that falls silent without a word for 3 to 60 minutes, or that goes on talking and applies nothing for 20 to 60.

    Healthy ones are heard every five seconds, and apply a command in tens of milliseconds.
    """
    at = place.draw(source, 3 * HOUR, place.watched)
    name, runs, begins = f"gateway/sa-{place.number}", (at, at + 3 * HOUR - MINUTE), at + source.randrange(30 * MINUTE, HOUR)
    if place.number % 2:
        silence = begins, begins + int(source.uniform(3, 60) * MINUTE)
        return Abuse(_label(Detector.UNACKNOWLEDGED, *silence, [], gateway=name), (), Gateway(name=name, runs=runs, silent=silence))
    hung = begins, begins + int(source.uniform(20, 60) * MINUTE)
    # There is a command to apply, however quiet the night.
    work = Stretch(begins + SECOND, SECOND, 10)
    script = _script(source, _attributes(place.who, source, ("analyst",)), (work,), closes=work.ends + SECOND)
    return Abuse(_label(Detector.UNACKNOWLEDGED, *hung, [script], gateway=name), (script,), Gateway(name=name, runs=runs, hung=hung))


KINDS: Final[Mapping[Detector, Callable[[Random, Place], Abuse]]] = MappingProxyType(
    {
        Detector.LONG_SESSION: runaway, Detector.TIMEOUT_CHURN: churn, Detector.CAP_EVASION: evasion,
        Detector.CONCURRENT_SESSIONS: crowd, Detector.SUBJECT_MISMATCH: mismatch, Detector.SESSION_MOVED: stolen,
        Detector.KEEPALIVE_ONLY: held_open, Detector.UNENFORCED: lax, Detector.UNACKNOWLEDGED: mute,
    }
)  # fmt: skip


def _attributes(who: Person, source: Random, roles: tuple[str, ...], workload: str = "console") -> Attributes:
    return Attributes(who.subject, Principal.USER, roles, "internal", workload, None, who.tenant, who.home.address(source), who.agent)


def _script(
    source: Random, attributes: Attributes, work: tuple[Stretch, ...], *, closes: Millis | None = None,
    keepalives: tuple[Stretch, ...] = (), changes: tuple[tuple[Millis, Attributes], ...] = (), late: tuple[Millis, ...] = (),
    mismatches: tuple[tuple[Millis, str], ...] = (), gateway: str | None = None,
) -> Script:  # fmt: skip
    return Script(
        session_id=named(source), attributes=attributes, stretches=work, keepalives=keepalives, changes=changes, closes=closes,
        late=late, mismatches=mismatches, source=gateway or source.choice(GATEWAYS), lag=heavy(source, 50, 0.6, 5, 1500),
    )  # fmt: skip


def _label(
    detector: Detector, begins: Millis, ends: Millis, scripts: list[Script], *, subject: str | None = None,
    session_id: str | None = None, gateway: str | None = None,
) -> Label:  # fmt: skip
    return Label(detector, begins, ends, subject, session_id, gateway, tuple(script.session_id for script in scripts))
