"""Reads the topics afterwards and accounts for every event and every deadline.

The judge is the naive model: it is given what stands on access-events and session-control, as the broker stamped
it, and says which commands must stand on session-commands. Nothing of the engine takes part.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from tests.kafka.plain import command_id, millis, read_all, rfc3339
from tests.model.naive import Partition

LIMITS = ("idle_timeout", "absolute_timeout")
ORDERS = ("session.expire", "session.revoke", "session.reinstate")


class Findings:
    """What the topics say, and what is wrong with it."""

    def __init__(self) -> None:
        self.commands = 0
        self.repeated = 0
        self.events = 0
        self.wrong: list[str] = []

    def __repr__(self) -> str:
        told = "\n  ".join(self.wrong[:30]) or "nothing is wrong"
        return f"{self.events} events, {self.commands} commands ({self.repeated} repeated): {told}"


def verify(bootstrap: str, prefix: str, policies: Mapping[str, dict[str, Any]]) -> Findings:
    """`policies` gives the model's form of each policy text."""
    return judge(lambda topic: read_all(bootstrap, f"{prefix}{topic}"), policies)


def judge(read: Callable[[str], list[Any]], policies: Mapping[str, dict[str, Any]]) -> Findings:
    """The same of topics that are read some other way: all records of one, partition by partition."""
    findings = Findings()
    controls = [_control(record, policies) for record in read("session-control")]
    events, commands = defaultdict(list), defaultdict(list)
    for record in read("access-events"):
        events[record.partition].append(record)
    topic = read("session-commands")
    for record in topic:
        if record.value and not record.key.startswith(b"~"):
            commands[record.partition].append(json.loads(record.value))
    _check_watermarks(topic, findings)
    counted = _counts(read, findings)
    for number, log in sorted(events.items()):
        model = _replay(log, controls, findings)
        expected = {command_id(_as_record(command)): command for command in model.commands}
        actual = Counter(command["id"] for command in commands[number])
        findings.commands += len(actual)
        findings.repeated += sum(actual.values()) - len(actual)
        for missing in expected.keys() - actual.keys():
            findings.wrong.append(f"partition {number}: missing {expected[missing]}")
        for extra in actual.keys() - expected.keys():
            said = next(command for command in commands[number] if command["id"] == extra)
            findings.wrong.append(f"partition {number}: never due {said}")
        _check_counts(log, model, counted, findings)
    _check_contradictions([command for number in commands for command in commands[number]], findings)
    return findings


def _replay(log: list[Any], controls: list[dict[str, Any]], findings: Findings) -> Partition:
    model = Partition(controls[0]["policy"], controls)
    model.controls_to = 0
    for record in log:
        said = _event(record)
        findings.events += said["kind"] == "event"
        model.record(said)
    return model


def _event(record: Any) -> dict[str, Any]:
    at = record.timestamp
    try:
        said = json.loads(record.value)
    except ValueError:
        return {"kind": "tick", "at": at, "controls_to": -1}  # a bad record moves log time and does nothing else
    if said["type"] == "monitor.tick":
        return {"kind": "tick", "at": at, "controls_to": said["controls_to"]}
    if said["type"] == "source.alive":
        return {"kind": "alive", "at": at, "source": said["source"], "time": millis(said["time"]), "final": said.get("final")}
    for name in ("time", "auth_time", "expires"):
        if isinstance(said.get(name), str):
            said[name] = millis(said[name])
    return {"kind": "event", "at": at, **said}


def _control(record: Any, policies: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    said = json.loads(record.value)
    if said["type"] == "control.policy":
        said["policy"] = policies[said["policy_text"]]
    for name in ("before", "expires"):
        if isinstance(said.get(name), str):
            said[name] = millis(said[name])
    return {"target": {}, **said, "at": record.timestamp}


def _as_record(command: dict[str, Any]) -> dict[str, Any]:
    return command | {"effective_at": rfc3339(command["effective_at"])}


def _check_watermarks(topic: list[Any], findings: Findings) -> None:
    """When one says T, every command for a deadline at or before T stands before it."""
    decided: dict[int, int] = defaultdict(int)
    seen = set()
    for record in topic:
        said = json.loads(record.value) if record.value else {"type": ""}
        if said["type"] == "monitor.watermark":
            decided[record.partition] = max(decided[record.partition], millis(said["decided_to"]))
        elif said["type"] == "session.expire" and said["reason"] in LIMITS and said["id"] not in seen:
            seen.add(said["id"])
            if millis(said["effective_at"]) <= decided[record.partition]:
                findings.wrong.append(f"partition {record.partition}: behind a watermark that speaks for it came {said}")


def _check_contradictions(commands: list[dict[str, Any]], findings: Findings) -> None:
    ids = defaultdict(set)
    for command in commands:
        if command["type"] in ORDERS:
            ids[command["session_id"], command["epoch"], command["type"]].add(command["id"])
    findings.wrong.extend(f"contradiction: {what} has ids {found}" for what, found in ids.items() if len(found) > 1)


def _counts(read: Callable[[str], list[Any]], findings: Findings) -> dict[tuple[str, int], dict[str, Any]]:
    """(session, epoch) -> how it ended, by the first record that says so."""
    ends: dict[tuple[str, int], dict[str, Any]] = {}
    for record in read("session-lifecycle"):
        said = json.loads(record.value)
        if said["type"] in {"session.expired", "session.revoked", "session.closed"} and not said.get("observe"):
            place = (said["session_id"], said["epoch"])
            before = ends.setdefault(place, said)
            if before["counts"] != said["counts"] and before["type"] == said["type"]:
                findings.wrong.append(f"two accounts of {place}: {before['counts']} and {said['counts']}")
    return ends


def _check_counts(
    log: list[Any], model: Partition, counted: Mapping[tuple[str, int], dict[str, Any]], findings: Findings
) -> None:
    """Every accepted event is reflected once: the account at the first end is the number of events before it."""
    arrived = defaultdict(list)
    refused = set(model.dead_letters)
    for record in log:
        said = _event(record)
        if record.offset in refused or said["kind"] != "event":
            continue
        if said["type"] in {"session.opened", "session.activity", "session.reauthenticated"}:
            arrived[said["session_id"]].append(record.offset)
    for command in model.commands:
        if command["type"] == "session.reinstate" or command["epoch"]:
            continue
        account = counted.get((command["session_id"], 0))
        if account is None:
            findings.wrong.append(f"no lifecycle record of the end of {command['session_id']}")
            continue
        due = sum(offset <= account["src"]["offset"] for offset in arrived[command["session_id"]])
        if sum(account["counts"].values()) != due:
            findings.wrong.append(f"{command['session_id']}: {account['counts']} counted, {due} events arrived")
