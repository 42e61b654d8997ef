"""The loosest plan that any session of a population can have: what an auditor asks for.

Exact, not sampled. Where nothing but the population is fixed, the value of an open attribute that meets no
condition is the loosest for all rules at once; what remains are the words of the classification list and
the kinds of principal. An exception replaces the limit where it is longer, so the longest exception that
some session of the population may come under is a limit of its own.
"""

from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import Final

import msgspec

from monitor.core.events import Attributes, Principal
from monitor.core.instants import LogMillis
from monitor.core.plan import Limit, LimitKind, Plan
from monitor.policy.combine import asked
from monitor.policy.compiled import CompiledPolicy
from monitor.policy.rules import Rule

PRIVILEGED: Final = ("admin", "administrator", "operator", "root", "superuser")
"""The usual names of privileged roles."""

_OTHER: Final = "~other"
"""A word that no policy speaks of: roles, workload, subject and tenant that meet no condition but `*`."""


class Population(msgspec.Struct, frozen=True):
    """The sessions that a clause speaks of."""

    name: str
    principals: tuple[Principal, ...] = tuple(Principal)
    roles: tuple[str, ...] = ()
    """At least one of these; empty: any."""
    workload: str = _OTHER


EVERYONE: Final = Population("all sessions")
USERS: Final = Population("user sessions", (Principal.USER,))
CONSOLES: Final = Population("console sessions of users", (Principal.USER,), workload="console")


def privileged(roles: tuple[str, ...]) -> Population:
    """The sessions of people in any of these roles."""
    return Population(f"privileged sessions ({', '.join(roles)})", (Principal.USER,), roles)


class Loosest(msgspec.Struct, frozen=True):
    """The bounds that every session of a population stays within."""

    idle: Limit
    absolute: Limit
    counts: int
    """The mask of the activity kinds that reset the idle clock of some session."""
    concurrent: int | None
    """None: some session has no limit."""
    ends_excess: bool
    """Whether more sessions than `concurrent` are ended in every case, not only told of."""
    acr_always: bool
    """Whether every re-authentication must bring an acr that the policy names."""


def loosest(policy: CompiledPolicy, population: Population, at: LogMillis) -> Loosest:
    """The loosest plan at this instant, member by member; rules on trial do not count."""
    plans = [policy.plan(attributes, at) for attributes in _barest(policy, population)]
    concurrents = [plan.concurrent for plan in plans]
    limited = [number for number in concurrents if number is not None]
    return Loosest(
        idle=_longest(policy, population, LimitKind.IDLE, plans, at),
        absolute=_longest(policy, population, LimitKind.ABSOLUTE, plans, at),
        counts=reduce(or_, (plan.counts for plan in plans)),
        concurrent=max(limited) if len(limited) == len(plans) else None,
        ends_excess=all(plan.on_exceed != "alert" for plan in plans),
        acr_always=all(plan.acr_values for plan in plans),
    )


def _barest(policy: CompiledPolicy, population: Population) -> Iterator[Attributes]:
    """The sessions that meet as few rules as any of the population can."""
    for classification in policy.classifications:
        for principal in population.principals:
            for role in population.roles or (_OTHER,):
                yield Attributes(
                    subject=_OTHER,
                    principal=principal,
                    roles=(role,),
                    classification=classification,
                    workload=population.workload,
                    route="/" + _OTHER,
                    tenant=_OTHER,
                )


def _longest(
    policy: CompiledPolicy, population: Population, kind: LimitKind, plans: list[Plan], at: LogMillis
) -> Limit:
    limits = [plan.idle if kind is LimitKind.IDLE else plan.absolute for plan in plans]
    limits += [
        Limit(ms, exception.name)
        for exception in policy.exceptions
        if at < exception.until
        and _may_concern(exception, population)
        and (ms := asked(exception, kind)) is not None
    ]
    return max(limits, key=lambda limit: limit.ms)


def _may_concern(exception: Rule, population: Population) -> bool:
    """Whether some session of the population comes under it: it may have any number of roles."""
    return exception.when.principal is None or exception.when.principal in population.principals
