"""Whether one condition is at least as wide as another: sure when it says yes, careful when it says no."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from monitor.core.when import When

_WILD = frozenset("*?[")


def covers(wide: When, narrow: When, classifications: Sequence[str]) -> bool:
    """Whether every session that meets `narrow` meets `wide` (both of rules; False where it can't be told)."""
    return (
        (wide.principal is None or wide.principal == narrow.principal)
        and all(
            _holds(getattr(wide, name), getattr(narrow, name), globs=name in {"route", "subject"})
            for name in ("roles", "workload", "route", "subject", "tenant")
        )
        and _words(wide, classifications) >= _words(narrow, classifications)
    )


def _words(when: When, classifications: Sequence[str]) -> frozenset[str]:
    if when.at_least is not None:
        return frozenset(classifications[classifications.index(when.at_least) :])
    return frozenset(classifications if when.classification is None else when.classification)


def _holds(wide: tuple[str, ...] | None, narrow: tuple[str, ...] | None, *, globs: bool) -> bool:
    """Whether each word of `narrow` is one of `wide`, or is met by a glob of it."""
    if wide is None:
        return True
    if narrow is None:
        return "*" in wide and globs
    return all(
        word in wide or (globs and not _WILD & set(word) and any(fnmatchcase(word, glob) for glob in wide))
        for word in narrow
    )
