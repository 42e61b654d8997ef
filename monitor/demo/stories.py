"""What becomes of a session: each story is the steps of one session, from its opening to its last event.

A story doesn't know the monitor, as a client doesn't; that its pauses are longer, or its work lasts longer,
than the limits of `policy.yaml` is what makes a demo of it.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final, TypeAlias

from monitor.core.events import EventType
from monitor.core.instants import SECOND, Millis
from monitor.demo.cast import Persona

Step: TypeAlias = tuple[Millis, dict[str, object]]
"""The wait since the step before, and the event."""


class Script:
    """Writes the events of one session."""

    def __init__(self, session_id: str, persona: Persona, random: Random) -> None:
        """All chance comes from `random`."""
        self.random = random
        self._session_id = session_id
        self._persona = persona

    def open(self) -> Step:
        """The session begins, and says all that is known of it."""
        who = self._persona
        return 0, self._event(
            EventType.OPENED, subject=who.subject, principal=who.principal.value, roles=list(who.roles), tenant=who.tenant,
            classification=who.classification, workload=who.workload, route=who.routes[0], client_ip=who.client_ip,
            user_agent=who.user_agent,
        )  # fmt: skip

    def use(self, wait: Millis | None = None, /, **said: object) -> Step:
        """One use, after the persona's own wait where none is given."""
        route = self.random.choice(self._persona.routes)
        after = self.random.randint(*self._persona.rhythm) if wait is None else wait
        return after, self._event(EventType.ACTIVITY, **({"route": route} | said))

    def uses(self, least: int, most: int, **said: object) -> Iterator[Step]:
        """Some uses in the persona's rhythm."""
        for _ in range(self.random.randint(least, most)):
            yield self.use(**said)

    def uses_for(self, duration: Millis, **said: object) -> Iterator[Step]:
        """Uses in the persona's rhythm until so long has passed."""
        passed = 0
        while True:
            step = self.use(**said)
            passed += step[0]
            if passed > duration:
                return
            yield step

    def reauthenticate(self, wait: Millis) -> Step:
        """The principal proves again who it is, with a second factor."""
        return wait, self._event(EventType.REAUTHENTICATED, acr="aal2")

    def close(self) -> Step:
        """Logout."""
        return self.random.randint(300, 900), self._event(EventType.CLOSED)

    def _event(self, type_: EventType, **said: object) -> dict[str, object]:
        return {"type": type_.value, "session_id": self._session_id, **said}


def tidy(script: Script) -> Iterator[Step]:
    """Works, and logs out."""
    yield script.open()
    yield from script.uses(5, 12)
    yield script.close()


def forgotten(script: Script) -> Iterator[Step]:
    """Opened and left alone."""
    yield script.open()


def falls_idle(script: Script) -> Iterator[Step]:
    """Works a while, then goes to lunch."""
    yield script.open()
    yield from script.uses(2, 6)


def comes_back(script: Script) -> Iterator[Step]:
    """Comes back after its session has expired, authenticates again, and goes on."""
    yield script.open()
    yield from script.uses(1, 3)
    yield script.reauthenticate(script.random.randint(11 * SECOND, 14 * SECOND))
    yield from script.uses(4, 8)
    yield script.close()


def digs_deeper(script: Script) -> Iterator[Step]:
    """Reaches restricted data in mid-session: its limits shorten at once."""
    yield script.open()
    yield from script.uses(2, 4)
    yield from script.uses(1, 3, classification="restricted")


def never_stops(script: Script) -> Iterator[Step]:
    """Works without a pause, into the absolute limit."""
    yield script.open()
    yield from script.uses_for(70 * SECOND)


def polls(script: Script) -> Iterator[Step]:
    """A page left open: its keep-alives extend nothing."""
    yield script.open()
    yield from script.uses(1, 2)
    for _ in range(script.random.randint(5, 7)):
        yield script.use(SECOND, activity="keepalive")


def not_enforced(script: Script) -> Iterator[Step]:
    """Its gateway lets it go on after it has expired: late activity."""
    yield script.open()
    for _ in range(script.random.randint(2, 4)):
        yield script.use(script.random.randint(9 * SECOND, 11 * SECOND))


def runs_unattended(script: Script) -> Iterator[Step]:
    """An agent that would go on for ever."""
    yield script.open()
    yield from script.uses_for(40 * SECOND, activity="agent")


def waits_for_tool(script: Script) -> Iterator[Step]:
    """An agent whose tool call takes long: it is in flight, so the session isn't idle. Then it is done."""
    yield script.open()
    yield from script.uses(2, 4, activity="agent")
    yield from script.uses_for(10 * SECOND, activity="inflight")
    yield from script.uses(1, 2, activity="agent")
    yield script.close()


Story: TypeAlias = Callable[[Script], Iterator[Step]]

OF_PEOPLE: Final[dict[Story, int]] = {
    tidy: 5, falls_idle: 6, forgotten: 2, comes_back: 3, digs_deeper: 4, never_stops: 1, polls: 2, not_enforced: 2,
}  # fmt: skip
"""Story -> how often, beside the others."""

OF_PROGRAMS: Final[dict[Story, int]] = {tidy: 3, falls_idle: 2, runs_unattended: 3, waits_for_tool: 3}
