"""What the API says when it does not do what was asked: one table of statuses and titles, as problem+json (RFC 9457).

Refused tokens, and a view that is not loaded, are answered from the table of `wire.problem`, as everywhere.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from monitor.gateway.answers import Reply
from monitor.gateway.refusals import TokenRefused
from monitor.gateway.verdict import NO_REAUTH
from monitor.wire.codec import encode
from monitor.wire.problem import CONTENT_TYPE, Refusal, refusal

RETRY_AFTER: Final = 5
"""Seconds."""
NO_STORE: Final = ("Cache-Control", "no-store")


class Fault(StrEnum):
    """Why not; also the `reason` of the problem, unless more is known."""

    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    SESSION_ID_UNUSABLE = "session_id_unusable"
    NOT_YOUR_SESSION = "not_your_session"
    """Said of every session that is not the token's own, whether there is one of that name or not."""
    MAY_NOT_PUBLISH = "may_not_publish"
    MEDIA_TYPE_UNSUPPORTED = "media_type_unsupported"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TOO_SLOW = "body_too_slow"
    EVENTS_UNREADABLE = "events_unreadable"
    EVENTS_REFUSED = "events_refused"
    NOT_PUBLISHED = "not_published"
    BUSY = "busy"
    TOO_MANY_SUBSCRIBERS = "too_many_subscribers"
    TOO_MANY_OF_SESSION = "too_many_of_session"


class _Row(msgspec.Struct, frozen=True):
    status: int
    title: str
    headers: tuple[tuple[str, str], ...] = ()


_RETRY: Final = (("Retry-After", str(RETRY_AFTER)),)
# RFC 6750 section 3.1: the token is good, and gives no access to this.
_SCOPE: Final = (("WWW-Authenticate", 'Bearer error="insufficient_scope", error_description="The token gives no access to this"'),)

ROWS: Final = {
    Fault.NOT_FOUND: _Row(404, "Not Found"),
    Fault.METHOD_NOT_ALLOWED: _Row(405, "Method Not Allowed"),
    Fault.SESSION_ID_UNUSABLE: _Row(400, "Session Id Unusable"),
    Fault.NOT_YOUR_SESSION: _Row(403, "Not Your Session", _SCOPE),
    Fault.MAY_NOT_PUBLISH: _Row(403, "Publishing Not Allowed", _SCOPE),
    Fault.MEDIA_TYPE_UNSUPPORTED: _Row(415, "Media Type Unsupported"),
    Fault.BODY_TOO_LARGE: _Row(413, "Body Too Large"),
    Fault.BODY_TOO_SLOW: _Row(408, "Body Too Slow"),
    Fault.EVENTS_UNREADABLE: _Row(400, "Events Unreadable"),
    Fault.EVENTS_REFUSED: _Row(422, "Events Refused"),
    Fault.NOT_PUBLISHED: _Row(503, "Events Not Published: Please Retry", _RETRY),
    Fault.BUSY: _Row(503, "Busy: Please Retry", _RETRY),
    Fault.TOO_MANY_SUBSCRIBERS: _Row(503, "Too Many Subscribers: Please Retry", _RETRY),
    Fault.TOO_MANY_OF_SESSION: _Row(429, "Too Many Subscribers Of This Session", _RETRY),
}


class RefusedEvent(msgspec.Struct, frozen=True):
    """One event that can't be published. Of a single event the index is 0."""

    index: int
    reason: str
    detail: str
    """Which field, and what is allowed; never what stood there."""


class ApiProblem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body. `type` and `reason` are stable: a program may act on them."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    events: tuple[RefusedEvent, ...] = ()
    published: int | None = None
    """Of a request to publish: how many of its events are on the log."""
    unpublished: tuple[int, ...] = ()
    """The indexes of those that are not known to be."""


class Refused(Exception):  # noqa: N818 - an answer, raised where it is found
    """The request is answered with this problem. Never leaves the API."""

    def __init__(
        self, fault: Fault, detail: str, *headers: tuple[str, str], events: Sequence[RefusedEvent] = (),
        published: int | None = None, unpublished: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """`detail` holds nothing of what was sent."""
        super().__init__(detail)
        self.fault, self.detail, self.headers = fault, detail, headers
        self.events, self.published, self.unpublished = tuple(events), published, tuple(unpublished)

    @property
    def reply(self) -> Reply:
        """It as HTTP."""
        row = ROWS[self.fault]
        problem = ApiProblem(
            f"urn:session-monitor:problem:{self.fault.value.replace('_', '-')}", row.title, row.status, self.detail,
            self.fault.value, self.events, self.published, self.unpublished,
        )  # fmt: skip
        return Reply(row.status, (("Content-Type", CONTENT_TYPE), NO_STORE, *row.headers, *self.headers), encode(problem))


def token_reply(found: TokenRefused) -> Reply:
    """The answer to a token that is not taken, or to none (RFC 6750 section 3)."""
    if found.status == 503:
        answer = refusal(Refusal.TOKEN_UNJUDGED.value, NO_REAUTH, retry_after=RETRY_AFTER)
    elif found.error is None:
        answer = refusal(Refusal.LOGIN_REQUIRED.value, NO_REAUTH, detail=found.description)
    else:
        answer = refusal(Refusal.TOKEN_INVALID.value, NO_REAUTH, description=found.description, detail=found.description)
    return Reply(answer.status, answer.headers, answer.body)


def not_loaded_reply() -> Reply:
    """The answer before the view is loaded: nothing is known of anybody."""
    answer = refusal(Refusal.VIEW_STALE.value, NO_REAUTH, retry_after=RETRY_AFTER, detail="The gateway has not read the state of sessions yet")
    return Reply(answer.status, answer.headers, answer.body)
