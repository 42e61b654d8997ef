"""The demo's traffic: an endless schedule of access events, a function of its seed alone."""

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from monitor.core.instants import Millis
from monitor.demo import stories
from monitor.demo.cast import AGENTS, PEOPLE, SERVICES, Persona
from monitor.demo.stories import Script, Step, Story

POLICY: Final = Path(__file__).with_name("policy.yaml")
"""The policy that fits this traffic: limits of seconds."""

BETWEEN_SESSIONS: Final[Millis] = 900
"""The mean wait between two openings."""

PROGRAMS: Final = (*SERVICES, *AGENTS)
_ERIN, _ALICE, _GRACE, _BOB, _DAVE, _CAROL, _FRANK = (PEOPLE[place] for place in (4, 0, 6, 1, 3, 2, 5))

OPENING: Final[tuple[tuple[Persona, Story], ...]] = (
    (_ERIN, stories.forgotten), (_ALICE, stories.digs_deeper), (_GRACE, stories.comes_back), (SERVICES[0], stories.runs_unattended), (_BOB, stories.polls),
    (AGENTS[0], stories.waits_for_tool), (_DAVE, stories.never_stops), (_FRANK, stories.tidy), (_CAROL, stories.forgotten),
)  # fmt: skip
"""The sessions of the first second: some of everything, the shortest limit first."""


class Act(msgspec.Struct, frozen=True):
    """One event and its place in the schedule."""

    offset: Millis
    """Since the beginning."""
    event: dict[str, object]
    """As on the wire (DESIGN section 4.1), but for its time: that is when it is played."""


def traffic(seed: int = 1) -> Iterator[Act]:
    """Acts in the order of their offsets, without end; the same seed gives the same acts."""
    random = Random(seed)  # noqa: S311 - chance with a seed is the point
    numbers = count()
    going: list[tuple[Millis, int, dict[str, object], Iterator[Step]]] = []

    def begin(at: Millis, persona: Persona, story: Story) -> None:
        number = next(numbers)
        session_id = f"s-{number:04x}{random.getrandbits(8):02x}"
        script = Script(session_id, persona, Random(random.getrandbits(64)))  # noqa: S311
        advance(at, number, story(script))

    def advance(at: Millis, number: int, steps: Iterator[Step]) -> None:
        step = next(steps, None)
        if step is not None:
            heappush(going, (at + step[0], number, step[1], steps))

    for place, (persona, story) in enumerate(OPENING):
        begin(place * 100, persona, story)
    opening = len(OPENING) * 100
    while True:
        while going and going[0][0] <= opening:
            at, number, event, steps = heappop(going)
            yield Act(at, event)
            advance(at, number, steps)
        begin(opening, *_drawn(random))
        opening += 1 + int(random.expovariate(1 / BETWEEN_SESSIONS))


def _drawn(random: Random) -> tuple[Persona, Story]:
    """A persona and its story."""
    people = random.random() < 0.7
    persona = random.choice(PEOPLE if people else PROGRAMS)
    shelf = stories.OF_PEOPLE if people else stories.OF_PROGRAMS
    return persona, random.choices(list(shelf), list(shelf.values()))[0]
