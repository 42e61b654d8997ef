"""The policy: from one YAML file to the plan of every session."""

from monitor.policy.compiled import CompiledPolicy, compile_policy, version_of
from monitor.policy.findings import Finding, PolicyError, Severity

__all__ = ["CompiledPolicy", "Finding", "PolicyError", "Severity", "compile_policy", "version_of"]
