"""Requirements as timelines, in virtual or in real time.

    t = Timeline(POLICY)
    t.at("0s").open("s1", subject="alice")
    t.at("4s").activity("s1")
    t.expect.between("9s", "11s").expire("s1", "idle_timeout", effective_at="9s")
    t.expect.nothing("s2")
    t.run()

Instants are durations since the start. `run()` plays it through a `Driver`; another world is anything with the
methods of `World` (`tests/kafka` has one that writes to a real broker with a plain producer). A world says when
each command became visible; `between` speaks of that moment, `effective_at` of the command's own word.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from monitor.core.commands import CommandType
from monitor.core.instants import NEVER, SECOND, Millis
from monitor.policy.durations import format_duration, parse_duration
from monitor.testing.driver import Driver
from monitor.wire.times import format_time


class Action(msgspec.Struct, frozen=True):
    """Something that is done at an instant: an event's or a control's members, instants as `Millis` since the start."""

    at: Millis
    kind: str
    """`event`, `control` or `policy`."""
    members: dict[str, Any]


class Seen(msgspec.Struct, frozen=True):
    """One command, as the world saw it; instants since the start."""

    at: Millis
    """When it became visible."""
    type: str
    session_id: str
    epoch: int
    reason: str
    effective_at: Millis
    rule: str | None
    id: str


class Expected(msgspec.Struct, frozen=True):
    """What must be seen, and when."""

    earliest: Millis
    latest: Millis
    type: str
    session_id: str
    members: dict[str, Any]


class World(Protocol):
    """Where a timeline is played."""

    def play(self, policy: str, actions: Sequence[Action], until: Millis) -> list[Seen]:
        """Do everything at its instant, go on until `until`, and return the commands that were seen."""


class At:
    """What is done at one instant. Each method takes further members of the record."""

    def __init__(self, timeline: "Timeline", at: Millis) -> None:
        """Belongs to one timeline."""
        self._timeline, self._at = timeline, at

    def open(self, session_id: str, **members: Any) -> "At":
        """`session.opened`."""
        return self._event("session.opened", session_id, members)

    def activity(self, session_id: str, **members: Any) -> "At":
        """`session.activity`."""
        return self._event("session.activity", session_id, members)

    def reauthenticate(self, session_id: str, **members: Any) -> "At":
        """`session.reauthenticated`."""
        return self._event("session.reauthenticated", session_id, members)

    def close(self, session_id: str, **members: Any) -> "At":
        """`session.closed`."""
        return self._event("session.closed", session_id, members)

    def revoke(self, reason: str = "test", **target: Any) -> "At":
        """`control.revoke` for a target."""
        return self._control("control.revoke", reason, target)

    def lock(self, id: str, reason: str = "test", **target: Any) -> "At":  # noqa: A002 - the record's own word
        """`control.lock` for a target."""
        return self._control("control.lock", reason, target, id=id)

    def unlock(self, id: str, reason: str = "test") -> "At":  # noqa: A002
        """`control.unlock` of a lock."""
        return self._control("control.unlock", reason, {}, id=id)

    def policy(self, text: str) -> "At":
        """Another policy rules from here on."""
        self._timeline.actions.append(Action(self._at, "policy", {"text": text}))
        return self

    def _event(self, event: str, session_id: str, members: Mapping[str, Any]) -> "At":
        said = dict(members)
        for name in ("time", "auth_time", "expires"):
            if isinstance(said.get(name), str):
                said[name] = parse_duration(said[name])
        said.setdefault("time", self._at)
        self._timeline.actions.append(Action(self._at, "event", {"type": event, "session_id": session_id, **said}))
        return self

    def _control(self, control: str, reason: str, target: Mapping[str, Any], **members: Any) -> "At":
        number = len(self._timeline.actions)
        said = {"type": control, "id": f"control-{number}", "reason": reason, "by": "timeline", **members}
        if target:
            said["target"] = dict(target)
        self._timeline.actions.append(Action(self._at, "control", said))
        return self


class Between:
    """What must be seen within a window. Each method may state further members of the command."""

    def __init__(self, timeline: "Timeline", earliest: Millis, latest: Millis) -> None:
        """Belongs to one timeline."""
        self._timeline, self._earliest, self._latest = timeline, earliest, latest

    def expire(self, session_id: str, reason: str, **members: Any) -> "Between":
        """`session.expire` with this reason."""
        return self._expect(CommandType.EXPIRE, session_id, {"reason": reason, **members})

    def revoke(self, session_id: str, **members: Any) -> "Between":
        """`session.revoke`."""
        return self._expect(CommandType.REVOKE, session_id, members)

    def reinstate(self, session_id: str, **members: Any) -> "Between":
        """`session.reinstate`."""
        return self._expect(CommandType.REINSTATE, session_id, members)

    def warn(self, session_id: str, **members: Any) -> "Between":
        """`session.warn`."""
        return self._expect(CommandType.WARN, session_id, members)

    def _expect(self, command: CommandType, session_id: str, members: dict[str, Any]) -> "Between":
        if isinstance(members.get("effective_at"), str):
            members["effective_at"] = parse_duration(members["effective_at"])
        expected = Expected(self._earliest, self._latest, command.value, session_id, members)
        self._timeline.expected.append(expected)
        return self


class Expect:
    """The expectations of a timeline. Every command of a session that is named here must be expected."""

    def __init__(self, timeline: "Timeline") -> None:
        """Belongs to one timeline."""
        self._timeline = timeline

    def between(self, earliest: str, latest: str) -> Between:
        """Within this window, ends included."""
        return Between(self._timeline, parse_duration(earliest), parse_duration(latest))

    def nothing(self, session_id: str) -> None:
        """No command at all but warnings."""
        self._timeline.quiet.add(session_id)


class Timeline:
    """What is done and what must be seen. Warnings need not be expected; everything else must be."""

    def __init__(self, policy: str) -> None:
        """`policy` rules from the start."""
        self.actions: list[Action] = []
        self.expected: list[Expected] = []
        self.quiet: set[str] = set()
        self.expect = Expect(self)
        self._policy = policy

    def at(self, instant: str) -> At:
        """Do something at this instant."""
        return At(self, parse_duration(instant))

    def run(self, world: World | None = None, until: str | None = None) -> list[Seen]:
        """Play it; the commands seen. Raises AssertionError, which lists all that differs."""
        end = max((e.latest for e in self.expected), default=0) + SECOND
        if until is not None:
            end = max(end, parse_duration(until))
        actions = sorted(self.actions, key=lambda action: action.at)
        seen = (world or VirtualWorld()).play(self._policy, actions, end)
        wrong = self.differences(seen)
        if wrong:
            told = "\n".join(f"  {_told(s)}" for s in seen) or "  nothing"
            raise AssertionError("\n".join(wrong) + f"\nseen:\n{told}")
        return seen

    def differences(self, seen: Sequence[Seen]) -> list[str]:
        """What was expected and not seen, or seen and not expected."""
        left, wrong = list(seen), []
        for expected in self.expected:
            match = next((s for s in left if _matches(expected, s)), None)
            if match is None:
                window = f"{format_duration(expected.earliest)} and {format_duration(expected.latest)}"
                wrong.append(f"not seen between {window}: {expected.type} {expected.session_id} {expected.members}")
            else:
                left.remove(match)
        named = {e.session_id for e in self.expected} | self.quiet
        wrong.extend(
            f"not expected: {_told(s)}" for s in left if s.session_id in named and s.type != CommandType.WARN.value
        )
        return wrong


def _matches(expected: Expected, seen: Seen) -> bool:
    return (
        (seen.type, seen.session_id) == (expected.type, expected.session_id)
        and expected.earliest <= seen.at <= expected.latest
        and all(getattr(seen, name) == value for name, value in expected.members.items())
    )


def _told(seen: Seen) -> str:
    return (
        f"{format_duration(seen.at)}: {seen.type} {seen.session_id} epoch {seen.epoch} {seen.reason} "
        f"effective at {format_duration(max(0, seen.effective_at))} rule {seen.rule}"
    )


class VirtualWorld:
    """A Driver, with a tick every second and whenever something is due, as a perfect owner would send them."""

    START: Millis = 1_795_000_000_000

    def __init__(self, driver: Driver | None = None) -> None:
        """A Driver of your own may be given, to look into afterwards; else one is made."""
        self.driver = driver

    def play(self, policy: str, actions: Sequence[Action], until: Millis) -> list[Seen]:
        """Play in virtual time."""
        driver = self.driver = self.driver or Driver(policy, now=self.START)
        seen: list[Seen] = []
        for action in [*actions, None]:
            at = self.START + (until if action is None else action.at)
            self._tick_until(driver, at, seen)
            if action is not None:
                self._do(driver, action, at)
                self._look(driver, at, seen)
        return seen

    def _tick_until(self, driver: Driver, at: Millis, seen: list[Seen]) -> None:
        while True:
            last = driver.partition.log_time
            due = driver.partition.next_due(at) if last else NEVER
            tick = min(max(due, last + 1), last + SECOND) if last else at
            if tick > at or (tick == at and last == at):
                return
            driver.tick(tick)
            self._look(driver, tick, seen)

    def _do(self, driver: Driver, action: Action, at: Millis) -> None:
        if action.kind == "event":
            members = dict(action.members)
            for name in ("time", "auth_time", "expires"):
                if isinstance(members.get(name), int):
                    members[name] = format_time(self.START + members[name])
            driver.append(members, at)
        elif action.kind == "policy":
            driver.policy(action.members["text"], at)
            driver.tick(at)
        else:
            driver.control(action.members, at)
            driver.tick(at)

    def _look(self, driver: Driver, at: Millis, seen: list[Seen]) -> None:
        seen.extend(
            Seen(
                at - self.START, c.type.value, c.session_id, c.epoch, c.reason.value, c.effective_at - self.START,
                c.rule, c.id,
            )
            for c in driver.commands[len(seen) :]
        )  # fmt: skip
