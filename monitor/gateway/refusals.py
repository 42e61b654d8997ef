"""`TokenRefused`: why a token is not taken, as a client and an operator may know it. Never holds any of the token."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from monitor.core.errors import InputError


class TokenFault(StrEnum):
    """A closed list, so that it can label a metric."""

    MISSING = "missing"
    WRONG = "wrong"
    MALFORMED = "malformed"
    OVERSIZED = "oversized"
    ALGORITHM = "algorithm"
    TYPE = "type"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    AUTH_TIME = "auth_time"
    CLAIMS = "claims"
    KEYS_UNAVAILABLE = "keys_unavailable"


class FaultAnswer(NamedTuple):
    """What a fault is as HTTP: the status, the error code of RFC 6750 section 3.1, and its description."""

    status: int
    error: str | None
    description: str


_INVALID: Final = "invalid_token"

FAULTS: Final[Mapping[TokenFault, FaultAnswer]] = MappingProxyType(
    {
        # RFC 6750 section 3.1: without a token there is no error code.
        TokenFault.MISSING: FaultAnswer(401, None, "A bearer token is needed"),
        TokenFault.WRONG: FaultAnswer(401, _INVALID, "The token is not one that this API knows"),
        TokenFault.MALFORMED: FaultAnswer(401, _INVALID, "The access token is malformed"),
        TokenFault.OVERSIZED: FaultAnswer(401, _INVALID, "The access token is too large"),
        TokenFault.ALGORITHM: FaultAnswer(401, _INVALID, "The access token's algorithm is not allowed"),
        TokenFault.TYPE: FaultAnswer(401, _INVALID, "The token is of a type that gives no access"),
        TokenFault.UNKNOWN_KEY: FaultAnswer(401, _INVALID, "The access token's key is not known"),
        TokenFault.SIGNATURE: FaultAnswer(401, _INVALID, "The access token's signature is not valid"),
        TokenFault.ISSUER: FaultAnswer(401, _INVALID, "The access token is of another issuer"),
        TokenFault.AUDIENCE: FaultAnswer(401, _INVALID, "The access token is for another audience"),
        TokenFault.EXPIRED: FaultAnswer(401, _INVALID, "The access token expired"),
        TokenFault.NOT_YET_VALID: FaultAnswer(401, _INVALID, "The access token is not valid yet"),
        TokenFault.AUTH_TIME: FaultAnswer(401, _INVALID, "The access token's auth_time is in the future"),
        TokenFault.CLAIMS: FaultAnswer(
            401, _INVALID, "The access token lacks a claim, or has an unusable one"
        ),
        # No fault of the token: the client should come again with the same one.
        TokenFault.KEYS_UNAVAILABLE: FaultAnswer(503, None, "The issuer's keys can't be had at the moment"),
    }
)


class TokenRefused(msgspec.Struct, frozen=True):
    """A token that is not taken. `detail` is for logs: which claim or header, never its value."""

    fault: TokenFault
    detail: str = ""

    @property
    def status(self) -> int:
        """401; 503 where the token could not be judged."""
        return FAULTS[self.fault].status

    @property
    def unsure(self) -> bool:
        """Whether the issuer could tell more: the key may be a new one."""
        return self.fault in (TokenFault.UNKNOWN_KEY, TokenFault.KEYS_UNAVAILABLE)

    @property
    def error(self) -> str | None:
        """RFC 6750's code; None where no token was shown, or none could be judged."""
        return FAULTS[self.fault].error

    @property
    def description(self) -> str:
        """For the client: printable ASCII without quotes, so that it can stand in a challenge."""
        return FAULTS[self.fault].description


class BadToken(InputError):  # noqa: N818 - as BadRecord
    """Theirs: raised where the fault is found; `TokenVerifier` makes a `TokenRefused` of it."""

    def __init__(self, fault: TokenFault, detail: str = "") -> None:
        """`detail` as in `TokenRefused`."""
        super().__init__(FAULTS[fault].description + (f": {detail}" if detail else ""))
        self.refused = TokenRefused(fault, detail)
