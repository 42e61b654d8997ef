"""What a refused client is told: problem+json (RFC 9457) and a challenge (RFC 9470, RFC 6750).

One table: a reason belongs to a row, and the row says status, problem type, title and challenge.
"""

import re
from enum import StrEnum
from typing import Final

import msgspec

from monitor.core.commands import Reauth
from monitor.core.instants import Millis
from monitor.core.reasons import MESSAGE, REASONS, Challenge, Reason
from monitor.wire.codec import encode
from monitor.wire.times import Instant

CONTENT_TYPE: Final = "application/problem+json"


class Refusal(StrEnum):
    """Why a gateway refuses where no session has ended."""

    VIEW_STALE = "view_stale"
    """It does not know the present state of sessions, and may not guess."""
    SESSION_MISSING = "session_missing"
    """The request names no session, and such are refused here."""
    LOGIN_REQUIRED = "login_required"
    """The request names no session, and such are sent to log in here."""
    REQUEST_UNUSABLE = "request_unusable"
    """The request names its session in a way that can't be used, or can't be read."""
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a word, no secret
    """The bearer token is expired, forged, or not for us."""
    TOKEN_UNJUDGED = "token_unjudged"  # noqa: S105 - a word, no secret
    """The issuer's keys can't be had: the token may be good."""
    COMMAND_UNKNOWN = "command_unknown"
    """The monitor ordered something about the session that this gateway does not understand."""


class Row(msgspec.Struct, frozen=True):
    """One row of the table."""

    status: int
    type: str
    title: str
    error: str | None = None
    """`error` of the challenge; None: no such parameter."""
    description: str = ""
    challenges: bool = True
    """Whether `WWW-Authenticate` is sent."""


_URN: Final = "urn:session-monitor:problem:"
_ROWS: Final = {
    Challenge.REAUTHENTICATE: Row(
        401, f"{_URN}reauthentication-required", MESSAGE, "insufficient_user_authentication", "More recent authentication is required",
    ),
    Challenge.NEW_SESSION: Row(401, f"{_URN}session-revoked", MESSAGE, "invalid_token", "The session has ended"),
    Challenge.FORBIDDEN: Row(403, f"{_URN}locked", MESSAGE, challenges=False),
    Refusal.VIEW_STALE: Row(503, f"{_URN}unavailable", "Session State Unavailable: Please Retry", challenges=False),
    Refusal.SESSION_MISSING: Row(400, f"{_URN}session-missing", "Session Missing", challenges=False),
    Refusal.REQUEST_UNUSABLE: Row(400, f"{_URN}request-unusable", "Request Unusable", challenges=False),
    # RFC 6750 section 3.1: a request without credentials gets a challenge without an error.
    Refusal.LOGIN_REQUIRED: Row(401, f"{_URN}login-required", "Login Required: Please Authenticate"),
    Refusal.TOKEN_INVALID: Row(401, f"{_URN}token-invalid", "Token Invalid: Please Authenticate", "invalid_token", "The token is not valid"),
    Refusal.TOKEN_UNJUDGED: Row(503, f"{_URN}unavailable", "Token Unverifiable: Please Retry", challenges=False),
    Refusal.COMMAND_UNKNOWN: Row(401, f"{_URN}session-revoked", MESSAGE, "invalid_token", "The session has ended"),
}  # fmt: skip
_DETAIL: Final = {
    Refusal.VIEW_STALE: "The gateway has lost touch with the session monitor and may not guess here",
    Refusal.SESSION_MISSING: "The request names no session",
    Refusal.LOGIN_REQUIRED: "The request names no session",
    Refusal.REQUEST_UNUSABLE: "The request can't be read, or names its session in a way that can't be used",
    Refusal.TOKEN_INVALID: "The token is expired, forged, or not meant for this service",
    Refusal.TOKEN_UNJUDGED: "The keys of the token's issuer can't be had at the moment",
    Refusal.COMMAND_UNKNOWN: "The session has ended: by an order that this gateway does not know",
}
_REASONS: Final = frozenset(Reason)
_REFUSALS: Final = frozenset(Refusal)
_UNQUOTABLE: Final = re.compile(r'[^\x20-\x7e]|["\\]')


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body. `type` is stable: a program may act on it."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    session_id: str | None = None
    effective_at: Instant | None = None
    reauth_url: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """A refusal as HTTP."""

    status: int
    headers: tuple[tuple[str, str], ...]
    problem: Problem

    @property
    def body(self) -> bytes:
        """The problem as JSON."""
        return encode(self.problem)


def challenge_for(reason: str, reauth: Reauth) -> Challenge:
    """What helps: a lock forbids, a revocation wants a new session, all else a re-authentication where it is allowed.

    A reason that is not known here goes by `reauth` alone; so does a lock that allows re-authentication: it was lifted.
    """
    known = REASONS[Reason(reason)].challenge if reason in _REASONS else Challenge.REAUTHENTICATE
    if known is Challenge.FORBIDDEN and reauth.allowed:
        return Challenge.REAUTHENTICATE
    if known is Challenge.REAUTHENTICATE and not reauth.allowed:
        return Challenge.NEW_SESSION
    return known


def row_of(reason: str, reauth: Reauth) -> Row:
    """The row of a reason, known here or not."""
    return _ROWS[Refusal(reason) if reason in _REFUSALS else challenge_for(reason, reauth)]


def status_of(reason: str, reauth: Reauth) -> int:
    """The HTTP status of a refusal."""
    return row_of(reason, reauth).status


def detail_of(reason: str) -> str:
    """A reason in a sentence; of one that is not known here, the word itself."""
    if reason in _REFUSALS:
        return _DETAIL[Refusal(reason)]
    return f"The session has ended: {REASONS[Reason(reason)].text if reason in _REASONS else reason}"


def refusal(
    reason: str, reauth: Reauth, *, session_id: str | None = None, effective_at: Millis | None = None,
    reauth_url: str | None = None, resource_metadata: str | None = None, retry_after: int | None = None,
    description: str | None = None, detail: str | None = None,
) -> Answer:  # fmt: skip
    """The answer to a request that is refused: a session that has ended, or a `Refusal`.

    `resource_metadata` is the URL of RFC 9728; `retry_after` is in seconds; `description` is said in the challenge
    instead of the row's own, and `detail` in the problem, where more is known.
    """
    row = row_of(reason, reauth)
    if description is not None:
        row = msgspec.structs.replace(row, description=description)
    problem = Problem(
        row.type, row.title, row.status, detail_of(reason) if detail is None else detail, reason, session_id,
        None if effective_at is None else Instant(effective_at), reauth_url,
    )  # fmt: skip
    headers = [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store")]
    if row.challenges:
        headers.append(("WWW-Authenticate", authenticate(row, reauth, resource_metadata)))
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    return Answer(row.status, tuple(headers), problem)


def authenticate(row: Row, reauth: Reauth, resource_metadata: str | None = None) -> str:
    """The value of `WWW-Authenticate` (RFC 9470 section 3, RFC 6750 section 3)."""
    parameters = {}
    if row.error is not None:
        parameters = {"error": row.error, "error_description": row.description}
    if row.error == Challenge.REAUTHENTICATE:
        if reauth.max_age is not None:
            parameters["max_age"] = str(reauth.max_age)
        if reauth.acr_values:
            parameters["acr_values"] = " ".join(reauth.acr_values)
    if resource_metadata is not None:
        parameters["resource_metadata"] = resource_metadata
    # What can't stand in a quoted string is left out: a policy must not be able to write headers.
    said = ", ".join(f'{name}="{_UNQUOTABLE.sub("", value)}"' for name, value in parameters.items())
    return f"Bearer {said}" if said else "Bearer"
