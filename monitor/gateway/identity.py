"""Which session a request belongs to: looked for where configured, in order; the first place that has one decides.

`claim:NAME`    a verified claim of the token, which passes as it is
`cookie:NAME`   a cookie
`header:NAME`   a header
`path:TEMPLATE` a segment of the path: `path:/v1/chats/{id}/...` (`...`: whatever follows, or nothing)

What comes from a cookie, a header or the path may be a credential, so it is named by its SHA-256, as
`monitor.publish.hashed_session_id` makes it: an application computes the same id of the same value.

One session must have one name: a client that could spell its id in a second way would leave an ended session
behind and be a new one. So the percent-encodings of cookies and paths are undone, once, before they are hashed; quotes
around a cookie do not count; what is ambiguous (two different cookies of one name) or not in a plain form is refused.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol, TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec

from monitor.core.errors import InputError
from monitor.publish.identity import hashed_session_id
from monitor.wire.events import MAX_SESSION_ID

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
"""Names in lower case and values, as ASGI has them."""

MAX_RAW: Final = 8192
"""Bytes of a value that is hashed; servers take no longer header lines."""
ALLOWED: Final = "claim:NAME, cookie:NAME, header:NAME and path:/PREFIX/{id}/..."
_ID: Final = "{id}"
_REST: Final = "..."

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 6265 section 4.1.1, cookie-octet: neither quotes nor backslashes, which libraries undo in several ways.
_COOKIE_VALUE: Final = re.compile(rb"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+")
_VISIBLE: Final = re.compile(rb"[\x20-\x7e]+")
_NOT_HEADERS: Final = {
    "authorization": "the claims of a bearer token are read with claim:NAME",
    "cookie": "a cookie is read with cookie:NAME",
}


class SessionIdRefused(msgspec.Struct, frozen=True):
    """The request names a session in a way that can't be used. Holds nothing of what it sent."""

    source: str
    """The place, as configured."""
    detail: str


class Request(msgspec.Struct, frozen=True):
    """What of a request may name its session."""

    headers: Headers = ()
    path: str = ""
    """As it was sent: percent-encoded; a query is ignored."""
    claims: Mapping[str, str] = {}
    """The session ids of the verified token (`Claims.session_ids`)."""


class _BadSessionId(Exception):  # noqa: N818 - never leaves this module
    pass


class Source(Protocol):
    """A place to look."""

    @property
    def text(self) -> str:
        """As it is written in the option."""

    def find(self, request: Request) -> str | None:
        """The session id; None where this place names none."""


class Claim(msgspec.Struct, frozen=True):
    """A claim of the verified token, by its name or its path."""

    name: str

    @property
    def text(self) -> str:
        """As it is written in the option."""
        return f"claim:{self.name}"

    def find(self, request: Request) -> str | None:
        """The claim as it is: the issuer has signed it."""
        found = request.claims.get(self.name)
        return None if found is None else _named(found)


class Cookie(msgspec.Struct, frozen=True):
    """A cookie; its name counts letter by letter."""

    name: str

    @property
    def text(self) -> str:
        """As it is written in the option."""
        return f"cookie:{self.name}"

    def find(self, request: Request) -> str | None:
        """The hash of its value. One `Cookie` header or several (RFC 9113 section 8.2.3)."""
        value = _only({_unquoted(value) for value in self._values(request.headers)})
        if value is None:
            return None
        if not _COOKIE_VALUE.fullmatch(value):
            raise _BadSessionId("has characters that a cookie's value can't have (RFC 6265)")
        return _hashed(unquote_to_bytes(value))

    def _values(self, headers: Headers) -> Iterator[bytes]:
        wanted = self.name.encode("ascii")
        for name, line in headers:
            if name == b"cookie" and wanted in line:
                for pair in line.split(b";"):
                    key, _, value = pair.partition(b"=")
                    if key.strip(b" \t") == wanted:
                        yield value.strip(b" \t")


class Header(msgspec.Struct, frozen=True):
    """A header; `name` is in lower case."""

    name: str

    @property
    def text(self) -> str:
        """As it is written in the option."""
        return f"header:{self.name}"

    def find(self, request: Request) -> str | None:
        """The hash of its value."""
        wanted = self.name.encode("ascii")
        value = _only({line.strip(b" \t") for name, line in request.headers if name == wanted})
        if value is None:
            return None
        if not _VISIBLE.fullmatch(value):
            raise _BadSessionId("has characters that are not visible ASCII")
        if b"," in value:
            # A proxy may have made one line of several (RFC 9110 section 5.3), of which the service behind may take any.
            raise _BadSessionId("has a comma, so that it may be several")
        return _hashed(value)


class Path(msgspec.Struct, frozen=True):
    """A segment of the path. `before` and `after` are what stands around it, `open_ended` whether more may follow."""

    before: tuple[bytes, ...]
    after: tuple[bytes, ...]
    open_ended: bool
    text: str

    def find(self, request: Request) -> str | None:
        """The hash of the segment, where the path is of this form. Doubled and trailing slashes do not count."""
        path = request.path.partition("?")[0].partition("#")[0]
        segments = tuple(unquote_to_bytes(segment) for segment in path.split("/") if segment)
        if b"." in segments or b".." in segments:
            raise _BadSessionId("has the segment '.' or '..', so that proxies may read it in different ways")
        at = len(self.before)
        end = at + 1 + len(self.after)
        if len(segments) < end or (len(segments) > end and not self.open_ended):
            return None
        if segments[:at] != self.before or segments[at + 1 : end] != self.after:
            return None
        return _hashed(segments[at])


class SessionIdSources(msgspec.Struct, frozen=True):
    """The configured places, in order."""

    sources: tuple[Source, ...]

    @property
    def claims(self) -> tuple[str, ...]:
        """The claims among them: what the token verifier has to take from tokens (`ClaimRules.session_ids`)."""
        return tuple(source.name for source in self.sources if isinstance(source, Claim))

    def find(self, request: Request) -> str | SessionIdRefused | None:
        """The request's session id; None where it names none. Never raises. A claim takes 0.3 us, a cookie 3 us.

        A place that has an unusable one ends the search: the next place could name another session.
        """
        for source in self.sources:
            try:
                found = source.find(request)
            except _BadSessionId as error:
                return SessionIdRefused(source.text, f"the session id in {source.text} {error}")
            if found is not None:
                return found
        return None


def parse_sources(text: str) -> SessionIdSources:
    """The sources of an option's text, such as `claim:sid,cookie:session`. Raises InputError: which one, and why."""
    parts = [part.strip() for part in text.split(",")]
    sources: list[Source] = []
    for part in parts:
        source = _parse(part)
        if source.text in {one.text for one in sources}:
            raise InputError(f"session id: {part!r} stands twice in {text!r}; name each place once")
        sources.append(source)
    return SessionIdSources(tuple(sources))


def _parse(part: str) -> Source:
    kind, colon, name = part.partition(":")
    if not colon or not name or kind not in ("claim", "cookie", "header", "path"):
        raise InputError(
            f"session id: {part!r} names no place to look; allowed are {ALLOWED}, with commas between"
        )
    if kind == "path":
        return _parse_path(part, name)
    if kind == "claim":
        return Claim(name)
    if not _NAME.fullmatch(name):
        raise InputError(f"session id: {part!r}: {name!r} is no name that a {kind} can have")
    if kind == "cookie":
        return Cookie(name)
    if (reason := _NOT_HEADERS.get(name.lower())) is not None:
        raise InputError(f"session id: {part!r} can't be used: {reason}")
    return Header(name.lower())


def _parse_path(part: str, template: str) -> Path:
    segments = template.removeprefix("/").removesuffix("/").split("/")
    open_ended = segments[-1] == _REST
    if open_ended:
        segments.pop()
    plain = [segment for segment in segments if segment != _ID]
    if not template.startswith("/") or len(segments) != len(plain) + 1:
        raise InputError(f"session id: {part!r} must begin with path:/ and have {_ID} as one whole segment")
    for segment in plain:
        if not segment or segment in (".", "..", _REST) or set(segment) & set("{}?#*"):
            raise InputError(
                f"session id: {part!r}: {segment!r} can't be a segment; allowed are plain ones, one {_ID},"
                f" and at the end {_REST}"
            )
    at = segments.index(_ID)
    before, after = (tuple(map(unquote_to_bytes, some)) for some in (segments[:at], segments[at + 1 :]))
    return Path(before, after, open_ended, part)


def _only(values: set[bytes]) -> bytes | None:
    if len(values) > 1:
        raise _BadSessionId("stands there more than once, with different values")
    if not values:
        return None
    (value,) = values
    if not value:
        raise _BadSessionId("is empty")
    return value


def _unquoted(value: bytes) -> bytes:
    quoted = len(value) >= 2 and value.startswith(b'"') and value.endswith(b'"')
    return value[1:-1] if quoted else value


def _hashed(value: bytes) -> str:
    if len(value) > MAX_RAW:
        raise _BadSessionId(f"has {len(value)} bytes; allowed are up to {MAX_RAW}")
    return hashed_session_id(value)


def _named(value: str) -> str:
    if not value:
        raise _BadSessionId("is empty")
    if len(value) > MAX_SESSION_ID:
        raise _BadSessionId(f"has {len(value)} characters; allowed are 1 to {MAX_SESSION_ID}")
    if value.startswith("~"):
        raise _BadSessionId("begins with '~', which is kept for the monitor's own records")
    return value
