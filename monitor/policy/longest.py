"""The longest absolute limit that a session may have of which only some facts are known: what a gateway can enforce.

A gateway sees a request, not the session. What it does not know must not end anybody, so here the unknown is read
the other way round than in a plan: it meets no rule, and it may meet any exception. The limit is never shorter than
that of the session's own plan, whatever the facts turn out to be.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from monitor.core.events import Principal
from monitor.core.instants import LogMillis, Millis
from monitor.core.plan import Limit
from monitor.policy.combine import combine
from monitor.policy.compiled import CompiledPolicy
from monitor.policy.conditions import MEMORY, Axis
from monitor.policy.rules import Origin


class Known(Protocol):
    """What is known of a session; None means: not known. No roles (`()`) is knowledge."""

    @property
    def subject(self) -> str | None:
        """Who."""

    @property
    def principal(self) -> Principal | None:
        """Person or program."""

    @property
    def roles(self) -> tuple[str, ...] | None:
        """All of them."""

    @property
    def classification(self) -> str | None:
        """A word that is not in the policy's list is as good as none."""

    @property
    def workload(self) -> str | None:
        """What it does."""

    @property
    def route(self) -> str | None:
        """Where to."""

    @property
    def tenant(self) -> str | None:
        """For whom."""


_ATTRIBUTES: Final = ("classification", "principal", "workload", "route", "subject", "tenant")


class LongestAbsolute:
    """The longest absolute limits under one policy. Rules on trial don't count."""

    def __init__(self, policy: CompiledPolicy) -> None:
        """O(rules); what `limit` finds is remembered, within bounds."""
        self._policy = policy
        self._entries = (*policy.rules, *policy.exceptions)
        axes = [Axis(name, self._entries, policy.classifications, loosest=True) for name in _ATTRIBUTES]
        self._axes = tuple((axis.attribute, axis) for axis in axes if axis.used)
        self._roles = _RoleAxis(policy)
        self._limits: dict[tuple[int, int], Limit] = {}
        self.shortest: Final[Millis] = min(
            entry.absolute
            for entry in (policy.defaults, *policy.rules)
            if entry.absolute is not None and not entry.observe
        )
        """No session has a shorter one: below it nothing need be looked up."""

    def limit(self, known: Known, at: LogMillis) -> Limit:
        """The limit at this instant, and the entry that gives it. `NEVER`: none."""
        mask = self._roles[known.roles]
        for attribute, axis in self._axes:
            mask &= axis[getattr(known, attribute)]
        key = mask, self._policy.period(at)
        limit = self._limits.get(key)
        if limit is None:
            if len(self._limits) >= MEMORY:
                self._limits.clear()
            limit = self._limits[key] = self._make(mask, at)
        return limit

    def _make(self, mask: int, at: LogMillis) -> Limit:
        met = [entry for n, entry in enumerate(self._entries) if mask >> n & 1 and entry.until > at]
        rules = [self._policy.defaults, *(entry for entry in met if entry.origin is not Origin.EXCEPTION)]
        exceptions = [entry for entry in met if entry.origin is Origin.EXCEPTION]
        return combine(self._policy.version, rules, exceptions, 0).absolute


class _RoleAxis:
    """The one attribute of which nothing at all (`()`) may be knowledge."""

    def __init__(self, policy: CompiledPolicy) -> None:
        entries = (*policy.rules, *policy.exceptions)
        self._axis: Mapping[object, int] = Axis("roles", entries, policy.classifications, loosest=True)
        without = (n for n, entry in enumerate(entries) if entry.when.roles is None)
        self._none = sum(1 << n for n in without)

    def __getitem__(self, roles: tuple[str, ...] | None) -> int:
        return self._none if roles == () else self._axis[roles]
