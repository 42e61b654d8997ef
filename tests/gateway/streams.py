"""Random logs as a gateway reads them, and the small policy that goes with them. Plain data, and records made of it."""

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from hypothesis import strategies as st

DAY = 86_400_000
T0 = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp()) * 1000
"""A midnight: exceptions end at one."""
SESSIONS = ("s-1", "s-2", "5a" * 32)
"""One is a hash in hex."""
INSTANTS = st.builds(lambda base, step, nudge: base + step * 1000 + nudge, st.sampled_from((T0 - 20_000, T0)), st.integers(0, 20), st.sampled_from((0, 0, 1, -1, 999)))
ABSOLUTE = (5000, 10_000, 15_000)

POLICY: dict[str, Any] = {
    "classifications": ["public", "internal", "restricted"],
    "lifetime": 20_000, "lateness": 2000,
    "defaults": {"absolute": 15_000},
    "rules": [
        {"name": "admins", "when": {"roles": ["admin"]}, "absolute": 5000},
        {"name": "secret", "when": {"classification": ["restricted"], "tenant": ["acme"]}, "absolute": 10_000},
        {"name": "trial", "when": {"workload": ["batch"]}, "absolute": 1000, "observe": True},
        {"name": "programs", "when": {"principal": ["service"]}, "absolute": 10_000},
    ],
    "exceptions": [
        {"name": "migration", "when": {"subject": ["bob"]}, "absolute": 30_000, "until": T0},
        {"name": "analysts", "when": {"roles": ["analyst"]}, "absolute": 20_000, "until": T0},
    ],
}  # fmt: skip


class Stored(NamedTuple):
    """A record as a client gives it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def rfc3339(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def policy_text(policy: dict[str, Any]) -> str:
    """The policy as YAML (JSON is YAML)."""
    def entry(one):
        said = {"name": one["name"], "absolute": f"{one['absolute']}ms", "when": one["when"]}
        said["when"] = {name: values[0] if name == "principal" else values for name, values in one["when"].items()}
        if one.get("observe"):
            said["enforce"] = "observe"
        if "until" in one:
            said |= {"until": rfc3339(one["until"])[:10], "reason": "r", "approved_by": "a"}
        return said

    return json.dumps({
        "version": 1, "classifications": policy["classifications"],
        "timing": {"lateness": f"{policy['lateness']}ms", "credential_lifetime": f"{policy['lifetime']}ms"},
        "defaults": {"idle": "1m", "absolute": f"{policy['defaults']['absolute']}ms"},
        "rules": [entry(rule) for rule in policy["rules"]],
        "exceptions": [entry(exception) for exception in policy["exceptions"]],
    })  # fmt: skip


def command_value(command: dict[str, Any] | None) -> bytes | None:
    """A command as it stands on the topic; None: a tombstone."""
    if command is None:
        return None
    said = dict(command)
    for name in ("effective_at", "cutoff"):
        if name in said:
            said[name] = rfc3339(said[name])
    return json.dumps(said).encode()


def control_value(control: dict[str, Any]) -> bytes:
    """A control as it stands on the topic."""
    said = control | {"reason": "r", "by": "b"}
    for name in ("before", "expires"):
        if name in said:
            said[name] = rfc3339(said[name])
    return json.dumps(said).encode()


@st.composite
def commands(draw, session_id: str) -> dict[str, Any]:
    """Any command of a session; one in nine of a type that a gateway doesn't know."""
    type_ = draw(st.sampled_from(("session.expire",) * 4 + ("session.reinstate",) * 2 + ("session.revoke", "session.pause", "session.warn")))
    at = draw(INSTANTS)
    said = {
        "type": type_, "id": "0" * 32, "session_id": session_id, "epoch": draw(st.integers(0, 3)), "effective_at": at,
        "reason": draw(st.sampled_from(("idle_timeout", "absolute_timeout", "closed", "by_dice"))),
        "cutoff": at - draw(st.sampled_from((0, 0, 3000))), "reauth": {"allowed": draw(st.booleans())},
    }  # fmt: skip
    if type_ == "session.revoke":
        said |= {"reason": "admin_revoked", "reauth": {"allowed": False}}
    elif said["reauth"]["allowed"] and draw(st.booleans()):
        said["reauth"]["acr_values"] = ["aal2"]
    return said


def monotone(commands: list[dict[str, Any] | None]) -> list[dict[str, Any] | None]:
    """Without warnings, and what would weaken something before it: as the monitor writes a session's key."""
    kept: list[dict[str, Any] | None] = []
    for command in commands:
        if command is not None and command["type"] == "session.warn":
            continue
        last = kept[-1] if kept else None
        if command is None or last is None or _order(command) > _order(last):
            kept.append(command)
    return kept


def _order(command):
    kinds = {"session.reinstate": 0, "session.expire": 1, "session.revoke": 2}
    return command["epoch"], kinds.get(command["type"], 3)


TARGETS = st.one_of(
    st.just({"all": True}),
    st.fixed_dictionaries({}, optional={
        "session_id": st.sampled_from(SESSIONS), "subject": st.sampled_from(("alice", "bob")), "role": st.sampled_from(("admin", "analyst")),
        "tenant": st.just("acme"), "classification": st.just("restricted"), "workload": st.just("batch"), "client_ip": st.just("10.0.0.1"),
    }).filter(bool),
)  # fmt: skip


@st.composite
def controls(draw) -> tuple[int, dict[str, Any]]:
    """Append time and members."""
    type_, appended = draw(st.sampled_from(("control.lock", "control.revoke", "control.unlock"))), draw(INSTANTS)
    said: dict[str, Any] = {"type": type_, "id": draw(st.sampled_from(("c-1", "c-2", "c-3")))}
    if type_ != "control.unlock":
        said["target"] = draw(TARGETS)
    if type_ == "control.lock":
        said["expires"] = draw(INSTANTS)
    if type_ == "control.revoke":
        said["before"] = draw(INSTANTS)
    return appended, said


FACTS = st.fixed_dictionaries(
    {"session_id": st.sampled_from(SESSIONS)},
    optional={
        "subject": st.sampled_from(("alice", "bob")), "principal": st.sampled_from(("user", "service")),
        "roles": st.sampled_from(((), ("admin",), ("analyst",), ("admin", "analyst"))), "tenant": st.sampled_from(("acme", "other")),
        "client_ip": st.sampled_from(("10.0.0.1", "10.0.0.2")), "classification": st.sampled_from(("public", "internal", "restricted", "odd")),
        "workload": st.sampled_from(("batch", "console")), "auth_time": INSTANTS, "whole_second": st.booleans(), "acr": st.sampled_from(("aal1", "aal2")),
    },
)  # fmt: skip
