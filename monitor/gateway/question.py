"""`Question`: what a request asks of a gateway, read the same way by every adapter; and the answer where it is refused.

Who is asking comes from the session id where it is configured, and from the verified token; what else is known (the client's
address, the application's own facts) an adapter adds.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from monitor.gateway.access import Verifies, bearer_token
from monitor.gateway.answers import PLAIN, Asked, Reply, Wording, reply_to
from monitor.gateway.claims import Claims
from monitor.gateway.enforcer import NOTHING_SEEN, Enforcer, Seen
from monitor.gateway.facts import Facts
from monitor.gateway.identity import Request, SessionIdRefused, SessionIdSources
from monitor.gateway.refusals import TokenRefused
from monitor.gateway.routes import NO_ROUTES, Route, RouteRefused, Routes, stricter
from monitor.gateway.verdict import Outcome, Verdict
from monitor.publish.draft import Kind
from monitor.wire.events import MAX_TEXT
from monitor.wire.problem import Refusal

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Names in lower case and values, as ASGI has them."""

_UNUSABLE: Final = Verdict(Outcome.REFUSE, Refusal.REQUEST_UNUSABLE.value)


class Question(msgspec.Struct, frozen=True):
    """What is asked, as far as it could be read."""

    facts: Facts = Facts()
    seen: Seen = NOTHING_SEEN
    turned_away: Verdict | None = None
    """It can't be decided about: no usable session id, a token that is not taken."""
    description: str | None = None
    detail: str | None = None


class Questions:
    """Reads requests for one enforcer. Whatever a client sends gives a question; nothing here raises."""

    def __init__(
        self, enforcer: Enforcer, sources: SessionIdSources, verifier: Verifies | None = None, routes: Routes = NO_ROUTES
    ) -> None:
        """`sources` says where session ids stand, `routes` what is behind which path.

        With a `verifier` each bearer token is verified; without, none is looked at.
        """
        self._enforcer, self._sources, self._verifier, self._routes = enforcer, sources, verifier, routes

    async def read(self, headers: Headers, target: str, client_ip: str | None = None, method: str = "GET") -> Question:
        """The question of a request to `target` (its path as it was sent, percent-encoded)."""
        if self._verifier is None:
            return self.told(headers, target, client_ip, None, method)
        shown = shown_token(headers)
        if isinstance(shown, str):
            return self.told(headers, target, client_ip, await self._verifier.verify(shown, self._enforcer.now().wall), method)
        return self.told(headers, target, client_ip, shown, method)

    def told(
        self, headers: Headers, target: str, client_ip: str | None, token: Claims | TokenRefused | None, method: str = "GET"
    ) -> Question:
        """The same, where it is known what its token says; None: it has none, or none is looked at."""
        if isinstance(token, TokenRefused):
            return Question(turned_away=self._token_refused(token), description=token.description)
        session_id = self._sources.find(Request(headers, target, {} if token is None else token.session_ids))
        if isinstance(session_id, SessionIdRefused):
            return unusable(session_id.detail)
        route = self._routes.find(target)
        if isinstance(route, RouteRefused):
            return unusable(route.detail)
        return Question(_facts(session_id, client_ip, route, token), _seen(headers, method, route, token))

    def decide(self, question: Question) -> Verdict:
        """The verdict, counted and told."""
        if question.turned_away is None:
            return self._enforcer.decide(question.facts, question.seen)
        return self._enforcer.turned_away(question.turned_away)

    def _token_refused(self, found: TokenRefused) -> Verdict:
        if found.status == 503:
            return Verdict(Outcome.REFUSE, Refusal.TOKEN_UNJUDGED.value, retry_after=self._enforcer.settings.retry_after)
        return Verdict(Outcome.REFUSE, Refusal.TOKEN_INVALID.value)


def shown_token(headers: Headers) -> str | TokenRefused | None:
    """The bearer token that a request shows."""
    return bearer_token([value for name, value in headers if name == b"authorization"])


def unusable(detail: str) -> Question:
    """A request that can't be judged. `detail` is for its sender."""
    return Question(turned_away=_UNUSABLE, detail=detail)


def refusal_of(
    question: Question, verdict: Verdict, headers: Headers, method: str, return_to: str | None, wording: Wording = PLAIN
) -> Reply:
    """The answer to a request that is refused; `return_to` is its URL, as the client knows it."""
    said = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    return reply_to(
        verdict, Asked.of(said, method, return_to), wording, session_id=question.facts.session_id, description=question.description,
        detail=question.detail,
    )  # fmt: skip


def encoded(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.lower().encode("ascii"), value.encode("ascii", "replace")) for name, value in headers]


def _facts(session_id: str | None, client_ip: str | None, route: Route, claims: Claims | None) -> Facts:
    """What can be vouched for: by the adapter, the operator's routes, and a verified token."""
    if claims is None:
        return Facts(
            session_id, client_ip=client_ip, classification=route.classification, workload=route.workload, route=route.route,
            posture=route.posture, without_session=route.without_session,
        )  # fmt: skip
    return Facts(
        session_id, claims.subject, claims.principal, claims.roles, claims.tenant, client_ip, route.classification, route.workload,
        route.route, claims.auth_time, claims.whole_second, claims.acr, stricter(route.posture, claims.posture), route.without_session,
    )  # fmt: skip


def _seen(headers: Headers, method: str, route: Route, claims: Claims | None) -> Seen:
    user_agent = next((value.decode("latin-1")[:MAX_TEXT] for name, value in headers if name == b"user-agent"), None)
    # Who asks what may be done with a resource does not use it (RFC 9110 section 9.3.7); browsers ask by themselves.
    kind: Kind | None = "keepalive" if method == "OPTIONS" else route.activity
    return Seen(user_agent or None, None if claims is None else claims.expires, kind)
