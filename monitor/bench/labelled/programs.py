"""Programs: services that run for as long as their token does, agents and batch runs that end when they are done, streams."""

from collections.abc import Iterator
from random import Random
from typing import Final

from monitor.bench.labelled.addresses import Network
from monitor.bench.labelled.chance import chance, heavy, named
from monitor.bench.labelled.course import Script, Stretch
from monitor.bench.labelled.people import GATEWAYS
from monitor.core.events import ActivityKind, Attributes, Principal
from monitor.core.instants import DAY, HOUR, MINUTE, SECOND, Millis

REPLICAS: Final = 12
UNCLEAN: Final = 0.03
"""Of a service's sessions: the process dies without a word."""
AGENT_MEDIAN, AGENT_SIGMA = 20 * MINUTE, 0.9
"""99 % of the runs of an agent take less than three hours."""
AGENT_MOST: Final[Millis] = 7 * HOUR
BATCH_MEDIAN, BATCH_SIGMA = 5 * HOUR, 0.4
"""99 % of batch runs take less than thirteen hours ..."""
BATCH_MOST: Final[Millis] = 22 * HOUR


def deploys(seed: int, service: int, begins: Millis, days: int) -> list[Millis]:
    """When this service is deployed: on two or three working days of a week, by day."""
    source = chance(seed, "deploys", service)
    chosen = [day for day in range(days + 1) if day % 7 < 5 and source.random() < 0.5]
    return [begins + day * DAY + int(source.uniform(9, 17) * HOUR) for day in chosen]


def replica(seed: int, service: int, number: int, begins: Millis, days: int) -> Iterator[Script]:
    """The sessions of one replica of a service, back to back.

    A session lasts as long as the token, or until the next deploy; some services authenticate anew under the same session
    id before their token ends, so that only a deploy ends it.
    """
    source, shared = chance(seed, "replica", service, number), chance(seed, "service", service)
    lives, stays = shared.choice(((4 * HOUR, False), (8 * HOUR, False), (12 * HOUR, False), (20 * HOUR, True)))
    network, classification = Network(shared), shared.choice(("public", "internal", "confidential"))
    attributes = Attributes(
        f"svc-{service:03d}", Principal.SERVICE, ("service",), classification, "inference", None, "acme", network.address(source), "acme-sdk/4.2"
    )  # fmt: skip
    stops = deploys(seed, service, begins, days)
    at = begins - int(source.random() * lives)
    while at < begins + days * DAY:
        ends = begins + days * DAY + HOUR if stays else at + int(lives * source.uniform(0.9, 0.99))
        stops = [stop for stop in stops if stop > at]
        if stops and stops[0] < ends:
            ends = stops[0] + source.randrange(20 * SECOND)
        closes = None if source.random() < UNCLEAN else ends
        yield _script(source, attributes, _steady(source, at, ends, lives), closes)
        at = ends + source.randrange(SECOND, 30 * SECOND)


def _steady(source: Random, at: Millis, ends: Millis, lives: Millis) -> tuple[Stretch, ...]:
    """Calls without a pause, in stretches of `lives`; each after the first begins with a new authentication."""
    step, begins = source.randrange(15 * SECOND, 50 * SECOND), at
    found: list[Stretch] = []
    while not found or begins + step <= ends:
        found.append(Stretch(begins, step, max(1, (min(ends, begins + lives) - begins) // step), ActivityKind.AGENT, bool(found)))
        begins = found[-1].ends + step
    return tuple(found)


def agent(seed: int, number: int, begins: Millis, days: int) -> Iterator[Script]:
    """The runs of one agent: bursts of calls, with tools that take their time between them."""
    source = chance(seed, "agent", number)
    attributes = Attributes(
        f"agent-{number:04d}", Principal.SERVICE, ("agent",), source.choice(("internal", "internal", "confidential")), "agent-run", None,
        "acme", Network(source).address(source), "acme-agent/1.8",
    )  # fmt: skip
    at = begins + int(source.random() * 3 * HOUR)
    while at < begins + days * DAY:
        lasts = heavy(source, AGENT_MEDIAN, AGENT_SIGMA, 30 * SECOND, AGENT_MOST)
        work = run(source, at, lasts)
        closes = None if source.random() < 0.1 else work[-1].ends + SECOND
        yield _script(source, attributes, work, closes)
        at = work[-1].ends + heavy(source, 90 * MINUTE, 1.0, 10 * SECOND, 10 * HOUR)


def run(source: Random, at: Millis, lasts: Millis) -> tuple[Stretch, ...]:
    """An agent at work for about so long: calls, then a tool in flight."""
    found: list[Stretch] = []
    begins, until = at, at + lasts
    while not found or begins < until:
        step = source.randrange(5 * SECOND, 40 * SECOND)
        found.append(Stretch(begins, step, source.randint(3, 30), ActivityKind.AGENT))
        waits = heavy(source, 2 * MINUTE, 1.0, 20 * SECOND, 20 * MINUTE)
        found.append(Stretch(found[-1].ends + step, MINUTE, 1 + waits // MINUTE, ActivityKind.INFLIGHT))
        begins = found[-1].ends + step
    return tuple(found)


def batch(seed: int, number: int, begins: Millis, days: int) -> Iterator[Script]:
    """One job that runs each night, for hours: that is what its like do."""
    source = chance(seed, "batch", number)
    attributes = Attributes(
        f"job-{number:04d}", Principal.SERVICE, ("batch",), "confidential", "batch", None, "acme", Network(source).address(source), "acme-batch/2.0"
    )  # fmt: skip
    hour = source.uniform(18, 23)
    for day in range(-1, days):
        at = begins + day * DAY + int(hour * HOUR) + source.randrange(10 * MINUTE)
        step = source.randrange(MINUTE, 5 * MINUTE)
        lasts = heavy(source, BATCH_MEDIAN, BATCH_SIGMA, 20 * MINUTE, BATCH_MOST)
        work = Stretch(at, step, 1 + lasts // step, ActivityKind.AGENT)
        yield _script(source, attributes, (work,), work.ends + SECOND)


def stream(seed: int, number: int, begins: Millis, days: int) -> Iterator[Script]:
    """A subscription: pings all the time, and something asked for every few minutes, at the longest in three quarters of an hour."""
    source = chance(seed, "stream", number)
    attributes = subscriber(source, number)
    at = begins + int(source.random() * 8 * HOUR)
    while at < begins + days * DAY:
        until = at + heavy(source, 3 * HOUR, 0.7, 10 * MINUTE, 20 * HOUR)
        work = [Stretch(at, MINUTE, 1, ActivityKind.AGENT)]
        while work[-1].ends < until:
            waits = heavy(source, 6 * MINUTE, 0.8, 30 * SECOND, 45 * MINUTE)
            work.append(Stretch(work[-1].ends + waits, 5 * SECOND, source.randint(1, 5), ActivityKind.AGENT))
        yield _script(source, attributes, tuple(work), work[-1].ends + SECOND, keepalives=pings(source, at, work[-1].ends))
        at = work[-1].ends + heavy(source, HOUR, 1.0, 10 * SECOND, 10 * HOUR)


def subscriber(source: Random, number: int) -> Attributes:
    """Whoever holds a subscription."""
    return Attributes(
        f"stream-{number:04d}", Principal.SERVICE, ("subscriber",), "internal", "stream", None, "acme", Network(source).address(source),
        "acme-stream/3.1",
    )  # fmt: skip


def pings(source: Random, at: Millis, until: Millis) -> tuple[Stretch, ...]:
    """Keep-alives from then until then."""
    step = source.randrange(20 * SECOND, 2 * MINUTE)
    return (Stretch(at + step, step, max(1, (until - at) // step), ActivityKind.KEEPALIVE),)


def _script(
    source: Random, attributes: Attributes, work: tuple[Stretch, ...], closes: Millis | None, keepalives: tuple[Stretch, ...] = ()
) -> Script:
    return Script(
        session_id=named(source), attributes=attributes, stretches=work, keepalives=keepalives, closes=closes,
        source=source.choice(GATEWAYS), lag=heavy(source, 30, 0.5, 5, 1500),
    )  # fmt: skip
