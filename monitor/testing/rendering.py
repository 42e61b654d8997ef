"""Renders the parts of a history (`monitor.testing.strategies`): wire records, core events, policy texts."""

from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from monitor.core.events import ACTIVITY_KINDS, ActivityKind, Event, EventType, Principal
from monitor.core.instants import NEVER as NO_LIMIT
from monitor.policy import version_of

Step: TypeAlias = dict[str, Any]
"""One record: `at` (append time), `kind` (`event`, `tick`, `alive`) and its fields. Absent means absent."""

NEVER: Final = NO_LIMIT
"""The limit `none`."""


def instant_text(millis: int) -> str:
    """RFC 3339, UTC, milliseconds: exact."""
    second, rest = divmod(millis, 1000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def record_json(step: Step) -> dict[str, Any]:
    """The record of `access-events` as it stands on the wire, before it becomes bytes."""
    if step["kind"] == "tick":
        return {"type": "monitor.tick", "owner": "property", "controls_to": step["controls_to"]}
    if step["kind"] == "alive":
        alive = {"type": "source.alive", "source": step["source"], "time": instant_text(step["time"])}
        return alive | ({"final": True} if step["final"] else {})
    found = {name: word for name, word in step.items() if name not in {"kind", "at", "auth_second"}}
    for name in ("time", "auth_time", "expires"):
        if name in found:
            found[name] = instant_text(found[name])
    if "auth_second" in step:
        found["auth_time"] = step["auth_second"]
    return found


def control_json(control: Step) -> dict[str, Any]:
    """The record of `session-control` as it stands on the wire; a policy is its text."""
    found = {name: word for name, word in control.items() if name not in {"at", "policy"}}
    found |= {"by": "property", "time": instant_text(control["at"])}
    for name in ("before", "expires"):
        if name in found:
            found[name] = instant_text(found[name])
    if "policy" in control:
        text = policy_text(control["policy"])
        found |= {"policy_text": text, "policy_version": version_of(text)}
    return found


def event_of(step: Step) -> Event:
    """The core event of an `event` step, as decoding its wire record would give it."""
    words = {
        name: step.get(name)
        for name in (
            "subject",
            "classification",
            "workload",
            "route",
            "tenant",
            "client_ip",
            "acr",
            "expires",
            "source",
        )
    }
    principal = Principal(step["principal"]) if "principal" in step else None
    return Event(
        type=EventType(step["type"]),
        session_id=step["session_id"],
        time=min(step.get("time", step["at"]), step["at"]),
        appended=step["at"],
        activity=ACTIVITY_KINDS.get(step["activity"], ActivityKind.KEEPALIVE) if "activity" in step else None,
        principal=principal,
        roles=tuple(sorted(step["roles"])) if "roles" in step else None,
        auth_time=step["auth_second"] * 1000 + 999 if "auth_second" in step else step.get("auth_time"),
        **words,
    )


def policy_text(policy: dict[str, Any]) -> str:
    """The policy as people write it: YAML."""

    def duration(millis: int) -> str:
        return "none" if millis >= NEVER else f"{millis // 1000}s" if millis % 1000 == 0 else f"{millis}ms"

    def flow(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name}: {flow(inner)}" for name, inner in value.items()) + "}"
        if isinstance(value, list | tuple):
            return "[" + ", ".join(flow(inner) for inner in value) + "]"
        return f'"{value}"' if "*" in str(value) else str(value)

    def limits(rule: dict[str, Any]) -> dict[str, Any]:
        return {kind: duration(rule[kind]) for kind in ("idle", "absolute") if kind in rule}

    warn_before = [duration(lead) for lead in policy["defaults"]["warn_before"]]
    lines = [
        "version: 1",
        f"classifications: {flow(policy['classifications'])}",
        f"timing: {flow({name: duration(millis) for name, millis in policy['timing'].items()})}",
        f"defaults: {flow(limits(policy['defaults']) | {'warn_before': warn_before})}",
    ]
    if policy["rules"]:
        lines.append("rules:")
    for rule in policy["rules"]:
        words: dict[str, Any] = {"name": rule["name"], "when": rule["when"], **limits(rule)}
        if "counts" in rule:
            words["idle_counts"] = rule["counts"]
        if "acr_values" in rule:
            words["reauth"] = {"acr_values": rule["acr_values"]}
        if "enforce" in rule:
            words["enforce"] = rule["enforce"]
        lines.append(f"  - {flow(words)}")
    if policy["exceptions"]:
        lines.append("exceptions:")
    for exception in policy["exceptions"]:
        until = datetime.fromtimestamp(exception["until"] // 1000, UTC).strftime("%Y-%m-%d")
        words = {"name": exception["name"], "when": exception["when"], **limits(exception), "until": until}
        lines.append(f"  - {flow(words | {'reason': 'a property', 'approved_by': 'carol'})}")
    return "\n".join(lines) + "\n"
