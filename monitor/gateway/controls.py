"""Locks and revocations as they stand, found by the facts of a request: a look-up for each member in use.

Each control stands under its most selective member. A request is looked up under its own subject, session id and so
on, so a thousand locks on subjects cost a request one look into a dict.
"""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

import msgspec

from monitor.core.controls import Control, ControlType, Target
from monitor.core.instants import LogMillis, Millis
from monitor.gateway.facts import Facts

_MEMBERS: Final = ("session_id", "subject", "client_ip", "tenant", "role", "workload", "classification")
"""The most selective first."""


class Bucket(msgspec.Struct, frozen=True):
    """The controls under one value of one member."""

    locks: tuple[Control, ...] = ()
    revocations: tuple[Control, ...] = ()
    latest: Millis = -1
    """The latest cut-off of all of them: who authenticated after it is met by none."""

    def concerns(self, auth_time: Millis | None) -> bool:
        """Whether one of them may meet somebody who authenticated then."""
        return bool(self.locks) or (auth_time is not None and auth_time < self.latest)


class ControlIndex:
    """What stands, indexed. Immutable: a change makes a new one, in O(controls)."""

    def __init__(self, controls: Iterable[Control] = ()) -> None:
        """Of the controls only locks and revocations count."""
        by_member: dict[str, dict[str, list[Control]]] = {}
        everyone: list[Control] = []
        for control in controls:
            member, value = _most_selective(control.target)
            place = everyone if not member else by_member.setdefault(member, {}).setdefault(value, [])
            place.append(control)
        self._roles = {value: _bucket(found) for value, found in by_member.pop("role", {}).items()}
        self._everyone = [_bucket(everyone)] if everyone else []
        self.tables: Final[tuple[tuple[Callable[[Facts], object], dict[object, Bucket]], ...]] = tuple(
            (attrgetter(name), {value: _bucket(found) for value, found in table.items()}) for name, table in by_member.items()
        )
        """For each member in use but the role: how to get at the fact, and the buckets by its value."""
        self.broad: Final = bool(self._roles or self._everyone)
        """Some control stands under a role, or means everybody."""

    def may_meet(self, facts: Facts) -> bool:
        """Whether a closer look is worth it: a revocation of everybody costs those who came after it one comparison."""
        auth_time = facts.auth_time
        for fact, table in self.tables:
            bucket = table.get(fact(facts))
            if bucket is not None and bucket.concerns(auth_time):
                return True
        if self._roles and facts.roles:
            for role in facts.roles:
                bucket = self._roles.get(role)
                if bucket is not None and bucket.concerns(auth_time):
                    return True
        return any(bucket.concerns(auth_time) for bucket in self._everyone)

    def about(self, facts: Facts) -> list[Bucket]:
        """The buckets in which there may be a control that meets these facts. Costs a look-up a member in use."""
        found = [bucket for fact, table in self.tables if (bucket := table.get(fact(facts))) is not None]
        found += [bucket for role in facts.roles or () if (bucket := self._roles.get(role)) is not None]
        return found + self._everyone


def lock_in(buckets: Iterable[Bucket], facts: Facts, log_time: LogMillis) -> Control | None:
    """The lock in force that meets these facts: of several the earliest."""
    locks = (
        lock for bucket in buckets for lock in bucket.locks if log_time <= lock.expires and meets(lock.target, facts)
    )
    return min(locks, key=lambda lock: lock.offset, default=None)


def revocation_in(
    buckets: Iterable[Bucket], facts: Facts, auth_time: Millis, log_time: LogMillis, lifetime: Millis
) -> Control | None:
    """The standing revocation with a cut-off after `auth_time` that meets these facts: of several the latest cut-off."""
    revocations = (
        one
        for bucket in buckets
        if auth_time < bucket.latest
        for one in bucket.revocations
        if auth_time < one.cutoff and log_time <= one.appended + lifetime and meets(one.target, facts)
    )
    return max(revocations, key=lambda one: (one.cutoff, one.offset), default=None)


def meets(target: Target, facts: Facts) -> bool:
    """Whether every member of the target is met. A fact that is not known meets none."""
    return (
        (target.session_id is None or target.session_id == facts.session_id)
        and (target.subject is None or target.subject == facts.subject)
        and (target.role is None or (facts.roles is not None and target.role in facts.roles))
        and (target.tenant is None or target.tenant == facts.tenant)
        and (target.classification is None or target.classification == facts.classification)
        and (target.workload is None or target.workload == facts.workload)
        and (target.client_ip is None or target.client_ip == facts.client_ip)
    )


def _most_selective(target: Target) -> tuple[str, str]:
    for name in _MEMBERS:
        value: str | None = getattr(target, name)
        if value is not None:
            return name, value
    return "", ""


def _bucket(controls: list[Control]) -> Bucket:
    revocations = tuple(control for control in controls if control.type is ControlType.REVOKE)
    return Bucket(
        tuple(control for control in controls if control.type is ControlType.LOCK),
        revocations,
        max((one.cutoff for one in revocations), default=-1),
    )
