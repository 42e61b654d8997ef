"""A plan in words: the limits, and why they are what they are."""

import msgspec

from monitor.core.events import ActivityKind
from monitor.core.instants import NEVER
from monitor.core.plan import Because, Limit, LimitKind, Plan
from monitor.policy.durations import format_duration


class Line(msgspec.Struct, frozen=True):
    """One line of an explanation."""

    what: str
    value: str
    by: str
    note: str = ""


def explain(plan: Plan) -> tuple[Line, ...]:
    """The because-chain, limit by limit in the order of the rules, and then all else that the plan asks for."""
    lines = [
        Line(link.limit.value, format_duration(link.ms), _by(link), _note(link, plan))
        for link in _chain(plan)
    ]
    for what, limit in (("idle", plan.observed_idle), ("absolute", plan.observed_absolute)):
        if limit.ms < NEVER:
            lines.append(
                Line(f"observed {what}", format_duration(limit.ms), limit.rule, "recorded, not commanded")
            )
    counts = ", ".join(kind.name.lower() for kind in ActivityKind if plan.counts & kind) or "nothing"
    lines.append(Line("idle_counts", counts, "", "activity that resets the idle clock"))
    if plan.warn_before:
        lines.append(Line("warn_before", ", ".join(format_duration(lead) for lead in plan.warn_before), ""))
    if plan.acr_values:
        lines.append(Line("reauth acr_values", ", ".join(plan.acr_values), ""))
    if plan.max_age is not None:
        lines.append(Line("reauth max_age", format_duration(plan.max_age), ""))
    if plan.concurrent is not None:
        lines.append(Line("concurrent", str(plan.concurrent), "", f"on_exceed: {plan.on_exceed}"))
    lines.append(Line("source_grace", format_duration(plan.source_grace), ""))
    return tuple(lines)


def _chain(plan: Plan) -> list[Because]:
    return [link for kind in LimitKind for link in plan.chain if link.limit is kind]


def _by(link: Because) -> str:
    return link.rule if link.origin in {"defaults", "rule"} else f"{link.rule} ({link.origin})"


def _note(link: Because, plan: Plan) -> str:
    if link.won:
        return "wins"
    if link.observe:
        limit: Limit = plan.observed_idle if link.limit is LimitKind.IDLE else plan.observed_absolute
        return "on trial" if limit.rule == link.rule else "on trial; not the shortest"
    return ""
