"""What a proxy asks about: the original request, out of an authorization request in any of five dialects.

Where the request arrives tells the dialect:

`/check/...`  the original path stands behind the prefix, and the method is the original one (Envoy's HTTP `ext_authz`
              with `path_prefix: /check`). No header speaks about either.
`/check`      headers tell: `X-Forwarded-Method` and `X-Forwarded-Uri` (Traefik's ForwardAuth, Caddy's `forward_auth`), or
              `X-Original-Method` and `X-Original-URI` (nginx's `auth_request`, HAProxy by Lua). Without them the
              path is `/`, and the method the request's own.

In both, `X-Forwarded-For` (its last entry: the one that the proxy itself wrote), `X-Forwarded-Proto` and
`X-Forwarded-Host` are believed. Anybody can write such headers, so the sidecar must be reachable by the proxy alone, and the
proxy must set the ones that it uses. A client that adds those of the other family gains nothing: where two of them differ,
the request is refused.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote_from_bytes

import msgspec

PREFIX: Final = b"/check"
LARGEST_TARGET: Final = 8192
"""Bytes of a path with its query; servers take no longer request lines."""
LARGEST_HEADERS: Final = 64 * 1024
"""Bytes of all names and values."""

_PATHS: Final = (b"x-forwarded-uri", b"x-original-uri")
_METHODS: Final = (b"x-forwarded-method", b"x-original-method")
_CLIENT: Final = b"x-forwarded-for"
_SCHEME: Final = b"x-forwarded-proto"
_HOST: Final = b"x-forwarded-host"
_READ: Final = frozenset({*_PATHS, *_METHODS, _CLIENT, _SCHEME, _HOST})

_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
_PLAIN: Final = re.compile(rb"[\x21-\x7e]+")
_VISIBLE: Final = bytes(range(0x21, 0x7F)).decode("ascii")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_AUTHORITY: Final = re.compile(r"(?:[0-9A-Za-z.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_ELSEWHERE: Final = re.compile(r"[/\\]{2}")


class Original(msgspec.Struct, frozen=True):
    """The request that a proxy asks about."""

    method: str
    target: str
    """Path and query as they were sent. Visible ASCII: what is not is percent-encoded, so that a path has one spelling."""
    client_ip: str | None = None
    """As the proxy has seen it. A client that could write this itself would be met by no lock of an address, as if it were not known."""
    scheme: str = ""
    host: str = ""

    @property
    def return_to(self) -> str | None:
        """The URL as the client knows it; its path alone where the proxy does not tell the host. None: it could lead elsewhere."""
        if self.scheme in ("http", "https") and _AUTHORITY.fullmatch(self.host):
            return f"{self.scheme}://{self.host}{self.target}"
        # A browser takes `//name/` for another host.
        return None if _ELSEWHERE.match(self.target) else self.target


class OriginalRefused(msgspec.Struct, frozen=True):
    """The request can't be judged. `detail` is for its sender, and holds nothing of what was sent."""

    detail: str


class _Ambiguous(Exception):  # noqa: N818 - never leaves this module
    pass


def asks(path: bytes) -> bool:
    """Whether a request to this path (without its query) is an authorization request."""
    return path.startswith(PREFIX) and path[len(PREFIX) : len(PREFIX) + 1] in (b"", b"/")


def read_original(
    method: str, path: bytes, query: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> Original | OriginalRefused:
    """The original request; `path` is one that `asks`, header names are in lower case. Never raises. 7 us for twelve headers."""
    said: dict[bytes, list[bytes]] = {}
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name in _READ:
            said.setdefault(name, []).append(value.strip(b" \t"))
    if size > LARGEST_HEADERS:
        return OriginalRefused(f"the headers have {size} bytes; allowed are up to {LARGEST_HEADERS}")
    try:
        if path != PREFIX:
            target = path[len(PREFIX) :] + (b"?" + query if query else b"")
            asked = method.encode("utf-8", "replace")
        else:
            target = _one(said, _PATHS, b"/")
            asked = _one(said, _METHODS, method.encode("utf-8", "replace"))
    except _Ambiguous as error:
        return OriginalRefused(str(error))
    if not target.startswith(b"/"):
        return OriginalRefused("the original path does not begin with '/'")
    if len(target) > LARGEST_TARGET:
        return OriginalRefused(f"the original path has {len(target)} bytes; allowed are up to {LARGEST_TARGET}")
    if not _METHOD.fullmatch(asked):
        return OriginalRefused("the original method is none (RFC 9110 section 9.1)")
    return Original(
        asked.decode("ascii"),
        target.decode("ascii") if _PLAIN.fullmatch(target) else quote_from_bytes(target, _VISIBLE),
        _client(said.get(_CLIENT)), _last(said.get(_SCHEME)), _last(said.get(_HOST)),
    )  # fmt: skip


def _one(said: dict[bytes, list[bytes]], names: tuple[bytes, ...], default: bytes) -> bytes:
    values = {value for name in names for value in said.get(name, ())}
    if len(values) > 1:
        shown = " and ".join(name.decode() for name in names)
        raise _Ambiguous(f"{shown} are there more than once, with different values: the proxy must set one and remove the others")
    return values.pop() if values else default


def _client(lines: list[bytes] | None) -> str | None:
    last = _last(lines).rpartition(",")[2].strip(" \t")
    return last if _ADDRESS.fullmatch(last) else None


def _last(lines: list[bytes] | None) -> str:
    return lines[-1].decode("latin-1") if lines else ""
