"""`Api`: the sidecar's own API, as an ASGI application without a framework.

`POST /v1/events`                publish access events: the holder of the API's token
`GET  /v1/sessions/{id}`         how a session stands: its own client, by a verified token, or the holder of the API's token
`GET  /v1/sessions/{id}/events`  the same as it changes, as server-sent events
`GET  /v1/openapi.json`          this API as an OpenAPI document: anybody

`{id}` is one segment of the path, percent-decoded once. It is never a credential: it is the id that stands on the topics.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias
from urllib.parse import unquote_to_bytes

from monitor.gateway.access import Access, Caller
from monitor.gateway.answers import Reply
from monitor.gateway.api.bodies import read_body
from monitor.gateway.api.feed import Feed, Receive, Send
from monitor.gateway.api.hub import Hub
from monitor.gateway.api.intake import Intake
from monitor.gateway.api.openapi import encoded
from monitor.gateway.api.problems import NO_STORE, Fault, Refused, not_loaded_reply, token_reply
from monitor.gateway.api.standing import Standings, State
from monitor.gateway.enforcer import Enforcer
from monitor.gateway.facts import Facts
from monitor.gateway.refusals import TokenRefused
from monitor.wire.codec import encode
from monitor.wire.events import MAX_SESSION_ID

_JSON: Final = ("Content-Type", "application/json")
_LAST: Final = re.compile(rb"[a-z0-9-]{1,64}")
_ID: Final = "{id}"


class Api:
    """Answers what stands below `/v1/`. For HTTP alone."""

    def __init__(self, enforcer: Enforcer, access: Access, hub: Hub, intake: Intake | None = None) -> None:
        """`hub` hears the changes of the view; without an `intake` nobody may publish."""
        self._enforcer, self._access, self._hub, self._intake = enforcer, access, hub, intake
        self._standings = Standings(enforcer, hub.advice)

    def start(self) -> None:
        """From now on sessions may be followed, on the running loop. Idempotent."""
        self._hub.start()

    async def stop(self) -> None:
        """End every feed. Idempotent."""
        await self._hub.stop()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._answer(scope, receive, send)
        except Refused as refused:
            await _reply(send, refused.reply)

    async def _answer(self, scope: Any, receive: Receive, send: Send) -> None:
        path, segment = _route(scope.get("raw_path") or scope["path"].encode())
        methods = ROUTES[path]
        handler = methods.get("GET" if scope["method"] == "HEAD" and path not in _NO_HEAD else scope["method"])
        if handler is None:
            raise Refused(Fault.METHOD_NOT_ALLOWED, f"here are {', '.join(methods)}", ("Allow", ", ".join(methods)))
        if path in _OPEN:
            await _reply(send, Reply(200, (_JSON, NO_STORE), encoded()))
            return
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        caller = await self._access.caller(shown, self._enforcer.now().wall)
        if isinstance(caller, TokenRefused):
            await _reply(send, token_reply(caller))
        else:
            await handler(self, caller, segment, scope, receive, send)

    async def _publish(self, caller: Caller, _: bytes, scope: Any, receive: Receive, send: Send) -> None:
        if self._intake is None or not caller.may_publish:
            raise Refused(Fault.MAY_NOT_PUBLISH, "only the holder of the API's own token publishes events")
        with self._intake.place():
            body = await read_body(scope["headers"], receive)
            if body is not None:
                said = await self._intake.take(scope["headers"], body, self._enforcer.now().wall)
                await _reply(send, Reply(202, (_JSON, NO_STORE), encode(said)))

    async def _session(self, caller: Caller, segment: bytes, _: Any, __: Receive, send: Send) -> None:
        facts = _own(caller, segment)
        if not self._standings.ready:
            await _reply(send, not_loaded_reply())
            return
        standing = self._standings.of(facts).standing
        retry = (("Retry-After", str(self._enforcer.settings.retry_after)),) if standing.state is State.UNKNOWN else ()
        await _reply(send, Reply(200, (_JSON, NO_STORE, *retry), encode(standing)))

    async def _events(self, caller: Caller, segment: bytes, scope: Any, receive: Receive, send: Send) -> None:
        facts = _own(caller, segment)
        if not self._standings.ready:
            # Nothing tells of the end of the first loading: who came before it would never learn how it stands.
            await _reply(send, not_loaded_reply())
            return
        session_id = facts.session_id or ""
        self._hub.require_place(session_id)
        last = next((value for name, value in scope["headers"] if name == b"last-event-id"), b"")
        until = None if caller.claims is None else caller.claims.expires
        told = last.decode("ascii") if _LAST.fullmatch(last) else ""
        feed = Feed(lambda: self._standings.of(facts), lambda: self._enforcer.now().wall, told, until)
        await feed.serve(self._hub, session_id, receive, send)


_Handler: TypeAlias = Callable[[Api, Caller, bytes, Any, Receive, Send], Awaitable[None]]
ROUTES: Final[dict[str, dict[str, _Handler]]] = {
    "/v1/events": {"POST": Api._publish},  # noqa: SLF001 - of this module
    f"/v1/sessions/{_ID}": {"GET": Api._session},  # noqa: SLF001
    f"/v1/sessions/{_ID}/events": {"GET": Api._events},  # noqa: SLF001
    "/v1/openapi.json": {"GET": Api._session},  # noqa: SLF001 - answered before anybody is asked who they are
}
_OPEN: Final = frozenset({"/v1/openapi.json"})
_NO_HEAD: Final = frozenset({f"/v1/sessions/{_ID}/events"})


def _route(path: bytes) -> tuple[str, bytes]:
    """The path's template, and the segment that stands for the id. Raises Refused."""
    parts = path.split(b"/")
    segment = b""
    if len(parts) in (4, 5) and parts[2] == b"sessions":
        segment, parts[3] = parts[3], _ID.encode()
        if not segment:
            raise _nothing_here()
    found = b"/".join(parts).decode("latin-1")
    if found not in ROUTES:
        raise _nothing_here()
    return found, segment


def _nothing_here() -> Refused:
    return Refused(Fault.NOT_FOUND, f"here are {', '.join(ROUTES)}")


def _own(caller: Caller, segment: bytes) -> Facts:
    """What is known of the session that the path names and this caller may read. Raises Refused."""
    try:
        session_id = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        session_id = ""
    claims = caller.claims
    if not caller.may_read(session_id):
        raise Refused(Fault.NOT_YOUR_SESSION, "the token gives access to its own session alone")
    if not 1 <= len(session_id) <= MAX_SESSION_ID or session_id.startswith("~"):
        raise Refused(Fault.SESSION_ID_UNUSABLE, f"a session id has 1 to {MAX_SESSION_ID} characters in UTF-8 and does not begin with '~'")
    if claims is None:
        return Facts(session_id)
    return Facts(
        session_id, claims.subject, claims.principal, claims.roles, claims.tenant, auth_time=claims.auth_time,
        whole_second=claims.whole_second, acr=claims.acr,
    )  # fmt: skip


async def _reply(send: Send, reply: Reply) -> None:
    headers = [(name.lower().encode("ascii"), value.encode("ascii", "replace")) for name, value in reply.headers]
    headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
