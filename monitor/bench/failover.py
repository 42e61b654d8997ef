"""Two workers, one of them killed: until the other has the dead one's partitions at work again."""

import time
from pathlib import Path

import msgspec

from monitor.bench.observer import Mark, Observer
from monitor.bench.stage import Stage
from monitor.broker.connection import Connection
from monitor.core.errors import AbsenceError

POLICY = "version: 1\ndefaults: {idle: 2h, absolute: 12h}\n"
SHIPPED = 10
"""Seconds of a worker's session timeout, where nothing else is said."""
SETTLED = 5.0
HOW = (
    "From SIGKILL of one of two workers until another process has seen, for each partition that it owned, a watermark of the other"
    " with log time within 1 s of now. The group can't know of a death before the session timeout: what is judged is the time past it."
)


class Failover(msgspec.Struct, frozen=True):
    """What became of the dead worker's partitions."""

    seconds: float
    partitions: int


def measure(connection: Connection, sessions: int, rate: float, session_timeout: int, directory: Path) -> Failover:
    """`session_timeout` in seconds; the load goes on all the while."""
    with Stage(connection, directory, POLICY, "failover") as stage, Observer(connection, stage.topics) as observer:
        said = ("--session-timeout", f"{session_timeout}s") if session_timeout != SHIPPED else ()
        doomed, heir = stage.worker("doomed", *said), stage.worker("heir", *said)

        def both() -> bool:
            doomed.require()
            heir.require()
            return set(owners(observer.marks).values()) == {"doomed", "heir"}

        observer.until(both, 120.0, "watermarks of both workers")
        stage.preload(sessions, 2 * sessions)
        stage.drain(doomed, stage.ends())
        load = stage.load(sessions=sessions, rate=rate)
        time.sleep(SETTLED)
        both()
        moved = {number for number, owner in owners(observer.marks).items() if owner == "doomed"}
        if not moved:
            raise AbsenceError("the worker to be killed owned no partition")
        since, killed = len(observer.marks), time.time() * 1000
        doomed.kill()

        def done() -> bool:
            heir.require()
            load.require()
            return observer.fresh_at(since, "doomed", frozenset(moved)) is not None

        observer.until(done, session_timeout + 300.0, "the dead worker's partitions at work again")
        at = observer.fresh_at(since, "doomed", frozenset(moved))
    if at is None:
        raise AbsenceError("the watermarks are gone")
    return Failover(round((at - killed) / 1000, 2), len(moved))


def owners(marks: list[Mark]) -> dict[int, str]:
    """Who spoke last for each partition. Pure."""
    return {mark.watermark.partition: mark.watermark.owner or "" for mark in marks}
