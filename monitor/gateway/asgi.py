"""`SessionMiddleware` for ASGI applications (Starlette, FastAPI, Django, or bare ones): refuses, and cuts what runs.

    app.add_middleware(SessionMiddleware, gateway=Gateway(bootstrap_servers="kafka:9092", session_id="cookie:session"))

An admitted request reaches the application with its `Session` in `scope["session_monitor"]`. The application runs in a task of its
own: so where a session ends, its client is answered or its connection closed at once, though the application may not let go of
what it does, as a thread can't. Runs on asyncio.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from monitor.core.instants import Millis
from monitor.gateway.dialects import Original
from monitor.gateway.embedding import Gateway
from monitor.gateway.exchange import (
    HttpExchange,
    Message,
    Receive,
    Scope,
    Send,
    SessionCut,
    WebSocketExchange,
)
from monitor.gateway.facts import Facts
from monitor.gateway.question import Question, refusal_of
from monitor.gateway.running import DRAIN, Running
from monitor.gateway.session import KEY, Ending, Session
from monitor.gateway.telling import Underway
from monitor.gateway.verdict import Verdict
from monitor.gateway.vouched import Excluded, Vouched, vouch
from monitor.wire.problem import row_of

log = logging.getLogger(__name__)

App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
FactsOf: TypeAlias = Callable[[Scope], Vouched]

_SAFE: Final = "/:@!$&'()*+,;=~"


def nothing_vouched(_scope: Scope) -> Vouched:
    """The application knows no more than the request says."""
    return {}


def no_keepalive(_message: Message) -> bool:
    """Every message of a WebSocket's client is a use of the session."""
    return False


class SessionMiddleware:
    """Put it outermost: what stands outside of it is not cut, and may bring to an end what was."""

    def __init__(
        self, app: App, gateway: Gateway, *, facts_of: FactsOf = nothing_vouched, exclude: Sequence[str] = (), drain: Millis = DRAIN,
        is_keepalive: Callable[[Message], bool] = no_keepalive,
    ) -> None:  # fmt: skip
        """Raises InputError.

        `facts_of` tells what the application knows of a request: `classification`, `workload`, `route`, `posture`, `subject` ...
        `exclude`: paths that are not asked about. `drain`: milliseconds that a request may go on when its session has ended.
        `is_keepalive` tells which messages of a WebSocket's client are no use of the session: pings of a protocol of your own.
        """
        self._app, self._gateway, self._facts_of, self._drain = app, gateway, facts_of, drain
        self._excluded, self._is_keepalive = Excluded(exclude), is_keepalive
        self._running: dict[asyncio.AbstractEventLoop, Running] = {}
        self._left_behind: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, one WebSocket, or the lifespan."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(scope, receive, send)
        elif kind not in ("http", "websocket") or scope["path"] in self._excluded:
            await self._app(scope, receive, send)
        else:
            self._gateway.start()
            await self._guard(scope, receive, send)

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked, here = _asked(scope), self._here()
        question = vouch(await self._gateway.questions.read(scope["headers"], asked.target, asked.client_ip, asked.method), self._facts_of(scope))
        run = _Run(question.facts)
        exchange = self._http(scope, receive, send, run, here) if scope["type"] == "http" else self._websocket(scope, receive, send, run, question)
        here.begin(run)
        try:
            decided = self._gateway.questions.decide(question)
            if decided.admitted:
                scope[KEY] = Session.of(question.facts, run.ended, stale=decided.stale)
                exchange.stale = decided.stale
                if scope["type"] == "http" and question.seen.kind != "keepalive":
                    run.underway = self._gateway.inflight.begin(question.facts)
                refused = await self._serve(self._app(scope, exchange.receive, exchange.send), run)
            else:
                refused = decided
        finally:
            here.end(run)
            run.rest()
        if refused is not None:
            reply = refusal_of(question, refused, scope["headers"], asked.method, asked.return_to, self._gateway.wording)
            await exchange.refuse(reply, row_of(refused.reason, refused.reauth).title)

    def _http(self, scope: Scope, receive: Receive, send: Send, run: "_Run", here: Running) -> HttpExchange:
        def complete() -> None:
            here.end(run)
            run.rest()

        return HttpExchange(scope, receive, send, on_subscribed=run.rest, on_complete=complete)

    def _websocket(self, scope: Scope, receive: Receive, send: Send, run: "_Run", question: Question) -> WebSocketExchange:
        def may_pass(message: Message) -> bool:
            """A message is a use of the session, as a request is: decided about, and an activity."""
            if self._is_keepalive(message):
                return True
            verdict = self._gateway.questions.decide(question)
            if not verdict.admitted and run.cut(verdict):
                self._gateway.enforcer.cut(question.facts, verdict, 1)
            return verdict.admitted

        return WebSocketExchange(scope, receive, send, may_pass=may_pass)

    async def _serve(self, serving: Awaitable[None], run: "_Run") -> Verdict | None:
        """Serve to the end, or until it is cut: then by which verdict. Raises what the application raises."""
        task = asyncio.ensure_future(serving)
        task.add_done_callback(run.finish)
        try:
            verdict = await run.over
        except asyncio.CancelledError:
            # The server's own: the application hears of it, and is waited for, as it would be without us.
            task.cancel()
            await asyncio.wait((task,))
            raise
        if verdict is None:
            await task
            return None
        task.cancel()
        self._left_behind.add(task)
        task.add_done_callback(self._forget)
        return verdict

    def _forget(self, task: "asyncio.Future[None]") -> None:
        """Whatever a request that was cut ends with, it is not its client's affair any more."""
        self._left_behind.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, SessionCut):
            log.info("cut_request_failed", exc_info=error)

    def _here(self) -> Running:
        """What runs on this event loop. An application may see several, as in tests."""
        loop = asyncio.get_running_loop()
        here = self._running.get(loop)
        if here is None:
            for gone in [one for one in self._running if one.is_closed()]:
                self._gateway.unsubscribe(self._running.pop(gone).changed)
            here = self._running[loop] = Running(self._gateway.enforcer, loop, drain=self._drain)
            self._gateway.subscribe(here.changed)
        return here

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin before the application does, and end after it; where it was begun by somebody else, that one ends it."""
        gateway = self._gateway
        ours = not gateway.running
        gateway.start()

        async def sent(message: Message) -> None:
            if ours and message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"):
                await asyncio.to_thread(gateway.stop)
            await send(message)

        await self._app(scope, receive, sent)


class _Run:
    """A request that is served by a task."""

    __slots__ = ("ended", "facts", "over", "underway")

    def __init__(self, facts: Facts) -> None:
        self.facts, self.ended = facts, Ending()
        self.over: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
        """Set when it has come to its end (None), or is cut."""
        self.underway: Underway | None = None

    def cut(self, verdict: Verdict) -> bool:
        if self.over.done():
            return False
        self.over.set_result(verdict)
        return True

    def rest(self) -> None:
        """Its session is in use by it no longer."""
        underway, self.underway = self.underway, None
        if underway is not None:
            underway.end()

    def finish(self, task: "asyncio.Future[None]") -> None:
        if not self.over.done():
            self.over.set_result(None)


def _asked(scope: Scope) -> Original:
    """The request as its client has sent it; the address is the server's word, so a proxy must be known to the server."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"], _SAFE).encode()
    query: bytes = scope.get("query_string") or b""
    target = quote((raw + b"?" + query if query else raw), _SAFE + "%?#[]")
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    client = scope.get("client")
    return Original(scope.get("method", "GET"), target, client[0] if client else None, scope.get("scheme", ""), host.decode("latin-1"))
