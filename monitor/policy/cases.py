"""Cases: what a policy must say of given sessions, as a file that `policy test` runs.

    cases:
      - name: an analyst on restricted data
        at: 2026-11-23                      # optional; 00:00 UTC of that day
        given: {principal: user, roles: [analyst], classification: restricted}
        expect: {idle: 10m, absolute: 4h, idle_rule: restricted-data}

`given` holds any attributes; what is left out is not known. `expect` holds any members of the plan.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec
from ruamel.yaml.nodes import Node

from monitor.core.events import ActivityKind, Attributes, Principal
from monitor.core.instants import LogMillis, Millis
from monitor.core.plan import Plan
from monitor.policy.compiled import CompiledPolicy
from monitor.policy.document import compose, place
from monitor.policy.durations import format_duration
from monitor.policy.reader import Reader, each
from monitor.policy.rules import OnExceed

_GIVEN: Final = ("principal", "roles", "classification", "workload", "route", "subject", "tenant")
_LIMITS: Final = ("idle", "absolute", "observed_idle", "observed_absolute")
_RULES: Final = ("idle_rule", "absolute_rule")
_OTHERS: Final = (
    "rules", "warn_before", "idle_counts", "acr_values", "max_age", "concurrent", "on_exceed",
)  # fmt: skip
_MOST: Final = 1_000_000


class Case(msgspec.Struct, frozen=True):
    """One case: a session, and what its plan must be, member by member, as text."""

    name: str
    line: int
    given: Attributes
    expect: Mapping[str, str]
    at: LogMillis | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of a case: `failures` is empty where all is as expected."""

    case: Case
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all is as expected."""
        return not self.failures


def read_cases(text: str, name: str) -> tuple[Case, ...]:
    """The cases of a file. Raises PolicyError with everything that is wrong with it, and where."""
    reader = Reader(name)
    root = reader.mapping(compose(text, name), "the file", ("cases",), required=("cases",))
    cases = each(reader, root.get("cases"), "cases", partial(_case, reader))
    reader.finish()
    return tuple(cases)


def run_case(policy: CompiledPolicy, case: Case, now: LogMillis) -> Outcome:
    """Plan the session and compare. `now` is the instant of cases that name none."""
    at = now if case.at is None else case.at
    plan = policy.plan(case.given, at)
    said = _said(plan)
    said["rules"] = ", ".join(rule.name for rule in policy.matching(case.given, at)[1:]) or "none"
    return Outcome(
        case,
        tuple(
            f"{member}: expected {wanted}, but it is {said[member]}"
            for member, wanted in case.expect.items()
            if said[member] != wanted
        ),
    )


def _case(reader: Reader, node: Node) -> Case:
    found = reader.mapping(
        node, "a case", ("name", "at", "given", "expect"), required=("name", "given", "expect")
    )
    given: dict[str, Any] = {}
    if "given" in found:
        for key, value in reader.mapping(found["given"], "given", _GIVEN).items():
            if key == "roles":
                given[key] = tuple(sorted(set(reader.texts(value, "given.roles"))))
            elif key == "principal":
                word = reader.word(value, "given.principal", tuple(Principal))
                given[key] = Principal(word) if word in tuple(Principal) else None
            else:
                given[key] = reader.text(value, f"given.{key}")
    expect: dict[str, str] = {}
    if "expect" in found:
        known, errors = (*_LIMITS, *_RULES, *_OTHERS), len(reader.findings)
        for key, value in reader.mapping(found["expect"], "expect", known).items():
            expect[key] = _wanted(reader, key, value)
        if not expect and len(reader.findings) == errors:
            reader.wrong(found["expect"], "a case must expect something")
    return Case(
        reader.text(found["name"], "the name of a case") if "name" in found else "",
        place(node)[0],
        Attributes(**given),
        expect,
        reader.date(found["at"], "at") if "at" in found else None,
    )


def _wanted(reader: Reader, key: str, node: Node) -> str:
    """The expectation in the spelling of `_said`."""
    if key in _LIMITS:
        return format_duration(reader.duration(node, key, none=True))
    if key in _RULES:
        return reader.text(node, key)
    if key == "max_age":
        return format_duration(reader.duration(node, key, none=True))
    if key == "warn_before":
        return _leads(reader.durations(node, key))
    if key == "concurrent":
        return str(reader.whole(node, key, 1, _MOST))
    if key == "on_exceed":
        return reader.word(node, key, tuple(OnExceed))
    if key == "idle_counts":
        return ", ".join(sorted(reader.words(node, key, [kind.name.lower() for kind in ActivityKind])))
    return ", ".join(reader.texts(node, key))


def _leads(leads: tuple[Millis, ...]) -> str:
    return ", ".join(format_duration(lead) for lead in leads) or "none"


def _said(plan: Plan) -> dict[str, str]:
    return {
        "idle": format_duration(plan.idle.ms),
        "absolute": format_duration(plan.absolute.ms),
        "observed_idle": format_duration(plan.observed_idle.ms),
        "observed_absolute": format_duration(plan.observed_absolute.ms),
        "idle_rule": plan.idle.rule,
        "absolute_rule": plan.absolute.rule,
        "warn_before": _leads(plan.warn_before),
        "idle_counts": ", ".join(sorted(k.name.lower() for k in ActivityKind if plan.counts & k)) or "none",
        "acr_values": ", ".join(plan.acr_values) or "none",
        "max_age": format_duration(plan.max_age),
        "concurrent": "none" if plan.concurrent is None else str(plan.concurrent),
        "on_exceed": plan.on_exceed,
    }
