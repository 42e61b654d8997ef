"""`TokenVerifier`: a bearer token -> `Claims`, or `TokenRefused`; never an exception. Needs the extra `gateway`.

A token is taken where it is a signed JWT (RFC 7519, RFC 9068) of the issuer, made with one of its keys by an
allowed algorithm (RFC 8725 section 3.1), for this audience, and valid now. Its claims are remembered by its SHA-256 until
it expires or the issuer's keys change, so that a token that is used again costs no cryptography; the token itself is
kept nowhere. Nothing here logs a token or a part of one.
"""

import re
import threading
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from hashlib import sha256
from typing import Final, Protocol

import msgspec

from monitor.core.errors import InputError
from monitor.core.instants import EventMillis
from monitor.gateway.claims import ClaimRules, Claims, read_claims
from monitor.gateway.jwks import ALGORITHMS, PublicKeys, check_algorithms
from monitor.gateway.refusals import BadToken, TokenFault, TokenRefused

LARGEST: Final = 16 * 1024
"""Characters; servers take no longer header lines."""
REMEMBERED: Final = 50_000
"""Tokens, unless configured."""

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
# RFC 8725 section 3.11. Logout tokens (logout+jwt) and security events (secevent+jwt) are signed with the same keys.
_TYPES: Final = ("jwt", "at+jwt")


class Keys(Protocol):
    """`IssuerKeys`."""

    def current(self) -> PublicKeys | None:
        """The keys that count now; the same object until they change."""

    async def renew(self) -> None:
        """Fetch them anew, where that is due."""

    @property
    def fault(self) -> str | None:
        """Why that failed the last time; None where it did not."""


class _Header(msgspec.Struct):
    alg: str
    kid: str | None = None
    typ: str | None = None
    crit: None = None
    """No extension that a verifier must understand (RFC 7515 section 4.1.11) is understood here."""


class TokenVerifier:
    """Verifies the tokens of one issuer. `check` may be called from any thread."""

    def __init__(
        self,
        rules: ClaimRules,
        keys: Keys,
        *,
        algorithms: tuple[str, ...] = ALGORITHMS,
        remembered: int = REMEMBERED,
    ) -> None:
        """`remembered`: tokens at most; the first to have come goes first. Raises InputError."""
        if remembered < 1:
            raise InputError(f"tokens: {remembered} tokens can't be remembered; allowed are 1 and more")
        self._rules = rules
        self._keys = keys
        self._algorithms = frozenset(check_algorithms(algorithms))
        self._limit = remembered
        self._known: dict[bytes, Claims] = {}
        self._known_by: PublicKeys | None = None
        self._changing = threading.Lock()

    async def verify(self, token: str, now: EventMillis) -> Claims | TokenRefused:
        """As `check`; a key that is not known is first asked for at the issuer (see `IssuerKeys`).

        Where the issuer can't be reached, such a token is not called bad: its key may be a new one.
        """
        found = self.check(token, now)
        if isinstance(found, Claims) or not found.unsure:
            return found
        await self._keys.renew()
        found = self.check(token, now)
        if found == TokenRefused(TokenFault.UNKNOWN_KEY) and self._keys.fault is not None:
            return TokenRefused(TokenFault.KEYS_UNAVAILABLE)
        return found

    def check(self, token: str, now: EventMillis) -> Claims | TokenRefused:
        """The claims, by the keys at hand. Remembered: 2 us for a token of 1 KiB; else 60 to 180 us."""
        # Before anything is computed over it.
        if len(token) > LARGEST:
            return TokenRefused(
                TokenFault.OVERSIZED, f"it has {len(token)} characters; {LARGEST} are allowed"
            )
        if not token.isascii():
            return TokenRefused(TokenFault.MALFORMED, "it is not ASCII")
        keys = self._keys.current()
        if keys is None:
            return TokenRefused(TokenFault.KEYS_UNAVAILABLE)
        if keys is not self._known_by:
            # A key that the issuer has withdrawn takes along what it has signed.
            with self._changing:
                self._known, self._known_by = {}, keys
        digest = sha256(token.encode("ascii")).digest()
        claims = self._known.get(digest)
        if claims is not None and now < claims.expires + self._rules.leeway:
            return claims
        try:
            claims = read_claims(self._payload(token, keys), self._rules, now)
        except BadToken as error:
            return error.refused
        self._remember(digest, claims, keys)
        return claims

    def _payload(self, token: str, keys: PublicKeys) -> bytes:
        header = _read_header(token)
        if header.alg not in self._algorithms:
            raise BadToken(TokenFault.ALGORITHM)
        if header.typ is not None and header.typ.lower().removeprefix("application/") not in _TYPES:
            raise BadToken(TokenFault.TYPE, f"its typ is none of {', '.join(_TYPES)}")
        return keys.payload(token, header.alg, header.kid)

    def _remember(self, digest: bytes, claims: Claims, keys: PublicKeys) -> None:
        with self._changing:
            if keys is not self._known_by:
                return
            while len(self._known) >= self._limit:
                del self._known[next(iter(self._known))]
            self._known[digest] = claims


def _read_header(token: str) -> _Header:
    if not _COMPACT.fullmatch(token):
        raise BadToken(TokenFault.MALFORMED, "it is not a signed JWT: three parts in base64url")
    encoded = token[: token.index(".")]
    try:
        return msgspec.json.decode(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)), type=_Header)
    except (Base64Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadToken(TokenFault.MALFORMED, "its header can't be read") from None
