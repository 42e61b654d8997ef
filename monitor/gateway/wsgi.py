"""`SessionMiddleware` for WSGI applications (Flask, Django, or bare ones): refuses, and cuts what runs.

    app.wsgi_app = SessionMiddleware(app.wsgi_app, Gateway(bootstrap_servers="kafka:9092", session_id="cookie:session"))

An admitted request reaches the application with its `Session` in `environ["session_monitor"]`. A thread can't be stopped from
outside: a request whose session ends is cut when the application next gives something back. Before anything has been sent its
client then gets the refusal; after that the response breaks off, without its end. What an application waits for it should wait for
with `session.ended` in view.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from monitor.core.instants import Millis
from monitor.gateway.answers import Reply, marks
from monitor.gateway.dialects import Original
from monitor.gateway.embedding import Gateway
from monitor.gateway.exchange import SessionCut, is_feed
from monitor.gateway.facts import Facts
from monitor.gateway.question import refusal_of
from monitor.gateway.running import DRAIN, Running
from monitor.gateway.session import KEY, Ending, Session
from monitor.gateway.telling import Underway
from monitor.gateway.verdict import Verdict
from monitor.gateway.vouched import Excluded, Vouched, vouch

Environ: TypeAlias = dict[str, Any]
Write: TypeAlias = Callable[[bytes], object]
StartResponse: TypeAlias = Callable[..., Write]
App: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
FactsOf: TypeAlias = Callable[[Environ], Vouched]

_HEADER: Final = "HTTP_"
_SAFE: Final = "/:@!$&'()*+,;=~"


def nothing_vouched(_environ: Environ) -> Vouched:
    """The application knows no more than the request says."""
    return {}


class SessionMiddleware:
    """Put it outermost. For any number of threads, and for processes that are forked."""

    def __init__(
        self, app: App, gateway: Gateway, *, facts_of: FactsOf = nothing_vouched, exclude: Sequence[str] = (), drain: Millis = DRAIN
    ) -> None:
        """As `asgi.SessionMiddleware`. Raises InputError."""
        self._app, self._gateway, self._facts_of, self._drain = app, gateway, facts_of, drain
        self._excluded = Excluded(exclude)
        self._running: Running | None = None
        self._changing = threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        path = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1", "replace")
        if path.decode("utf-8", "replace") in self._excluded:
            return self._app(environ, start_response)
        gateway = self._gateway
        gateway.start()
        headers, asked = _headers(environ), _asked(environ, path)
        question = vouch(gateway.question_now(headers, asked.target, asked.client_ip, asked.method), self._facts_of(environ))
        run, here = _Run(question.facts), self._here()
        response = _Response(
            run, here, start_response, lambda verdict: refusal_of(question, verdict, headers, asked.method, asked.return_to, gateway.wording),
            method=asked.method,
        )  # fmt: skip
        here.begin(run)
        try:
            verdict = gateway.questions.decide(question)
            if not verdict.admitted:
                return response.refused(verdict)
            environ[KEY] = Session.of(question.facts, run.ended, stale=verdict.stale)
            response.marks = marks(verdict)
            if question.seen.kind != "keepalive":
                run.underway = gateway.inflight.begin(question.facts)
            return response.of(self._app(environ, response.start))
        except BaseException:
            response.end()
            raise

    def _here(self) -> Running:
        """What runs in this process, watched from the gateway's loop in the background."""
        loop, here = self._gateway.background.loop, self._running
        if here is None or here.loop is not loop:
            with self._changing:
                here = self._running
                if here is None or here.loop is not loop:
                    if here is not None:
                        self._gateway.unsubscribe(here.changed)
                    here = self._running = Running(self._gateway.enforcer, loop, drain=self._drain)
                    self._gateway.subscribe(here.changed)
        return here


class _Run:
    """A request that is served by a thread."""

    __slots__ = ("ended", "facts", "underway", "verdict")

    def __init__(self, facts: Facts) -> None:
        self.facts, self.ended = facts, Ending()
        self.verdict: Verdict | None = None
        self.underway: Underway | None = None

    def cut(self, verdict: Verdict) -> bool:
        self.verdict = verdict
        return True

    def rest(self) -> None:
        """Its session is in use by it no longer."""
        underway, self.underway = self.underway, None
        if underway is not None:
            underway.end()


class _Response:
    """What the server is given in the place of the application's response."""

    def __init__(self, run: _Run, here: Running, start_response: StartResponse, refusal: Callable[[Verdict], Reply], *, method: str) -> None:
        self.marks: tuple[tuple[str, str], ...] = ()
        """Headers to be added."""
        self._method = method
        self._run, self._here, self._start_response, self._refusal = run, here, start_response, refusal
        self._body: Iterable[bytes] = ()
        self._parts: Iterator[bytes] = iter(())
        self._began = self._sent = self._over = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Write:
        """The application's `start_response`."""
        self._began = True
        if self._method == "GET" and any(name.lower() == "content-type" and is_feed(value) for name, value in headers):
            self._run.rest()
        write = self._start_response(status, [*headers, *self.marks], *(() if exc_info is None else (exc_info,)))
        return lambda data: self._write(write, data)

    def of(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """The application's response, as far as it comes. One that is whole already is passed on as it is."""
        self._body = body
        if self._run.verdict is not None and not self._sent:
            self._close()
            return self.refused(self._run.verdict)
        if isinstance(body, list | tuple):
            self.end()
            return body
        self._parts = iter(body)
        return self

    def refused(self, verdict: Verdict) -> Iterable[bytes]:
        """The refusal, in the place of a response of which nothing has been sent."""
        reply = self._refusal(verdict)
        status = f"{reply.status} {HTTPStatus(reply.status).phrase}"
        headers = [*reply.headers, ("Content-Length", str(len(reply.body)))]
        # PEP 3333: what the application has said of its response is taken back by an error, while nothing has been sent.
        error = SessionCut("the session has ended")
        self._start_response(status, headers, *(((SessionCut, error, None),) if self._began else ()))
        self._over = True
        self.end()
        return [b"" if self._method == "HEAD" else reply.body]

    def __iter__(self) -> "_Response":
        return self

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        part = b""
        # An empty part says nothing, but has some servers send their headers. And it may be cut while the application is waited for.
        while self._run.verdict is None and not part:
            part = next(self._parts)
        verdict = self._run.verdict
        if verdict is None:
            self._sent = True
            return part
        if self._sent:
            raise SessionCut("the session has ended: its response breaks off here")
        return b"".join(self.refused(verdict))

    def end(self) -> None:
        """It is over. Idempotent."""
        self._here.end(self._run)
        self._run.rest()

    def close(self) -> None:
        """The server has no more use for it."""
        self._close()
        self.end()

    def _write(self, write: Write, data: bytes) -> None:
        if self._run.verdict is not None:
            raise SessionCut("the session has ended: nothing more is sent to its client")
        self._sent = self._sent or bool(data)
        write(data)

    def _close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


def _headers(environ: Environ) -> list[tuple[bytes, bytes]]:
    return [
        (name.removeprefix(_HEADER).lower().replace("_", "-").encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in environ.items()
        if name.startswith(_HEADER)
    ]


def _asked(environ: Environ, path: bytes) -> Original:
    """The request as its client has sent it; the address is the server's word, so a proxy must be known to the server."""
    target = quote(path or b"/", _SAFE)
    if query := environ.get("QUERY_STRING"):
        target += "?" + quote(query.encode("latin-1", "replace"), _SAFE + "%?#[]")
    return Original(
        environ["REQUEST_METHOD"], target, environ.get("REMOTE_ADDR") or None, environ.get("wsgi.url_scheme", ""), environ.get("HTTP_HOST", "")
    )
