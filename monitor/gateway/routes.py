"""`Routes`: what is behind which path, as the operator says it. Pure.

    /v1/models/fraud*  classification=restricted workload=inference route=/v1/models/fraud
    /health            without-session=admit posture=best-effort

The first pattern that a path meets decides. Patterns are those of a policy's `route`: `*` is any text (slashes too), `?` one
character, `[...]` a set. A pattern that ends in `/*` meets the path before it as well, with and without a slash.

What no pattern meets is unknown, so strict. A path that can be read in several ways (see `paths`) counts where all of them lead to
the same route; else it is refused, or a client could choose its route by the spelling.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from monitor.core.errors import InputError
from monitor.gateway.facts import Posture, WithoutSession
from monitor.gateway.paths import readings
from monitor.policy.conditions import globs
from monitor.publish.draft import Kind
from monitor.wire.events import MAX_TEXT

KEYS: Final = ("classification", "workload", "route", "posture", "without-session", "activity")
ACTIVITIES: Final[tuple[Kind, ...]] = ("human", "agent", "keepalive")
REMEMBERED: Final = 4096
"""Paths whose route is remembered; with more they are forgotten all at once and looked for again."""
REMEMBERED_LENGTH: Final = 256

_EXAMPLE: Final = "'/v1/models/fraud* classification=restricted posture=strict'"


class Route(msgspec.Struct, frozen=True):
    """What is known of a request by its path. None: not known, or as elsewhere."""

    pattern: str = ""
    classification: str | None = None
    workload: str | None = None
    route: str | None = None
    posture: Posture | None = None
    without_session: WithoutSession | None = None
    activity: Kind | None = None


UNKNOWN: Final = Route()


class RouteRefused(msgspec.Struct, frozen=True):
    """The path leads to different routes, by who reads it. Holds nothing of what was sent."""

    detail: str


_AMBIGUOUS: Final = RouteRefused("the path can be read in several ways, which lead to different places")


class Routes:
    """The table. Thread-safe: what is remembered is put there whole."""

    def __init__(self, routes: Sequence[Route] = ()) -> None:
        """In this order. Raises InputError where a pattern stands there twice."""
        self.routes = tuple(routes)
        patterns = [route.pattern for route in self.routes]
        if twice := next((one for at, one in enumerate(patterns) if one in patterns[:at]), None):
            raise InputError(f"routes: {twice!r} stands twice, and the second can never be met; give each pattern once")
        self._tests = tuple((globs((pattern,)), route) for pattern, route in zip(patterns, self.routes, strict=True))
        self._known: dict[str, Route | RouteRefused] = {}

    def find(self, target: str) -> Route | RouteRefused:
        """The route of a request target, as it was sent. Remembered: a third of a microsecond; else 5 and more."""
        if not self._tests:
            return UNKNOWN
        path = target.partition("?")[0]
        found = self._known.get(path)
        if found is None:
            found = self._look(path)
            if len(path) <= REMEMBERED_LENGTH:
                if len(self._known) >= REMEMBERED:
                    self._known = {}
                self._known[path] = found
        return found

    def _look(self, path: str) -> Route | RouteRefused:
        found = {id(route): route for route in map(self._first, readings(path))}
        return found.popitem()[1] if len(found) == 1 else _AMBIGUOUS

    def _first(self, path: str) -> Route:
        for test, route in self._tests:
            if test(path) or test(path + "/"):
                return route
        return UNKNOWN


NO_ROUTES: Final = Routes()
"""Nothing is known of any path."""


def parse_routes(texts: Iterable[str]) -> Routes:
    """The table of these options, in their order; a word that begins with '/' begins a route. Raises InputError.

    So it does not matter how many texts they come in: an environment variable has all in one.
    """
    routes: list[list[str]] = []
    for word in " ".join(texts).split():
        if word.startswith("/"):
            routes.append([word])
        elif routes:
            routes[-1].append(word)
        else:
            raise InputError(f"route: {word!r} is no pattern of a path, which begins with '/'; write it like {_EXAMPLE}")
    return Routes([_parse(pattern, pairs) for pattern, *pairs in routes])


def _parse(pattern: str, pairs: Sequence[str]) -> Route:
    _check_pattern(pattern)
    said: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in KEYS or not value:
            raise InputError(f"route {pattern}: {pair!r} is not known here; allowed are {', '.join(f'{one}=...' for one in KEYS)}")
        if key in said:
            raise InputError(f"route {pattern}: {key} is given twice; give it once")
        if len(value) > MAX_TEXT:
            raise InputError(f"route {pattern}: {key} has {len(value)} characters; allowed are up to {MAX_TEXT}")
        said[key] = value
    return Route(
        pattern, said.get("classification"), said.get("workload"), said.get("route"), _posture(pattern, said.get("posture")),
        _without_session(pattern, said.get("without-session")), _activity(pattern, said.get("activity")),
    )  # fmt: skip


def stricter(one: Posture | None, other: Posture | None) -> Posture | None:
    """Of two postures that were said, the strict one."""
    return Posture.STRICT if Posture.STRICT in (one, other) else one or other


def _check_pattern(pattern: str) -> None:
    if "%" in pattern or ";" in pattern or "//" in pattern or {".", ".."} & set(pattern.split("/")):
        raise InputError(
            f"route: {pattern!r} would not be met, as paths are looked at with their percent-encoding undone, without '//', '.' and '..', and"
            " with ';' only where it makes no difference; write it in that form, with ? for a space"
        )


def _posture(pattern: str, value: str | None) -> Posture | None:
    if value is None:
        return None
    try:
        return Posture(value.replace("-", "_"))
    except ValueError:
        raise InputError(f"route {pattern}: posture={value} is not known; allowed are strict and best-effort") from None


def _without_session(pattern: str, value: str | None) -> WithoutSession | None:
    if value is None:
        return None
    try:
        return WithoutSession(value)
    except ValueError:
        raise InputError(f"route {pattern}: without-session={value} is not known; allowed are {', '.join(WithoutSession)}") from None


def _activity(pattern: str, value: str | None) -> Kind | None:
    if value is None:
        return None
    for kind in ACTIVITIES:
        if value == kind:
            return kind
    raise InputError(f"route {pattern}: activity={value} is not known; allowed are {', '.join(ACTIVITIES)}")
