"""What a worker answers over HTTP: health, metrics, and the sessions of its own partitions.

On loopback unless told otherwise. `/healthz` and `/readyz` are open; `/metrics` is on loopback; everything under
`/v1` wants the bearer token. It reads the worker's live tables in bounded turns and changes nothing.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from monitor.core.errors import AbsenceError, InputError, MissingExtraError
from monitor.core.instants import SECOND
from monitor.observe.health import Health, Verdict, Working
from monitor.observe.listing import ListingGoneError, Listings, read_query
from monitor.observe.metrics import WorkerMetrics
from monitor.observe.token import check_token, read_or_create_token, token_path
from monitor.observe.views import OwnedSessions, PartitionList, partition_of
from monitor.wire.codec import encode
from monitor.wire.problem import CONTENT_TYPE
from monitor.worker.clock import SystemClock
from monitor.worker.ports import Clock

try:
    from aiohttp import web
except ImportError as error:
    raise MissingExtraError("worker", "the worker's HTTP API") from error

log = logging.getLogger(__name__)

BUSY: Final = 8
"""Queries answered at one time; a ninth is told to come again."""
LONGEST_LINE: Final = 8190
"""Bytes of request line and of each header."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Hosting(Working, Protocol):
    """The owner of this worker's partitions."""

    @property
    def owned(self) -> Mapping[int, OwnedSessions]:
        """By number; it changes at a rebalance."""


class _Problem(msgspec.Struct, frozen=True):
    """RFC 9457; `type` is left at its default, `about:blank`."""

    title: str
    status: int
    detail: str


class Api:
    """The HTTP server of one worker."""

    def __init__(
        self,
        metrics: WorkerMetrics,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        name: str = "",
        advertise: str | None = None,
        open_metrics: bool | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Nothing is bound before `start`, and nothing but health and metrics is answered before `attach`.

        `port` 0 is a free one; without a `token` it is the one of this user's token file. `advertise` is the URL
        that others reach it under, where that is not the bound address. `open_metrics`: whether `/metrics` needs
        no token; None: on loopback only. `name` is shown with the partitions. Raises InputError for a bad token.
        """
        token = read_or_create_token(token_path()) if token is None else check_token(token, "the settings")
        self._token = f"Bearer {token}".encode()
        self._bind = (host, port)
        self._name = name
        self._advertise = advertise
        self._open_metrics = is_loopback(host) if open_metrics is None else open_metrics
        self._metrics = metrics
        self._clock = clock or SystemClock()
        self.health = Health()
        self._owned: Mapping[int, OwnedSessions] = {}
        self._listings: Listings | None = None
        self._busy = 0
        self._runner: web.AppRunner | None = None
        self._heart: asyncio.Task[None] | None = None

    def attach(self, host: Hosting) -> None:
        """Answer for the partitions of this owner from now on."""
        self.health.attach(host)
        self._owned = host.owned
        self._listings = Listings(host.owned, self._clock.monotonic)

    async def start(self) -> None:
        """Listen. Raises AbsenceError where the address can't be had."""
        host, port = self._bind
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/v1/sessions", self._sessions)
        app.router.add_get("/v1/sessions/{session_id}", self._session)
        app.router.add_get("/v1/matches", self._matches)
        app.router.add_get("/v1/partitions", self._partitions)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=2.0, max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE, keepalive_timeout=30.0,
        )  # fmt: skip
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise AbsenceError(
                f"the worker's API can't listen on {host}:{port}: {error.strerror}. "
                "Choose another port, or 0 for a free one."
            ) from error
        self._runner = runner
        self._heart = asyncio.create_task(self._beat(), name="heart")
        log.info("api_started", extra={"url": self.url})

    async def stop(self) -> None:
        """Close; requests under way have 2 s. Idempotent."""
        heart, self._heart = self._heart, None
        runner, self._runner = self._runner, None
        if heart is not None:
            heart.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await heart
        if runner is not None:
            await runner.cleanup()

    @property
    def addr(self) -> tuple[str, int]:
        """The address it is bound to. Raises AbsenceError unless it is started."""
        if self._runner is None or not self._runner.addresses:
            raise AbsenceError("the worker's API has no address: it is not started")
        address = self._runner.addresses[0]
        return address[0], address[1]

    @property
    def url(self) -> str:
        """Where others find it, without a slash at its end."""
        if self._advertise is not None:
            return self._advertise.rstrip("/")
        host, port = self.addr
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def _beat(self) -> None:
        while True:
            self.health.beat(self._clock.monotonic())
            await self._clock.sleep(SECOND)

    # --- around every answer -------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Ask for the token, and turn every failure into problem+json."""
        try:
            if self._wants_token(request.path) and not self._has_token(request):
                return problem(
                    401, "a bearer token is needed", {"WWW-Authenticate": 'Bearer realm="session-monitor"'}
                )
            return await handler(request)
        except ListingGoneError as error:
            return problem(410, str(error))
        except InputError as error:
            return problem(400, str(error))
        except web.HTTPException as answer:
            return problem(
                answer.status,
                answer.reason,
                {"Allow": answer.headers.get("Allow", "GET")} if answer.status == 405 else {},
            )
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("api_request_failed", extra={"route": request.match_info.route.name or "unnamed"})
            return problem(500, "the request failed here; the worker's log says why")

    def _wants_token(self, path: str) -> bool:
        return path.startswith("/v1/") or (path == "/metrics" and not self._open_metrics)

    def _has_token(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, self._token)

    # --- the answers ---------------------------------------------------------------------------------

    async def _healthz(self, _: web.Request) -> web.Response:
        return verdict(self.health.alive(self._clock.monotonic()))

    async def _readyz(self, _: web.Request) -> web.Response:
        return verdict(self.health.ready())

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _sessions(self, request: web.Request) -> web.Response:
        query, listings = read_query(parameters(request)), self._attached()
        return await self._bounded(lambda: listings.page(query))

    async def _session(self, request: web.Request) -> web.Response:
        found = self._attached().find(request.match_info["session_id"])
        if found is None:
            return problem(404, "no partition of this worker holds this session")
        return answer(found)

    async def _matches(self, request: web.Request) -> web.Response:
        query, listings = read_query(parameters(request)), self._attached()
        return await self._bounded(lambda: listings.count(query))

    async def _partitions(self, _: web.Request) -> web.Response:
        now, name, decided = self._clock.now(), self._name, self._metrics.decided_to
        owned = sorted(self._owned.items())
        return answer(
            PartitionList([partition_of(one, name, now, decided.get(number)) for number, one in owned])
        )

    def _attached(self) -> Listings:
        if self._listings is None:
            raise web.HTTPServiceUnavailable(reason="starting")
        return self._listings

    async def _bounded(self, ask: Callable[[], Awaitable[msgspec.Struct]]) -> web.Response:
        if self._busy >= BUSY:
            return problem(503, f"{BUSY} queries are being answered already", {"Retry-After": "1"})
        self._busy += 1
        try:
            return answer(await ask())
        finally:
            self._busy -= 1


def parameters(request: web.Request) -> dict[str, str]:
    """The query's parameters, each at most once. Raises InputError."""
    pairs = list(request.query.items())
    given = dict(pairs)
    if len(given) != len(pairs):
        raise InputError("each parameter may be given once")
    return given


def answer(body: msgspec.Struct) -> web.Response:
    """A struct as JSON that nobody keeps."""
    return web.Response(
        body=encode(body), content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """A failure as problem+json (RFC 9457)."""
    title = web.Response(status=status).reason or "Error"
    return web.Response(
        status=status, body=encode(_Problem(title, status, detail)), content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )  # fmt: skip


def verdict(given: Verdict) -> web.Response:
    """A verdict as a line of text, 200 or 503."""
    return web.Response(
        status=200 if given.ok else 503, text=given.reason + "\n", headers={"Cache-Control": "no-store"}
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
