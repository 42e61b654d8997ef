"""`Sidecar`: external authorization over HTTP, as an ASGI application without a framework.

`/check`, `/check/...`  may this request pass? 200 with headers for the service behind; else the refusal for the client
`/refusal`              the answer that `/check` gives a client that is refused, for proxies that pass no answer on (nginx): the
                        proxy asks here after `/check` has refused. Not counted as a decision; never a 200
`/healthz`              200: the process answers
`/readyz`               200 once the view is loaded, 503 with the reason before
`/metrics`              Prometheus text
`/v1/...`               the sidecar's own API (`monitor.gateway.api`), where it has one

Who can reach it can ask about any session, so only the proxy may. What a client sends is answered with a 4xx where it can't be
used, never with a 5xx; a 503 says that the present is not known well enough.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from monitor.core.errors import InvariantError
from monitor.gateway.access import Verifies
from monitor.gateway.answers import PLAIN, Wording, marks
from monitor.gateway.dialects import PREFIX, Original, OriginalRefused, asks, read_original
from monitor.gateway.enforcer import Enforcer
from monitor.gateway.identity import SessionIdSources
from monitor.gateway.question import Question, Questions, encoded, refusal_of, unusable
from monitor.gateway.routes import NO_ROUTES, Routes
from monitor.gateway.verdict import Verdict
from monitor.observe.health import Verdict as Health
from monitor.wire.codec import encode

Headers: TypeAlias = list[tuple[bytes, bytes]]
Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]

Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

REFUSAL: Final = b"/refusal"
API: Final = b"/v1/"
SESSION_ID: Final = b"x-session-id"
"""Of an admitted request: its session, percent-encoded where it has other than visible ASCII, or `%`; empty where there is none.
Always sent, so that what a client writes under this name does not get through."""

_NO_STORE: Final = (b"cache-control", b"no-store")
_TEXT: Final = b"text/plain; charset=utf-8"
_SAFE: Final = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
_READS: Final = ("GET", "HEAD")


class Sidecar:
    """Answers a proxy's questions by a view that somebody else starts and stops. For HTTP alone; no lifespan."""

    def __init__(
        self, enforcer: Enforcer, sources: SessionIdSources, *, verifier: Verifies | None = None, wording: Wording = PLAIN,
        routes: Routes = NO_ROUTES, api: Application | None = None,
    ) -> None:  # fmt: skip
        """`sources` says where session ids stand, `routes` what is behind which path.

        With a `verifier` each bearer token is verified; without, none is looked at. `api` answers what stands below `/v1/`; without it
        that is not here.
        """
        self._enforcer, self._questions, self._wording = enforcer, Questions(enforcer, sources, verifier, routes), wording
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; only the API reads bodies."""
        if scope["type"] != "http":
            raise InvariantError(f"the sidecar speaks HTTP alone, not {scope['type']}: serve it without lifespan and WebSocket")
        path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        if asks(path):
            await self._check(scope, path, send)
        elif path == REFUSAL:
            await self._refusal(scope, send)
        elif self._api is not None and path.startswith(API):
            await self._api(scope, receive, send)
        elif (page := self._PAGES.get(path)) is None:
            await _answer(send, 404, _TEXT, b"not here; here are /check, /refusal, /healthz, /readyz and /metrics; with a token or an issuer, /v1/ too\n")
        elif scope["method"] not in _READS:
            await _answer(send, 405, _TEXT, b"GET or HEAD\n", (b"allow", b"GET, HEAD"))
        else:
            await page(self, send)

    # -- may it pass? -----------------------------------------------------------------------------------

    async def _check(self, scope: Scope, path: bytes, send: Send) -> None:
        original, question = await self._read(scope, path)
        verdict = self._questions.decide(question)
        if not verdict.admitted:
            await self._refuse(scope, original, question, verdict, send)
            return
        session_id = quote(question.facts.session_id or "", _SAFE, errors="replace").encode()
        headers = [(SESSION_ID, session_id), _NO_STORE, (b"content-length", b"0"), *encoded(marks(verdict))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _refusal(self, scope: Scope, send: Send) -> None:
        original, question = await self._read(scope, PREFIX)
        verdict = question.turned_away or self._enforcer.look(question.facts)
        if verdict.admitted:
            # It was refused a moment ago. To say 200 here would be an answer that the service never gave.
            await _answer(send, 503, _TEXT, b"the session may go on: please retry\n", (b"retry-after", b"1"))
        else:
            await self._refuse(scope, original, question, verdict, send)

    async def _read(self, scope: Scope, path: bytes) -> tuple[Original | None, Question]:
        headers = scope["headers"]
        original = read_original(scope["method"], path, scope.get("query_string", b""), headers)
        if isinstance(original, OriginalRefused):
            return None, unusable(original.detail)
        return original, await self._questions.read(headers, original.target, original.client_ip, original.method)

    async def _refuse(self, scope: Scope, original: Original | None, question: Question, verdict: Verdict, send: Send) -> None:
        method, return_to = (scope["method"], None) if original is None else (original.method, original.return_to)
        reply = refusal_of(question, verdict, scope["headers"], method, return_to, self._wording)
        length = (b"content-length", str(len(reply.body)).encode())
        await send({"type": "http.response.start", "status": reply.status, "headers": [*encoded(reply.headers), length]})
        await send({"type": "http.response.body", "body": reply.body})

    # -- how is it? -------------------------------------------------------------------------------------

    async def _healthz(self, send: Send) -> None:
        await _answer_health(send, Health(ok=True, reason="the event loop turns"))

    async def _readyz(self, send: Send) -> None:
        error = self._enforcer.following.last_error
        ready = self._enforcer.following.ready
        state = "the view is loaded" if ready else "the view is not loaded yet"
        await _answer_health(send, Health(ok=ready, reason=f"{state}: {error}" if error else state))

    async def _metrics_page(self, send: Send) -> None:
        metrics = self._enforcer.metrics
        metrics.observe(self._enforcer.following.view, self._enforcer.now())
        await _answer(send, 200, CONTENT_TYPE_LATEST.encode(), generate_latest(metrics.registry))

    _PAGES: Final = {b"/healthz": _healthz, b"/readyz": _readyz, b"/metrics": _metrics_page}


async def _answer_health(send: Send, health: Health) -> None:
    await _answer(send, 200 if health.ok else 503, b"application/json", encode(health))


async def _answer(send: Send, status: int, content_type: bytes, body: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", content_type), _NO_STORE, (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
