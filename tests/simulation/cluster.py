"""A Kafka in memory, on virtual time: logs with append times, one group, producers that repeat, compaction, outages."""

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from monitor.testing.driver import Stored
from tests.simulation.virtual import World

BASE = 1_795_000_000_000
"""The wall clock when the simulation begins."""
SESSION_TIMEOUT = 6000
REBALANCE_TIMEOUT = 8000
LAG = 5000
"""min.compaction.lag: below it nothing is compacted. What it protects from is told in the README."""


class Member:
    """What the coordinator knows of a process."""

    def __init__(self, name: str, joined: Callable[[int, list[int]], None]) -> None:
        self.name = name
        self.joined: Callable[[int, list[int]], None] | None = joined
        """Set while it waits for the generation."""
        self.heard = 0


class Cluster:
    """The brokers. Everything that takes time takes a few milliseconds, now and then many."""

    def __init__(self, world: World, seed: str, partitions: int, *, compacted: set[str]) -> None:
        self.world = world
        self.dice = random.Random(seed)
        self.partitions = partitions
        self.compacted = compacted
        self.logs: dict[tuple[str, int], list[Stored]] = defaultdict(list)
        """What a reader finds."""
        self.history: dict[tuple[str, int], list[Stored]] = defaultdict(list)
        """What was ever written."""
        self.ends: dict[tuple[str, int], int] = defaultdict(int)
        self.watchers: list[Callable[[str, int], None]] = []
        self.committed: dict[int, int] = {}
        self.down_until = 0
        self.slow = 0.02
        """How many of the requests take tens or hundreds of milliseconds."""
        self.trouble = 0.0
        """How many of the requests are lost, or their answers."""
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.forming = False

    # --- logs ------------------------------------------------------------------------------------------

    @property
    def clock(self) -> int:
        return BASE + self.world.now

    @property
    def down(self) -> bool:
        return self.world.now < self.down_until

    def latency(self) -> int:
        return self.dice.choice((1, 1, 1, 2, 2, 3, 5, 8)) if self.dice.random() >= self.slow else self.dice.randrange(50, 400)

    def write(self, topic: str, partition: int, records: list[tuple[bytes | None, bytes | None, Any]]) -> int:
        """Append one batch, under one append time; its base offset."""
        place = (topic, partition)
        base = self.ends[place]
        for number, (key, value, headers) in enumerate(records):
            record = Stored(base + number, self.clock, key, value, tuple(headers))
            self.logs[place].append(record)
            self.history[place].append(record)
        self.ends[place] = base + len(records)
        for watcher in list(self.watchers):
            watcher(topic, partition)
        return base

    def compact(self) -> None:
        """Of what is old enough, the last record of each key stays; offsets stay as they are."""
        for (topic, _), log in self.logs.items():
            if topic not in self.compacted:
                continue
            old = [record for record in log if record.timestamp <= self.clock - LAG]
            last = {record.key: record.offset for record in log}
            gone = {r.offset for r in old if last[r.key] > r.offset and any(o.key == r.key and o.offset > r.offset for o in old)}
            gone |= {r.offset for r in old if r.value is None and last[r.key] == r.offset}
            log[:] = [record for record in log if record.offset not in gone]

    def read(self, topic: str, partition: int, start: int, most: int) -> list[Stored]:
        log = self.logs[topic, partition]
        low, high = 0, len(log)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if log[middle].offset < start else (low, middle)
        return log[low : low + most]

    # --- the group -------------------------------------------------------------------------------------

    def join(self, name: str, joined: Callable[[int, list[int]], None]) -> None:
        member = self.members.get(name)
        if member is None:
            member = self.members[name] = Member(name, joined)
        member.joined, member.heard = joined, self.world.now
        if not self.forming:
            self._rebalance()
        self._form_if_all_are_there()

    def leave(self, name: str) -> None:
        if self.members.pop(name, None) is not None and not self.forming:
            self._rebalance()
        self._form_if_all_are_there()

    def heartbeat(self, name: str, generation: int) -> str:
        member = self.members.get(name)
        if member is None or (generation != self.generation and not self.forming):
            return "unknown"
        member.heard = self.world.now
        return "rebalance" if self.forming else "ok"

    def commit(self, name: str, generation: int, offsets: dict[int, int]) -> bool:
        """Whether the group takes it: from members of the current generation, also while the next one forms."""
        if name not in self.members or generation != self.generation:
            return False
        self.committed.update(offsets)
        return True

    def bury(self) -> None:
        """Forget who fell silent."""
        for name in [m.name for m in self.members.values() if self.world.now - m.heard > SESSION_TIMEOUT and m.joined is None]:
            self.leave(name)

    def _rebalance(self) -> None:
        self.forming = True
        forming = self.generation
        self.world.after(REBALANCE_TIMEOUT, lambda: self._give_up_waiting(forming))

    def _give_up_waiting(self, generation: int) -> None:
        if self.forming and generation == self.generation:
            for name in [member.name for member in self.members.values() if member.joined is None]:
                del self.members[name]
            self._form_if_all_are_there()

    def _form_if_all_are_there(self) -> None:
        if not self.forming or any(member.joined is None for member in self.members.values()):
            return
        self.forming = False
        self.generation += 1
        names = sorted(self.members)
        for place, name in enumerate(names):
            member = self.members[name]
            joined, member.joined, member.heard = member.joined, None, self.world.now
            mine = [number for number in range(self.partitions) if number % len(names) == place]
            assert joined is not None
            self.world.after(self.latency(), lambda j=joined, g=self.generation, m=mine: j(g, m))
