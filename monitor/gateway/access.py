"""Who may use the sidecar's own API (`/v1/*`): the holder of its token all of it, a client its own session.

A client shows a token of the configured issuer and reads the sessions that the token names, nothing else; only the
API's own token publishes events.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

import msgspec

from monitor.core.instants import EventMillis
from monitor.gateway.claims import Claims
from monitor.gateway.refusals import TokenFault, TokenRefused
from monitor.observe.token import check_token, read_token

_SCHEME: Final = "bearer"


class ApiToken:
    """The API's token, of which only the hash is kept."""

    def __init__(self, token: str, whence: str) -> None:
        """`whence` stands in errors. Raises InputError for a token that is too short, or can't stand in a header."""
        self._digest = sha256(check_token(token, whence).encode("ascii")).digest()

    def matches(self, shown: str) -> bool:
        """Whether this is the token; the time it takes tells nothing."""
        return hmac.compare_digest(sha256(shown.encode("utf-8", "replace")).digest(), self._digest)


class Caller(msgspec.Struct, frozen=True):
    """Somebody who has shown who they are. Without claims: the holder of the API's token."""

    claims: Claims | None = None

    @property
    def may_publish(self) -> bool:
        """Whether events of any session may be posted."""
        return self.claims is None

    def may_read(self, session_id: str) -> bool:
        """Whether this session may be read and followed."""
        return self.claims is None or may_read(self.claims, session_id)


class Verifies(Protocol):
    """`TokenVerifier`."""

    async def verify(self, token: str, now: EventMillis) -> Claims | TokenRefused:
        """The claims of a good token."""


class Access:
    """Tells callers by their `Authorization` header. Without token and verifier nobody gets in."""

    def __init__(self, token: ApiToken | None, verifier: Verifies | None) -> None:
        """`verifier` where an issuer is configured."""
        self._token = token
        self._verifier = verifier

    async def caller(self, authorization: Sequence[bytes], now: EventMillis) -> Caller | TokenRefused:
        """Who asks, by the values of all `Authorization` headers. Raises nothing."""
        shown = bearer_token(authorization)
        if shown is None or isinstance(shown, TokenRefused):
            return TokenRefused(TokenFault.MISSING) if shown is None else shown
        if self._token is not None and self._token.matches(shown):
            return Caller()
        if self._verifier is None:
            return TokenRefused(TokenFault.WRONG)
        found = await self._verifier.verify(shown, now)
        return Caller(found) if isinstance(found, Claims) else found


def may_read(claims: Claims, session_id: str) -> bool:
    """Whether it is the token's own session. An empty id is nobody's."""
    return bool(session_id) and session_id in claims.session_ids.values()


def bearer_token(authorization: Sequence[bytes]) -> str | TokenRefused | None:
    """The bearer token (RFC 6750 section 2.1) in these values of `Authorization`; None where there is none.

    Two headers are refused: the application might read the other one.
    """
    if not authorization:
        return None
    if len(authorization) > 1:
        return TokenRefused(TokenFault.MALFORMED, "there is more than one Authorization header")
    scheme, _, token = authorization[0].decode("latin-1").strip(" \t").partition(" ")
    return token.strip(" ") if scheme.lower() == _SCHEME else None


def api_token(given: str | None, path: Path, whence: str) -> ApiToken | None:
    """The API's token: the one given (an option or the environment, `whence`), else that of the file; None: neither.

    Raises InputError for a token that can't be used, or a file that others can read; without repeating the token.
    """
    if given is not None:
        return ApiToken(given, whence)
    token = read_token(path)
    return None if token is None else ApiToken(token, str(path))
