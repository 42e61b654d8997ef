"""What a refused client is told: problem+json (RFC 9457) and a challenge (RFC 9470, RFC 6750)."""

import re
from typing import Final

import msgspec

from monitor.core.commands import Reauth
from monitor.core.instants import Millis
from monitor.core.reasons import MESSAGE, REASONS, Challenge, Reason
from monitor.wire.codec import encode
from monitor.wire.times import Instant

CONTENT_TYPE: Final = "application/problem+json"

_STATUS: Final = {Challenge.REAUTHENTICATE: 401, Challenge.NEW_SESSION: 401, Challenge.FORBIDDEN: 403}
_TYPE: Final = {
    Challenge.REAUTHENTICATE: "urn:session-monitor:problem:reauthentication-required",
    Challenge.NEW_SESSION: "urn:session-monitor:problem:session-revoked",
    Challenge.FORBIDDEN: "urn:session-monitor:problem:locked",
}
_DESCRIPTION: Final = {
    Challenge.REAUTHENTICATE: "More recent authentication is required",
    Challenge.NEW_SESSION: "The session has ended",
}
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

    A reason that is not known here goes by `reauth` alone.
    """
    known = REASONS[Reason(reason)].challenge if reason in set(Reason) else Challenge.REAUTHENTICATE
    if known is Challenge.REAUTHENTICATE and not reauth.allowed:
        return Challenge.NEW_SESSION
    return known


def refusal(
    reason: str, reauth: Reauth, *, session_id: str | None = None, effective_at: Millis | None = None,
    reauth_url: str | None = None, resource_metadata: str | None = None,
) -> Answer:  # fmt: skip
    """The answer to a request of a session that has ended. `resource_metadata` is the URL of RFC 9728."""
    challenge = challenge_for(reason, reauth)
    status = _STATUS[challenge]
    text = REASONS[Reason(reason)].text if reason in set(Reason) else reason
    problem = Problem(
        _TYPE[challenge], MESSAGE, status, f"The session has ended: {text}", reason, session_id,
        None if effective_at is None else Instant(effective_at), reauth_url,
    )  # fmt: skip
    headers = [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store")]
    if challenge is not Challenge.FORBIDDEN:
        headers.append(("WWW-Authenticate", authenticate(challenge, reauth, resource_metadata)))
    return Answer(status, tuple(headers), problem)


def authenticate(challenge: Challenge, reauth: Reauth, resource_metadata: str | None = None) -> str:
    """The value of `WWW-Authenticate` (RFC 9470 section 3, RFC 6750 section 3)."""
    parameters = {"error": challenge.value, "error_description": _DESCRIPTION[challenge]}
    if challenge is Challenge.REAUTHENTICATE:
        if reauth.max_age is not None:
            parameters["max_age"] = str(reauth.max_age)
        if reauth.acr_values:
            parameters["acr_values"] = " ".join(reauth.acr_values)
    if resource_metadata is not None:
        parameters["resource_metadata"] = resource_metadata
    # What can't stand in a quoted string is left out: a policy must not be able to write headers.
    return "Bearer " + ", ".join(f'{name}="{_UNQUOTABLE.sub("", value)}"' for name, value in parameters.items())
