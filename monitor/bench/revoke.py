"""One order that ends every session: until the last command is visible, and how long events wait meanwhile."""

import secrets
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import msgspec

from monitor.bench.figures import longest_gap
from monitor.bench.observer import Observer, Sighting
from monitor.bench.stage import Stage
from monitor.broker.connection import Connection
from monitor.broker.control_log import read_controls, write_control
from monitor.core.controls import Control, ControlType, Target
from monitor.core.errors import AbsenceError
from monitor.wire.controls import encode_control

POLICY = "version: 1\ndefaults: {idle: 2h, absolute: 12h}\n"
BEFORE = 5.0
"""Seconds of the stream of events before the order: what is usual."""
AFTER = 2.0
_REVOKED = b'{"type":"session.revoke","session_id":"s-'
"""How the commands of preloaded sessions begin."""
HOW = (
    "All visible: from the append of the `revoke --all` control to the moment at which another process has fetched the last of the"
    " sessions' commands; each session's is checked to be there. Stall: a steady stream of `closed` events of sessions unknown"
    " before, as many for each partition, each answered by a command; the longest time, from the control's append to half a second"
    " after the last command, in which some partition gave no such answer. Usual: the same in the seconds before. Worst answer: from"
    " the append of such an event to its command, in that time. Rounds: the first meets a broker that has just been started, and is"
    " given apart; the figures are of the rounds after it: the median of the times, the longest of the stalls and answers."
)


class Revocation(msgspec.Struct, frozen=True):
    """Milliseconds, but for the counts."""

    sessions: int
    all_visible: float
    longest_stall: float
    usual_stall: float
    worst_answer: float
    answers: int


def measure(
    connection: Connection, sessions: int, closed: float, directory: Path, *, rounds: int = 1, processes: int = 1
) -> list[Revocation]:
    """`closed` events a second over all partitions. Each round revokes as many sessions, all of them new. The worker has so
    many `processes`.
    """  # fmt: skip
    with Stage(connection, directory, POLICY, "revoke") as stage, Observer(connection, stage.topics) as observer:
        worker = stage.worker("worker", "--processes", str(processes))
        stage.ready(observer, worker)
        found, made = [], 0
        for number in range(rounds):
            stage.preload(sessions, sessions, number * sessions)
            stage.drain(worker, stage.ends())
            load = stage.load(f"load-{number}", sessions=1, rate=0, closed=closed, made=made)
            time.sleep(1.0)
            found.append(_revoke(stage, observer, sessions))
            made += stage.reached(load).closed
            worker.require()
        return found


def _revoke(stage: Stage, observer: Observer, sessions: int) -> Revocation:
    seen, begin = observer.count(), time.time() * 1000
    time.sleep(BEFORE)
    usual = observer.count()
    order = f"bench-{secrets.token_hex(8)}"
    control = Control(-1, 0, ControlType.REVOKE, order, Target(all=True), "bench", "session-monitor bench")
    _, value, headers = encode_control(control, time.time_ns() // 1_000_000)
    write_control(stage.connection, stage.topics, order, value, headers)
    observer.until(lambda: observer.count() - usual >= sessions, 120.0, f"{sessions} commands")
    # Among them are answers to events, and revocations of sessions that have been closed.
    observer.until(lambda: observer.begins(usual, _REVOKED) >= sessions, 120.0, f"{sessions} revocations", every=0.25)
    time.sleep(AFTER)
    appended = next(
        stored.appended for stored in read_controls(stage.connection, stage.topics) if stored.key == order.encode()
    )
    return account(observer.commands()[seen:], sessions, appended, begin, stage.topics.partitions)


def warm(found: list[Revocation]) -> Revocation:
    """The rounds after the first, if there are any: the median of each time, the longest of the stalls. Pure."""
    later = found[1:] or found
    return Revocation(
        later[0].sessions, median(one.all_visible for one in later), max(one.longest_stall for one in later),
        median(one.usual_stall for one in later), max(one.worst_answer for one in later), sum(one.answers for one in later),
    )  # fmt: skip


def account(seen: list[Sighting], sessions: int, appended: float, begin: float, partitions: int) -> Revocation:
    """What was seen, accounted for. Pure. Raises AbsenceError where a session has no command, or a partition no answer."""
    ended: dict[str, float] = {}
    answers: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for partition, at, _, command in seen:
        if command.type == "session.revoke" and command.session_id.startswith("s-"):
            ended.setdefault(command.session_id, at)
        elif command.reason == "closed":
            answers[partition].append((at, float(command.log_time)))
    if len(ended) < sessions:
        raise AbsenceError(f"{len(ended)} of {sessions} sessions were revoked")
    last = max(ended.values())
    end = last + 500
    if missing := [number for number in range(partitions) if not answers[number]]:
        raise AbsenceError(f"no answers came on partitions {missing}: the stream of events is too thin")
    times = [[at for at, _ in answers[number]] for number in range(partitions)]
    within = [(at, decided) for found in answers.values() for at, decided in found if appended < at < end]
    return Revocation(
        len(ended), round(last - appended, 1),
        round(max(longest_gap(one, appended, end) for one in times), 1),
        round(max(longest_gap(one, begin, appended) for one in times), 1),
        round(max((at - decided for at, decided in within), default=end - appended), 1), len(within),
    )  # fmt: skip
