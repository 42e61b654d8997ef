"""Commands that already stand on the topic, met again by a replay.

A replay from the committed offset derives the commands behind it once more, with the same ids. Should it
not derive one (state that was lost, another build), the command holds all the same: an ended session
stays ended. Facts are merged where the replay reaches the offset at which they were decided.
"""

from collections import deque
from collections.abc import Iterable

import msgspec

from monitor.core.commands import CommandType
from monitor.core.partition import Partition
from monitor.core.session import End, State


class Fact(msgspec.Struct, frozen=True):
    """One ending command of the commands topic."""

    session_id: str
    epoch: int
    end: End

    @property
    def offset(self) -> int:
        """Where on access-events it was decided."""
        return self.end.offset


class Facts:
    """The facts that the replay has not reached yet, in order of their offsets."""

    __slots__ = ("merged", "pending")

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        """Take them in any order."""
        self.pending = deque(sorted(facts, key=lambda fact: fact.offset))
        self.merged = 0
        """Facts that the replay had not derived by itself: normally none."""

    def add(self, fact: Fact) -> None:
        """One more, which the replay has not reached."""
        self.pending = deque(sorted((*self.pending, fact), key=lambda one: one.offset))

    def merge(self, partition: Partition, before: int) -> None:
        """Let every fact that was decided before this offset hold. Only when `swept`: what controls decided comes first."""
        while self.pending and self.pending[0].offset < before:
            fact = self.pending.popleft()
            session = partition.sessions.get(fact.session_id)
            if session is None or session.epoch != fact.epoch or session.state is State.REVOKED:
                continue
            if session.applied_offset > fact.offset:
                continue  # written later than the fact was decided: it shows it, or is another session of that name
            if session.state is State.LIVE or fact.end.type is CommandType.REVOKE:
                self.merged += 1
                partition.settle(session, fact.end)
                # The replay may have repeated a weaker command behind it: the strongest must stand last.
                partition.restate(session)

