"""`Gateway`: what an application holds that enforces for itself, by the middleware of `asgi` or `wsgi`.

It follows the topics, reads requests and decides about them. It begins by itself with the first request (or with the
application's lifespan), in every process anew, so servers may fork. Until the view is loaded, what is asked about is refused: 503.
What is in force here, and who was refused, is proven on `enforcement-receipts`; which sessions are used is told on `access-events`.
"""

import os
import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol, Self

from msgspec.structs import replace

from monitor.broker.connection import Connection
from monitor.core.errors import InputError
from monitor.core.instants import SECOND, Millis
from monitor.gateway.answers import PLAIN, Wording
from monitor.gateway.background import Background
from monitor.gateway.changes import Change, Listener
from monitor.gateway.claims import ClaimRules
from monitor.gateway.decide import DEFAULTS, Settings
from monitor.gateway.discovery import check_issuer
from monitor.gateway.enforcer import Enforcer, Witness
from monitor.gateway.facts import Now
from monitor.gateway.follower import Follower, present
from monitor.gateway.identity import ALLOWED, SessionIdSources, parse_sources
from monitor.gateway.metrics import GatewayMetrics
from monitor.gateway.question import Headers, Question, Questions, shown_token
from monitor.gateway.receipts import ForceFollowing
from monitor.gateway.routes import parse_routes
from monitor.gateway.shared_verifier import Checks, SharedVerifier, verifier_by
from monitor.gateway.telling import GRANULARITIES, Telling, Tells, TellsNobody, instance_name
from monitor.wire.topics import Topics

_THREAD: Final = "session-monitor-gateway"


class Followed(ForceFollowing, Protocol):
    """A view with a life: `Follower`, `MemoryView`."""

    def start(self) -> None:
        """Begin to follow; returns at once."""

    def stop(self) -> None:
        """End."""

    def wait_ready(self, seconds: float) -> bool:
        """Wait until it is loaded; whether it is."""

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with what changes."""


class Gateway:
    """One for an application, whatever threads and event loops it has. `start` and `stop` it, use `with`, or let it begin by itself."""

    def __init__(
        self, *, session_id: str = "", bootstrap_servers: str = "", connection: Connection | None = None, topic_prefix: str = "",
        issuer: str = "", audience: str | Sequence[str] = (), tokens: ClaimRules | None = None, settings: Settings = DEFAULTS,
        wording: Wording = PLAIN, routes: Sequence[str] = (), name: str = "application", receipts: bool = True, activity: bool = True, granularity: Millis = SECOND,
        witnesses: Sequence[Witness] = (), metrics: GatewayMetrics | None = None, view: Followed | None = None,
        verifier: Checks | None = None, now: Callable[[], Now] = present,
    ) -> None:  # fmt: skip
        """Nothing is read before it begins. Raises InputError for what can't be used, MissingExtraError where tokens can't be verified.

        `session_id` says where session ids stand: `cookie:session`, `claim:sid,header:x-session` ... (docs/identity.md); with an
        issuer it is `claim:sid` unless said otherwise. `bootstrap_servers` or `connection`: where Kafka is. `issuer` and `audience`: whose
        bearer tokens are verified, and which of them are for us; `tokens` says the same in all detail. `routes`: what is behind
        which path, as the sidecar's --route says it (docs/gateway.md). `name`: what begins the names of its instances, each of
        which is another; `receipts`: whether they prove what is in force; `activity`: whether they tell which sessions are used, those
        uses as one that lie within `granularity` (ms). For tests, `view` (a `MemoryView`) takes the place of Kafka,
        `verifier` that of the issuer, `now` that of the clocks.
        """
        self._tokens = _tokens(issuer, audience, tokens, session_id)
        self._sources = _sources(session_id, verified=self._tokens is not None or verifier is not None)
        self._source = _source(bootstrap_servers, connection, view)
        self._topics, self._checks, self._routes = Topics(topic_prefix), verifier, parse_routes(routes)
        least, most = GRANULARITIES
        if not least <= granularity <= most:
            raise InputError(f"gateway: granularity is {granularity} ms; allowed are {least} to {most}")
        self._name, self._proves, self._granularity = name, receipts, granularity if activity else None
        self._settings, self._now = settings, now
        self._witnesses = tuple(witnesses)
        self.metrics: Final = metrics or GatewayMetrics()
        """On a registry of their own: `metrics.registry`."""
        self.wording: Final = wording
        self._listeners: tuple[Listener, ...] = ()
        self._subscribed: Followed | None = None
        self._changing = threading.Lock()
        self._runs = False
        self._assemble()

    def _assemble(self) -> None:
        """Make all parts, for this process: of another's the threads are not here, and the connections and the name are not ours."""
        self._process = os.getpid()
        self.background = Background(_THREAD)
        """Runs while the gateway does."""
        following = self._following = self._followed()
        if self._subscribed is not following:
            following.subscribe(self._changed)
            following.when_in_force(self.metrics.in_force)
            self._subscribed = following
        self._telling = self._make_telling(following)
        witnesses = (*self._witnesses, *self._telling.witnesses)
        self.enforcer = Enforcer(following, self._now, settings=self._settings, metrics=self.metrics, witnesses=witnesses)
        self.inflight = self._telling.inflight
        """To be told of requests that run."""
        self._verifier = self._make_verifier()
        self.questions = Questions(self.enforcer, self._sources, self._verifier, self._routes)
        """Reads requests, on event loops; `question_now` does in threads."""

    @property
    def ready(self) -> bool:
        """Whether the view is loaded: for the application's own readiness."""
        return self.running and self._following.ready

    @property
    def running(self) -> bool:
        """Whether it has begun, in this process."""
        return self._runs and self._process == os.getpid()

    def start(self) -> None:
        """Begin; returns at once. Where it runs already this does nothing, at no cost to speak of."""
        if not self.running:
            with self._changing:
                if not self.running:
                    self._begin()

    def stop(self) -> None:
        """End, within half a minute at the worst; idempotent. What is known stays, and ages."""
        with self._changing:
            if self.running:
                self._runs = False
                self._following.stop()
                if self._verifier is not None:
                    self._verifier.stop()
                self._telling.stop()
                self.background.stop()

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """End."""
        self.stop()

    def wait_ready(self, seconds: float) -> bool:
        """Wait until the view is loaded; whether it is."""
        return self._following.wait_ready(seconds)

    def question_now(self, headers: Headers, target: str, client_ip: str | None = None, method: str = "GET") -> Question:
        """As `questions.read`, in a thread."""
        if self._verifier is None:
            return self.questions.told(headers, target, client_ip, None, method)
        shown = shown_token(headers)
        token = self._verifier.verify_now(shown, self.enforcer.now().wall) if isinstance(shown, str) else shown
        return self.questions.told(headers, target, client_ip, token, method)

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with what changes, from the thread that feeds the view: it must neither raise nor wait."""
        with self._changing:
            self._listeners = (*self._listeners, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Call it no more."""
        with self._changing:
            self._listeners = tuple(one for one in self._listeners if one != listener)

    def _begin(self) -> None:
        if self._process != os.getpid():
            self._assemble()
        self.background.start()
        if self._verifier is not None:
            self._verifier.start()
        self._telling.start()
        self._following.start()
        self._runs = True

    def _followed(self) -> Followed:
        return Follower(self._source, self._topics) if isinstance(self._source, Connection) else self._source

    def _make_telling(self, following: Followed) -> Tells:
        if not isinstance(self._source, Connection):
            return TellsNobody()
        return Telling(
            self._source, self._topics, instance_name(self._name), following, self._now, self.metrics, receipts=self._proves,
            granularity=self._granularity,
        )  # fmt: skip

    def _make_verifier(self) -> SharedVerifier | None:
        if self._checks is not None:
            return SharedVerifier(self._checks, self.background)
        return None if self._tokens is None else verifier_by(self._tokens, self.background)

    def _changed(self, changes: Sequence[Change]) -> None:
        for listener in self._listeners:
            listener(changes)


def _tokens(issuer: str, audience: str | Sequence[str], tokens: ClaimRules | None, session_id: str) -> ClaimRules | None:
    if tokens is not None:
        if issuer or audience:
            raise InputError("gateway: tokens is given, so issuer and audience must not be: they stand in it")
        return replace(tokens, session_ids=parse_sources(session_id).claims) if session_id else tokens
    if not issuer:
        if audience:
            raise InputError("gateway: audience is given without issuer, so no token would be verified; give issuer too")
        return None
    claims = parse_sources(session_id).claims if session_id else ("sid",)
    return ClaimRules(check_issuer(issuer), (audience,) if isinstance(audience, str) else tuple(audience), claims)


def _sources(session_id: str, *, verified: bool) -> SessionIdSources:
    if not session_id and not verified:
        raise InputError(f"gateway: nothing says where session ids stand; give session_id ({ALLOWED}), or issuer")
    sources = parse_sources(session_id or "claim:sid")
    if sources.claims and not verified:
        raise InputError(f"gateway: session_id {session_id!r} takes a claim, which only a verified token has; give issuer and audience")
    return sources


def _source(bootstrap_servers: str, connection: Connection | None, view: Followed | None) -> Connection | Followed:
    given = [one for one in (bootstrap_servers and Connection(bootstrap_servers=bootstrap_servers), connection, view) if one]
    if len(given) != 1:
        raise InputError("gateway: give one of bootstrap_servers, connection and view: where it learns who has ended")
    return given[0]
