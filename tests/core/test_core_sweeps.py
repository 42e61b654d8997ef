"""What a control does to many sessions at once, by column, is what it does to each by itself: same words, same sessions."""

from collections.abc import Iterator
from random import Random

import pytest

from monitor.core import partition as partitions
from monitor.core.commands import Command
from monitor.core.controls import Control, ControlType, Target
from monitor.core.effects import Effect, Revoked
from monitor.core.events import ActivityKind, Event, EventType, Tick
from monitor.core.instants import NEVER
from monitor.core.lifecycle import Lifecycle
from monitor.core.partition import Partition, Position
from monitor.core.session import Dirty, Session, State
from monitor.core.standing import ControlLog
from monitor.worker.follower import compiled
from monitor.worker.state import encode_session

NOW = 1_795_000_000_000
MINUTE = 60_000
POLICY = """
version: 1
timing: {lateness: 2s, credential_lifetime: 3h}
defaults: {idle: 10m, absolute: 2h, warn_before: [1m]}
rules:
  - {name: secret, when: {classification: {at_least: restricted}}, idle: 5m}
"""
TARGETS = (
    Target(all=True), Target(subject="ann"), Target(session_id="s7"), Target(role="analyst"), Target(tenant="acme"),
    Target(subject="bob", classification="restricted"), Target(workload="batch"), Target(client_ip="10.0.0.1"),
)  # fmt: skip


def begin() -> Partition:
    log = ControlLog(compiled)
    log.add(Control(0, NOW, ControlType.POLICY, "policy", reason="test", by="test", policy_text=POLICY, policy_version="1"))
    return Partition(0, Position(0, controls_to=0), log)


def event(dice: Random, number: int, at: int) -> Event:
    return Event(
        dice.choice([EventType.OPENED, EventType.ACTIVITY, EventType.ACTIVITY, EventType.REAUTHENTICATED, EventType.CLOSED]),
        f"s{number}", at - dice.randrange(3) * MINUTE, at, subject=dice.choice([None, "ann", "bob", 'ört"\\']),
        roles=dice.choice([None, (), ("analyst",), ("admin", "analyst")]), source=dice.choice([None, "gw"]),
        classification=dice.choice([None, "internal", "restricted"]), workload=dice.choice([None, "batch"]),
        tenant=dice.choice([None, "acme"]), client_ip=dice.choice([None, "10.0.0.1"]), activity=dice.choice([None, *ActivityKind]),
        auth_time=dice.choice([None, None, at - 20 * MINUTE]), expires=dice.choice([None, None, at + 9 * 60 * MINUTE]),
    )  # fmt: skip


def control(dice: Random, offset: int, at: int) -> Control:
    kind = dice.choice([ControlType.REVOKE, ControlType.REVOKE, ControlType.LOCK, ControlType.UNLOCK])
    before = dice.choice([None, None, at - 10 * MINUTE, at - 4 * 60 * MINUTE]) if kind is ControlType.REVOKE else None
    expires = dice.choice([NEVER, at + 10 * MINUTE])
    return Control(offset, at, kind, f"c{dice.randrange(3)}", dice.choice(TARGETS), dice.choice(["why", "risk"]), "me", before, expires)


def written(effects: list[Effect]) -> Iterator[Effect]:
    for effect in effects:
        yield from effect.each() if isinstance(effect, Revoked) else (effect,)
    effects.clear()


def live_through(dice: Random) -> tuple[list[Effect], list[list[object]], int]:
    """Events, and controls of which each sweep is interrupted by events and by what comes due."""
    partition, at, offset, shortcuts = begin(), NOW, 0, 0
    said: list[Effect] = []
    looks: list[list[object]] = []
    for _ in range(dice.randrange(20, 60)):
        at += dice.choice([1, 1, MINUTE, 4 * MINUTE, 30 * MINUTE])
        offset += 1
        partition.begin(offset, at)
        newest = partition.controls.read_to
        if dice.random() < 0.25 and partition.swept:
            partition.controls.add(control(dice, newest + 1, at))
            partition.tick(Tick("me", newest + 1), offset)
        else:
            partition.apply(event(dice, dice.randrange(12), at), offset)
        partition.sweep(dice.randrange(1, 6))
        shortcuts += sum(isinstance(effect, Revoked) for effect in partition.effects)
        said += written(partition.effects)
        if partition.swept and dice.random() < 0.3:
            looks.append([(look(session), session.dirty) for session in partition.sessions.values()])
            for session in partition.dirty:
                session.dirty = Dirty.NOTHING
            partition.dirty.clear()
            for session in partition.sessions.values():
                if dice.random() < 0.5 and session.state is State.LIVE:
                    session.seen = "what its last event was like"
    while not partition.sweep(3):
        pass
    looks.append([look(session) for session in partition.sessions.values()])
    for hours in (1, 2, 30):
        partition.begin(offset + hours, at + hours * 60 * MINUTE)
    shortcuts += sum(isinstance(effect, Revoked) for effect in partition.effects)
    said += written(partition.effects)
    return said, looks, shortcuts


def look(session: Session) -> object:
    return encode_session(session), session.seen, session.controls_to


def by_session(said: list[Effect]) -> dict[str, list[Effect]]:
    found: dict[str, list[Effect]] = {}
    for effect in said:
        found.setdefault(getattr(effect, "session_id", ""), []).append(effect)
    return found


def test_the_short_way_comes_to_what_the_long_way_comes_to(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0
    # Both ways have to take as many turns, or the histories would not be the same.
    monkeypatch.setattr(partitions, "PASSED_OVER", 1)
    for number in range(300):
        short = live_through(Random(number))
        with monkeypatch.context() as patch:
            patch.setattr(partitions, "shortcut", lambda *_: None)
            long = live_through(Random(number))
        assert by_session(short[0]) == by_session(long[0]), number
        assert short[1] == long[1], number
        assert long[2] == 0
        taken += short[2]
    assert taken > 100, "the short way was hardly ever taken"


def test_whoever_is_revoked_together_is_told_of_one_by_one() -> None:
    partition = begin()
    for number in range(5):
        partition.begin(number, NOW)
        partition.apply(Event(EventType.OPENED, f"s{number}", NOW, NOW, subject=f"u{number}"), number)
    partition.dirty.clear()
    for session in partition.sessions.values():
        session.dirty = Dirty.NOTHING
    partition.effects.clear()
    partition.controls.add(Control(1, NOW + 1, ControlType.REVOKE, "c", Target(all=True), "why", "me"))
    partition.begin(5, NOW + 2)
    partition.tick(Tick("me", 1), 5)
    assert not partition.sweep(3)
    (first,) = partition.effects
    assert isinstance(first, Revoked)
    assert [session.session_id for session in first.sessions] == ["s0", "s1", "s2"]
    assert [session.state for session in partition.sessions.values()] == [State.REVOKED] * 3 + [State.LIVE] * 2
    assert partition.sweep(3)
    said = [*written(partition.effects)]
    commands = [one for one in said if isinstance(one, Command)]
    told = [one for one in said if isinstance(one, Lifecycle)]
    assert [(command.session_id, command.subject) for command in commands] == [(f"s{n}", f"u{n}") for n in range(5)]
    assert [one.command_id for one in told] == [command.id for command in commands]
    assert [session.session_id for session in partition.dirty] == [f"s{n}" for n in range(5)]


def test_whoever_is_forgotten_before_the_sweep_comes_to_it_is_in_nobodys_way() -> None:
    partition, hours = begin(), 3 * 60 * MINUTE  # so long an ended session is kept
    for offset, (name, at, kind) in enumerate([
        ("gone", NOW, EventType.CLOSED), ("first", NOW, EventType.OPENED), ("going", NOW + 5 * MINUTE, EventType.CLOSED),
        ("last", NOW + hours + 3 * MINUTE, EventType.OPENED),
    ]):  # fmt: skip
        partition.begin(offset, at)
        partition.apply(Event(kind, name, at, at, subject=name), offset)
    assert [*partition.sessions] == ["first", "going", "last"]
    assert partition.sessions["last"].row == 0, "it has the row of the one that is gone, which forgotten sessions name too"
    partition.controls.add(Control(1, NOW + hours + 3 * MINUTE + 1, ControlType.REVOKE, "c", Target(subject="last"), "why", "me"))
    partition.begin(4, NOW + hours + 4 * MINUTE)
    partition.tick(Tick("me", 1), 4)
    assert not partition.sweep(1)
    partition.begin(5, NOW + hours + 6 * MINUTE)
    assert [*partition.sessions] == ["first", "last"]
    assert partition.sweep(10)
    assert partition.sessions["last"].state is State.REVOKED


def test_those_that_a_control_does_not_meet_are_passed_over_many_at_a_time() -> None:
    partition = begin()
    for number in range(120):
        partition.begin(number + 1, NOW)
        partition.apply(Event(EventType.OPENED, f"s{number}", NOW, NOW, subject="u" if number == 119 else "other"), number + 1)
    partition.controls.add(Control(1, NOW + 1, ControlType.REVOKE, "r", Target(subject="u"), "why", "me"))
    partition.begin(200, NOW + 1)
    partition.tick(Tick("me", 1), 200)
    partition.effects.clear()
    turns = 1
    while not partition.sweep(5):
        turns += 1
    assert turns == 3, "120 are 24 turns' worth: 100 cost one, those up to the one that is met another, and one sees that no more are left"
    assert [one for one in written(partition.effects) if getattr(one, "session_id", "") == "s119"]
