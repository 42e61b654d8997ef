"""The compiled policy, as the model asks for it."""

from typing import Any

import msgspec

from monitor.core.events import ActivityKind, Attributes
from monitor.core.plan import Plan
from monitor.policy import CompiledPolicy, compile_policy

_NAMES = ("subject", "tenant", "principal", "roles", "classification", "workload", "route", "client_ip")
_COUNTING = (ActivityKind.HUMAN, ActivityKind.AGENT, ActivityKind.INFLIGHT)


def policy_of(text: str) -> dict[str, Any]:
    """The model's form of a policy text. Raises PolicyError."""
    compiled = compile_policy(text)
    return {"timing": msgspec.structs.asdict(compiled.timing), "compiled": compiled}


class CompiledPlans:
    """Makes the model's plans; remembers each that it made."""

    def __init__(self) -> None:
        """Nothing is remembered yet."""
        self._made: dict[Plan, dict[str, Any]] = {}

    def make_plan(self, policy: dict[str, Any], attributes: dict[str, Any], at: int) -> dict[str, Any]:
        """The limits that the policy gives to these attributes at this instant."""
        compiled: CompiledPolicy = policy["compiled"]
        known = {name: attributes[name] for name in _NAMES if attributes.get(name) is not None}
        plan = compiled.plan(Attributes(**known), at)
        if plan not in self._made:
            limits = {
                name: (limit.ms, limit.rule)
                for name in ("idle", "absolute", "observed_idle", "observed_absolute")
                for limit in (getattr(plan, name),)
            }
            self._made[plan] = limits | {
                "until": plan.valid_until, "acr_values": plan.acr_values, "warn_before": plan.warn_before,
                "counts": {kind.name.lower() for kind in _COUNTING if plan.counts & kind}, "source_grace": plan.source_grace,
            }  # fmt: skip
        return self._made[plan]

    def rank(self, policy: dict[str, Any], word: str | None) -> int:
        """The place of a classification."""
        compiled: CompiledPolicy = policy["compiled"]
        return compiled.rank(word)
