"""A request's path in its one spelling; and, where programs may read it in different ways, all of them.

The proxy, this gateway and the service behind each read the path for themselves, and a client may send one that they
read differently: `/models/../admin`, `/models/..%2Fadmin`, `/models;/../admin`. Nobody knows the service's way. So such a path has
several readings, and who decides by paths asks that all of them lead to the same place.

What every program reads alike has one spelling: the percent-encoding is undone, doubled slashes are one, and one at the
end does not count. Upper and lower case differ.
"""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

LARGEST_UNCLEAR: Final = 1024
"""Characters of a path with more than one reading; honest ones are shorter, and each reading takes time."""
MOST_READINGS: Final = 32

# Encoded: control characters, '#', '%', '.', '/', ';', '?', a backslash, DEL. As it is: ';', a backslash, '.' and '..' as segments,
# and '//' at the beginning, which some take for a host.
_UNCLEAR: Final = re.compile(r"%(?:[01].|2[35ef]|3[bf]|5c|7f)|[;\\]|/\.{1,2}(?:/|\Z)|\A//", re.IGNORECASE | re.DOTALL)
_SLASHES: Final = re.compile("//+")


def readings(target: str) -> frozenset[str]:
    """Every reading of a request target (a query is ignored), without a slash at its end. Empty: there are too many.

    1 us for a clear path; below 5 ms for whatever else is sent.
    """
    path = target.partition("?")[0].partition("#")[0]
    if not _UNCLEAR.search(path):
        return frozenset((_plain(unquote(path)),))
    if len(path) > LARGEST_UNCLEAR:
        return frozenset()
    found, fresh = {path}, {path}
    while fresh:
        fresh = {read(one) for one in fresh for read in _WAYS} - found
        found |= fresh
        if len(found) > MOST_READINGS:
            return frozenset()
    return frozenset(map(_plain, found))


def _plain(path: str) -> str:
    return _SLASHES.sub("/", path).rstrip("/")


def _cut(path: str) -> str:
    """What follows is a query, a fragment, or nothing to who ends texts with a NUL."""
    return re.split(r"[?#\x00]", path, maxsplit=1)[0]


def _without_parameters(path: str) -> str:
    """`/a;x=1/b` (RFC 3986 section 3.3), as servlets read it."""
    return re.sub(r";[^/]*", "", path)


def _after_host(path: str) -> str:
    """`//host/path`: a reference without a scheme (RFC 3986 section 4.2)."""
    return re.sub(r"\A//[^/]*", "", path)


def _resolved(path: str) -> str:
    """RFC 3986 section 5.2.4."""
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)


_WAYS: Final[tuple[Callable[[str], str], ...]] = (
    unquote, _cut, _without_parameters, _after_host, _resolved,
    lambda path: path.replace("\\", "/"),
    lambda path: _SLASHES.sub("/", path),
)  # fmt: skip
