"""Whether a session is exempt: it meets a `When` only by what is known of it."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, TypeAlias

from monitor.core.events import Attributes
from monitor.policy.conditions import Test, globs
from monitor.policy.rules import When

Rank: TypeAlias = Callable[[str | None], int]
"""The place of a classification in the policy's ordered list: `CompiledPolicy.rank`."""

_compiled: Final[Callable[[tuple[str, ...]], Test]] = lru_cache(maxsize=1024)(globs)


def exempted(whens: Iterable[When], attributes: Attributes, rank: Rank) -> bool:
    """Whether any of them is met. Of none: no."""
    return any(meets(when, attributes, rank) for when in whens)


def meets(when: When, attributes: Attributes, rank: Rank) -> bool:
    """Whether all conditions that are given are met, each by a known value; a `When` without conditions meets everybody.

    Roles: any of them. Route and subject: globs, as the policy reads them. A classification that is not in the
    policy's list is not known.
    """
    word = attributes.classification
    # What is not in the list ranks above it, as the empty word does, which is no classification.
    known = word if word and rank(word) < rank("") else None
    return (
        (when.principal is None or attributes.principal == when.principal)
        and (when.roles is None or not set(when.roles).isdisjoint(attributes.roles))
        and _one_of(when.workload, attributes.workload)
        and _one_of(when.tenant, attributes.tenant)
        and _one_of(when.classification, known)
        and (when.at_least is None or (known is not None and rank(known) >= rank(when.at_least)))
        and _like(when.route, attributes.route)
        and _like(when.subject, attributes.subject)
    )


def _one_of(wanted: tuple[str, ...] | None, value: str | None) -> bool:
    return wanted is None or bool(value and value in wanted)


def _like(patterns: tuple[str, ...] | None, value: str | None) -> bool:
    return patterns is None or bool(value and _compiled(patterns)(value))
