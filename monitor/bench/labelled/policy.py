"""The policy that the traffic lives under. People have 30 minutes and 12 hours; programs other limits."""

from typing import Final

from monitor.core.events import Attributes
from monitor.core.plan import Plan
from monitor.policy import CompiledPolicy, compile_policy

TEXT: Final = """
version: 1
classifications: [public, internal, confidential, restricted]
defaults: {idle: 12h, absolute: 24h}
rules:
  - {name: people, when: {principal: user}, idle: 30m, absolute: 12h}
  - {name: people-restricted, when: {principal: user, classification: {at_least: restricted}}, idle: 15m, absolute: 8h}
  - {name: privileged, when: {roles: [admin]}, idle: 15m, concurrent: 3}
  - {name: services, when: {principal: service, workload: [inference]}, idle: 30m}
  - {name: agents, when: {workload: [agent-run]}, idle: 30m}
  - {name: batch, when: {workload: [batch]}, idle: 2h}
"""


class Limits:
    """Plans by what this policy asks for, remembered: most sessions differ in their subject and address alone."""

    def __init__(self) -> None:
        """Compile the policy."""
        self.policy: CompiledPolicy = compile_policy(TEXT)
        self._plans: dict[tuple[object, ...], Plan] = {}

    def of(self, attributes: Attributes) -> Plan:
        """The plan for these attributes, at any instant: the policy has no exceptions."""
        asked = attributes.principal, attributes.roles, attributes.classification, attributes.workload
        plan = self._plans.get(asked)
        if plan is None:
            plan = self._plans[asked] = self.policy.plan(attributes, 0)
        return plan
