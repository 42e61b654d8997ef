"""What must be true of the topics after a run, whatever happened in it."""

import json
from collections import defaultdict
from typing import Any

from monitor.core.commands import STRENGTH, CommandType
from monitor.verify import verify
from monitor.worker.state import POSITION_PREFIX
from tests.kafka.plain import millis
from tests.kafka.verifier import LIMITS, judge
from tests.simulation.cluster import BASE
from tests.simulation.scenario import MODELS, Run
from tests.verify.memory import MemoryLog


def wrongs(run: Run) -> list[str]:
    """Every promise that was broken; empty where all held."""
    wrong = [f"{name} failed: {failure!r}" for name, failure in run.failures]
    findings = judge(run.read, MODELS)
    wrong += findings.wrong
    wrong += [repr(violation) for violation in verify(_as_topics(run), run.topics).violations]
    wrong += _dead_letters(run)
    wrong += _watermarks(run)
    wrong += _compacted(run)
    wrong += _bounds(run)
    wrong += _told(run)
    if not run.plan.faults and not run.plan.trouble:
        wrong += _promptness(run)
    return wrong


def _as_topics(run: Run) -> MemoryLog:
    """What `session-monitor verify` would read, whole."""
    log = MemoryLog(run.topics)
    for topic in run.topics.all():
        for record in run.read(topic.name):
            log.append(topic.name, record.partition, record.timestamp, record.key, record.value, record.headers, record.offset)
    return log


def _commands(run: Run) -> dict[int, list[tuple[Any, dict[str, Any]]]]:
    found: dict[int, list[tuple[Any, dict[str, Any]]]] = defaultdict(list)
    for record in run.read(run.topics.session_commands.name):
        if record.value is not None:
            found[record.partition].append((record, json.loads(record.value)))
    return found


def _dead_letters(run: Run) -> list[str]:
    """I6: every bad record is there, as it came."""
    letters = {record.value for record in run.read(run.topics.dead_letters.name)}
    bad = [r for r in run.read(run.topics.access_events.name) if r.value is not None and not _is_json(r.value)]
    return [f"no dead letter of {r.value!r} at {r.partition}/{r.offset}" for r in bad if r.value not in letters]


def _is_json(value: bytes) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


def _watermarks(run: Run) -> list[str]:
    """Every partition has come to the end."""
    wrong = []
    for partition, log in _commands(run).items():
        last = max((millis(said["log_time"]) for _, said in log if said["type"] == "monitor.watermark"), default=0)
        if BASE + run.world.now - last > 3000:
            wrong.append(f"partition {partition}: its log time stands at {last - BASE} of {run.world.now}")
    return wrong


def _compacted(run: Run) -> list[str]:
    """I5: who reads the topic as compaction has left it finds of each session the strongest that ever was."""
    wrong = []
    strongest: dict[str, tuple[int, int]] = {}
    for log in _commands(run).values():
        for _, said in log:
            if said["type"] in set(CommandType) - {CommandType.WARN}:
                rank = (said["epoch"], STRENGTH[CommandType(said["type"])])
                strongest[said["session_id"]] = max(rank, strongest.get(said["session_id"], rank))
    last: dict[bytes, Any] = {}
    for (topic, _), log in run.cluster.logs.items():
        if topic == run.topics.session_commands.name:
            last |= {record.key: record.value for record in log if record.key and not record.key.startswith(b"~")}
    for session_id, rank in strongest.items():
        value = last.get(session_id.encode())
        said = json.loads(value) if value else {"epoch": -1, "type": "session.reinstate"}
        if (said["epoch"], STRENGTH[CommandType(said["type"])]) < rank:
            wrong.append(f"the last record of {session_id} is weaker than {rank}: {said}")
    return wrong


def _told(run: Run) -> list[str]:
    """What was ordered was told as well."""
    told = {json.loads(record.value).get("command_id") for record in run.read(run.topics.session_lifecycle.name) if record.value}
    ordered = {said["id"]: said for log in _commands(run).values() for _, said in log if said["type"] in set(CommandType)}
    return [f"nothing on session-lifecycle speaks of {said}" for id_, said in ordered.items() if id_ not in told]


def _bounds(run: Run) -> list[str]:
    """I8: nothing piles up."""
    wrong = [f"{run.pending} records were never acknowledged"] if run.pending > 20 else []
    for (topic, partition), log in run.cluster.logs.items():
        if topic == run.topics.changelog.name:
            live = {record.key: record.value for record in log}
            positions = [key for key, value in live.items() if key.startswith(POSITION_PREFIX) and value is not None]
            if len(positions) > 3:
                wrong.append(f"changelog {partition} keeps {len(positions)} positions")
    return wrong


def _promptness(run: Run) -> list[str]:
    """I1: without faults a command is on the topic one tick and two round trips after it was due."""
    late = []
    for log in _commands(run).values():
        for record, said in log:
            if said["type"] == "session.expire" and said["reason"] in LIMITS:
                took = record.timestamp - millis(said["due"])
                if took > 50 + 2 * 16:  # a request takes 8 ms at most, and so does its answer
                    late.append(f"{said} came {took} ms after it was due")
    return late
