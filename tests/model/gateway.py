"""The rules of a gateway as plain code on plain JSON, over the whole log each time. Imports nothing of the product.

`commands`: the records of a session's partition for that session, in order; None is a tombstone. `controls`: the
records of session-control as (append time, members). Instants are ms here, not text.
"""

from collections.abc import Sequence
from typing import Any

STRENGTH = {"session.reinstate": 0, "session.expire": 1, "session.revoke": 2}


def strongest(commands: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    found = None
    for command in commands:
        if command is None:
            found = None
        elif command["type"] != "session.warn" and (found is None or rank(command) > rank(found)):
            found = command
    return found


def rank(command: dict[str, Any]) -> tuple[Any, ...]:
    if command["type"] not in STRENGTH:
        return (command.get("epoch", float("inf")), 3)
    return command["epoch"], STRENGTH[command["type"]], not command["reauth"]["allowed"], command["cutoff"]


def met(target: dict[str, Any], facts: dict[str, Any]) -> bool:
    for member, value in target.items():
        if member == "role":
            if value not in (facts.get("roles") or ()):
                return False
        elif member != "all" and facts.get(member) != value:
            return False
    return True


def longest_absolute(policy: dict[str, Any], facts: dict[str, Any], now: int) -> int:
    limit = policy["defaults"]["absolute"]
    for rule in policy["rules"]:
        if all(known_to_match(name, values, facts, policy) for name, values in rule["when"].items()) and not rule.get("observe"):
            limit = min(limit, rule["absolute"])
    for exception in policy["exceptions"]:
        able = all(
            facts.get(name) is None or known_to_match(name, values, facts, policy)
            or (name == "classification" and facts[name] not in policy["classifications"])
            for name, values in exception["when"].items()
        )  # fmt: skip
        if able and now < exception["until"]:
            limit = max(limit, exception["absolute"])
    return limit


def known_to_match(name: str, values: list[str], facts: dict[str, Any], policy: dict[str, Any]) -> bool:
    value = facts.get(name)
    if value is None:
        return False
    return any(role in values for role in value) if name == "roles" else value in values


def decide(
    policy: dict[str, Any] | None, commands: Sequence[dict[str, Any] | None], controls: Sequence[tuple[int, dict[str, Any]]],
    facts: dict[str, Any], *, now: int, log_time: int, age: float, behind: bool, max_age: int,
) -> tuple[str, str]:  # fmt: skip
    """("admit" | "stale" | "refuse", reason)."""
    lifetime, lateness = (policy or {}).get("lifetime", 86_400_000), (policy or {}).get("lateness", 2000)
    start = facts.get("auth_time")
    end = start + 999 if start is not None and facts.get("whole_second") else start
    believed = start is not None and start <= now + lateness
    standing: dict[str, tuple[int, dict[str, Any]]] = {}
    for appended, control in controls:
        standing.pop(control["id"], None)
        if control["type"] != "control.unlock":
            standing[control["id"]] = appended, control
    for _, control in standing.values():
        if control["type"] == "control.lock" and log_time <= control["expires"] and met(control["target"], facts):
            return "refuse", "locked"
    cut = [
        (min(appended, control["before"]), appended, control)
        for appended, control in standing.values()
        if control["type"] == "control.revoke" and believed and met(control["target"], facts)
        if start < min(appended, control["before"]) and log_time <= appended + lifetime
    ]
    if cut:
        return "refuse", "admin_revoked"
    command = strongest(commands)
    if command is not None and command["type"] not in STRENGTH:
        return "refuse", "command_unknown"
    if command is not None and command["type"] == "session.reinstate":
        if end is not None and end <= command["cutoff"]:
            return "refuse", command["reason"]
    elif command is not None:
        asked = command["reauth"].get("acr_values", [])
        again = believed and end > command["cutoff"] and (not asked or facts.get("acr") in asked)
        if not (command["reauth"]["allowed"] and again):
            return "refuse", command["reason"]
    if policy is not None and end is not None and now >= end + longest_absolute(policy, facts, now):
        return "refuse", "absolute_timeout"
    if age > max_age or behind:
        known = policy is not None and facts.get("classification") in policy["classifications"][:-1]
        return ("stale", "") if known else ("refuse", "view_stale")
    return "admit", ""
