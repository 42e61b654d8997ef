"""Whether a session meets conditions, for all entries of a policy at once.

Every entry (rule or exception) is one bit. An `Axis` turns the value of one attribute into the mask of the
entries whose condition on it is met; the entries that match a session are the masks of all axes, and-ed.
Masks are remembered by value, so that in the common case a look-up per attribute is all that is done.

What is not known meets every condition of a rule and none of an exception: a rule is read in its strictest
way, and a limit is never lengthened by ignorance. A classification that is not in the list is not known
either, so it meets conditions in the same way (its rank is above the highest all the same).
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Any, Final, TypeAlias

from monitor.core.when import When
from monitor.policy.rules import Origin, Rule

Test: TypeAlias = Callable[[Any], bool]
"""Whether a known value meets one condition."""

MEMORY: Final = 65_536
"""Values remembered per axis: more (routes, subjects) are forgotten all at once and computed again."""


def _any_of(words: Sequence[str]) -> Test:
    return frozenset(words).__contains__


def _overlaps(words: Sequence[str]) -> Test:
    wanted = frozenset(words)
    return lambda value: not wanted.isdisjoint(value)


def globs(patterns: Sequence[str]) -> Test:
    """`*` is any text (slashes too), `?` one character, `[...]` a set; upper and lower case differ."""
    match = re.compile("|".join(translate(pattern) for pattern in patterns)).match
    return lambda value: match(str(value)) is not None


def _test(when: When, attribute: str, classifications: Sequence[str]) -> Test | None:
    """The condition on one attribute, or None where there is none."""
    if attribute == "classification":
        if when.at_least is not None:
            return _any_of(classifications[classifications.index(when.at_least) :])
        return None if when.classification is None else _any_of(when.classification)
    wanted = getattr(when, attribute)
    if wanted is None:
        return None
    if attribute == "principal":
        return _any_of((wanted,))
    if attribute == "roles":
        return _overlaps(wanted)
    return globs(wanted) if attribute in {"route", "subject"} else _any_of(wanted)


class Axis(dict[object, int]):
    """Value of one attribute -> the mask of the entries whose condition on it is met."""

    __slots__ = ("_all", "_known", "_tests", "_unknown", "attribute", "used")

    def __init__(
        self, attribute: str, entries: Sequence[Rule], classifications: Sequence[str], *, loosest: bool = False
    ) -> None:
        """`entries[n]` is bit n. `loosest`: what is not known meets every condition of an exception and none of a rule."""
        super().__init__()
        self.attribute = attribute
        self._all = (1 << len(entries)) - 1
        self._known = frozenset(classifications) if attribute == "classification" else None
        self._tests: list[tuple[int, Test]] = []
        self._unknown = self._all
        for place, entry in enumerate(entries):
            test = _test(entry.when, attribute, classifications)
            if test is not None:
                self._tests.append((1 << place, test))
                if (entry.origin is Origin.EXCEPTION) is not loosest:
                    self._unknown &= ~(1 << place)
        self.used = bool(self._tests)
        """Whether any entry has a condition on this attribute."""

    def __missing__(self, value: object) -> int:
        """Compute, and remember within bounds."""
        if not value or (self._known is not None and value not in self._known):
            mask = self._unknown
        else:
            mask = self._all
            for bit, test in self._tests:
                if not test(value):
                    mask &= ~bit
        if len(self) >= MEMORY:
            self.clear()
        self[value] = mask
        return mask
