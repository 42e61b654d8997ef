"""I5 on Apache Kafka with real compaction: a gateway never forgets an end that stands at or below what it has applied."""

from random import Random
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from monitor.broker.administration import apply_topics
from monitor.broker.clients import administrator
from monitor.core.instants import HOUR
from monitor.gateway.follower import Follower
from monitor.wire.codec import Record
from monitor.wire.topics import Topics
from tests.conftest import World
from tests.gateway.streams import T0, command_value
from tests.gateway.worlds import Clocks, Monitor, following, monitor, reason, until
from tests.kafka.plain import read_all
from tests.model.gateway import decide

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

SESSIONS = [f"s-{n}" for n in range(60)]
EAGER = {
    "min.compaction.lag.ms": "1000", "delete.retention.ms": "0", "min.cleanable.dirty.ratio": "0.001", "segment.ms": "100",
}  # fmt: skip
"""Whoever follows has a second to see a tombstone, where topics of ours give an hour; what is older goes while it is read."""
ROUNDS = 12


class Histories:
    """What the monitor may write of sessions: monotone, with tombstones, over several epochs."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.written: dict[str, list[dict[str, Any] | None]] = {name: [] for name in SESSIONS}

    def next(self, name: str) -> dict[str, Any] | None:
        last = self.written[name][-1] if self.written[name] else None
        if last is None:
            step = self._command(name, "session.expire", 0)
        elif last["type"] == "session.reinstate":
            step = self._command(name, self._random.choice(("session.expire", "session.revoke")), last["epoch"])
        else:
            step = self._random.choice((
                None, self._command(name, "session.reinstate", last["epoch"] + 1), self._command(name, "session.expire", last["epoch"] + 1),
                self._command(name, "session.revoke", last["epoch"] + (last["type"] == "session.revoke")),
            ))  # fmt: skip
        self.written[name].append(step)
        return step

    def _command(self, name: str, type_: str, epoch: int) -> dict[str, Any]:
        at = T0 - self._random.randrange(10_000)
        return {
            "type": type_, "id": "0" * 32, "session_id": name, "epoch": epoch, "reason": "admin_revoked" if type_ == "session.revoke" else "idle_timeout",
            "effective_at": at, "cutoff": at, "reauth": {"allowed": type_ != "session.revoke"},
        }  # fmt: skip

    def reasons(self) -> dict[str, str]:
        """What each session has to be refused for now."""
        given = {"now": T0, "log_time": T0, "age": 0, "behind": False, "max_age": 1}
        return {name: decide(None, written, [], {"session_id": name}, **given)[1] for name, written in self.written.items()}


def play(writer: Monitor, histories: Histories, rounds: int) -> None:
    for _ in range(rounds):
        steps = [(name, histories.next(name)) for name in SESSIONS]
        writer.write(*((name, Record(name.encode(), command_value(step), [])) for name, step in steps))
        writer.watermarks()


def judged(follower: Follower, histories: Histories) -> None:
    """Once it has applied what was written, it refuses exactly what has to be refused."""
    wanted = histories.reasons()
    until(lambda: {name: reason(follower, name) for name in SESSIONS} == wanted)


def stored(world: World) -> int:
    return len(read_all(world.bootstrap_servers, world.topics.session_commands.name))


def compacted(world: World, writer: Monitor) -> None:
    """Wait until the broker has really removed records: most of those of the last rounds, which it may have begun to do already."""

    def fewer() -> bool:
        writer.watermarks()  # a segment is closed by what comes after it
        return stored(world) < ROUNDS * len(SESSIONS) / 2

    until(fewer, 60)


def test_restarts_and_real_compaction_revive_nobody(apache_kafka) -> None:
    broker = apache_kafka(settings={"log.cleaner.backoff.ms": "100"})
    world = World(broker.bootstrap_servers, "gw-")
    apply_topics(broker.connection, Topics("gw-"), replication=1)
    histories, clocks = Histories(seed=1), Clocks()
    with monitor(world) as writer, following(world) as constant, following(world, now=clocks) as restarted:
        play(writer, histories, ROUNDS)
        judged(constant, histories)
        restarted.stop()
        play(writer, histories, ROUNDS)
        restarted.start()
        judged(restarted, histories)
        restarted.stop()
        alter(world, EAGER)
        compacted(world, writer)
        play(writer, histories, ROUNDS)
        compacted(world, writer)
        # What it knows is of before, and tombstones between two lives of an id are gone: it reads everything anew.
        clocks.ahead = HOUR
        restarted.start()
        with following(world) as late:
            play(writer, histories, 1)
            for follower in (constant, restarted, late):
                judged(follower, histories)
            until(lambda: late.positions == constant.positions == restarted.positions)


def alter(world: World, settings: dict[str, str]) -> None:
    with administrator(world.connection) as admin:
        topic = world.topics.session_commands.name
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=settings)])
