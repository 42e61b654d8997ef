"""A verdict as HTTP: the same refusal for programs, for people at a browser, and for MCP clients.

Status, challenge, problem type and texts stand in the one table of `wire.problem`; here is only the form they take.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from monitor.core.errors import InvariantError
from monitor.gateway.page import page
from monitor.gateway.verdict import Verdict
from monitor.wire.codec import encode
from monitor.wire.problem import Answer, refusal

RETURN_TO: Final = "{return_to}"
"""In a `reauth_url`: the place to come back to, percent-encoded."""
STALE: Final = (("Session-Monitor-View", "stale"),)
"""What marks an answer that was served by a stale view."""

_MCP: Final = ("mcp-protocol-version", "mcp-session-id", "mcp-method")
_SESSIONLESS: Final = "2026-07-28"
"""From this protocol version on MCP has no sessions, and a 404 means something else."""
_MCP_ERROR: Final = -32001
"""Within the range that JSON-RPC 2.0 leaves to servers."""
_HTML: Final = ("text/html", "application/xhtml+xml")
_JSON: Final = ("application/json", "application/problem+json")
_PAGE_HEADERS: Final = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
)


class Asked(msgspec.Struct, frozen=True):
    """What of a request decides the form of its answer."""

    method: str = "GET"
    accept: str = ""
    mcp: bool = False
    """It is an MCP client's."""
    mcp_session: bool = False
    """It names a session of the MCP protocol, which has such."""
    return_to: str | None = None
    """The URL that was asked for, as the client knows it."""

    @classmethod
    def of(cls, headers: Mapping[str, str], method: str = "GET", return_to: str | None = None) -> "Asked":
        """From a request's headers, their names in lower case. Whatever stands in them, it does not raise."""
        version = headers.get("mcp-protocol-version", "")
        session = bool(headers.get("mcp-session-id")) and version < _SESSIONLESS
        return cls(
            method, headers.get("accept", ""), any(headers.get(name) for name in _MCP), mcp_session=session, return_to=return_to
        )


class Wording(msgspec.Struct, frozen=True):
    """What a platform says of itself in its answers."""

    reauth_url: str | None = None
    """Where people log in again; `{return_to}` in it becomes the URL that was asked for."""
    redirect_browsers: bool = False
    """Send browsers there at once (302) where logging in helps, instead of showing a page."""
    resource_metadata: str | None = None
    """URL of the protected resource's metadata (RFC 9728): MCP clients need it to log in."""


PLAIN: Final = Wording()


class Reply(msgspec.Struct, frozen=True):
    """An HTTP response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def reply_to(
    verdict: Verdict, asked: Asked, wording: Wording = PLAIN, *, session_id: str | None = None, description: str | None = None,
    detail: str | None = None,
) -> Reply:  # fmt: skip
    """The response to a refused request. Raises InvariantError for an admitted one.

    `session_id` is told back as it was (what is no Unicode, as `?`); `description` goes into the challenge where more is known of a bad token,
    `detail` into the problem.
    """
    if verdict.admitted:
        raise InvariantError("an admitted request has no refusal to be answered with")
    reauth_url = _reauth_url(wording, asked)
    shown = None if session_id is None else session_id.encode(errors="replace").decode()
    answer = refusal(
        verdict.reason, verdict.reauth, session_id=shown, effective_at=verdict.effective_at, reauth_url=reauth_url,
        resource_metadata=wording.resource_metadata, retry_after=verdict.retry_after, description=description,
        detail=detail,
    )  # fmt: skip
    if asked.mcp:
        return _to_mcp(answer, final=asked.mcp_session and answer.status == 401 and not verdict.reauth.allowed)
    if prefers_html(asked.accept):
        return _to_browser(answer, asked, wording, helps=answer.status == 401, reauth_url=reauth_url)
    return Reply(answer.status, answer.headers, answer.body)


def marks(verdict: Verdict) -> tuple[tuple[str, str], ...]:
    """The headers that mark an admitted request's response: none, but where the view was stale."""
    return STALE if verdict.stale else ()


def prefers_html(accept: str) -> bool:
    """Whether an `Accept` (RFC 9110 section 12.5.1) names HTML, and JSON no higher: browsers do, programs don't."""
    best = {"html": 0.0, "json": 0.0}
    for part in accept.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        kind = "html" if media in _HTML else "json" if media in _JSON else ""
        if kind:
            best[kind] = max(best[kind], _quality(parameters))
    return best["html"] > 0 and best["html"] >= best["json"]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _reauth_url(wording: Wording, asked: Asked) -> str | None:
    if wording.reauth_url is None:
        return None
    return wording.reauth_url.replace(RETURN_TO, quote(asked.return_to or "", safe="", errors="replace"))


def _to_browser(answer: Answer, asked: Asked, wording: Wording, *, helps: bool, reauth_url: str | None) -> Reply:
    others = tuple((name, value) for name, value in answer.headers if name != "Content-Type")
    if helps and reauth_url is not None and wording.redirect_browsers and asked.method in ("GET", "HEAD"):
        return Reply(302, (("Location", reauth_url), ("Cache-Control", "no-store")), b"")
    return Reply(answer.status, (*_PAGE_HEADERS, *others), page(answer.problem, reauth_url if helps else None))


def _to_mcp(answer: Answer, *, final: bool) -> Reply:
    """JSON-RPC within HTTP. A session of the protocol that is gone for good is a 404: the client then begins anew."""
    body = encode({
        "jsonrpc": "2.0", "id": None,
        "error": {"code": _MCP_ERROR, "message": answer.problem.title, "data": answer.problem},
    })  # fmt: skip
    headers = tuple((name, "application/json" if name == "Content-Type" else value) for name, value in answer.headers)
    return Reply(404 if final else answer.status, headers, body)
