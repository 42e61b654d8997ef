"""The sidecar's answers to proxies, in process."""

import pytest
from msgspec.structs import replace

from monitor.core.controls import Target
from monitor.core.errors import InvariantError
from monitor.gateway import MemoryView, Now, Outcome, Settings, Verdict, View, WithoutSession
from monitor.gateway.answers import Wording
from monitor.gateway.figures import Figures
from monitor.gateway.metrics import GatewayMetrics
from monitor.gateway.refusals import TokenFault, TokenRefused
from monitor.gateway.routes import parse_routes
from monitor.publish import hashed_session_id
from tests.gateway.asking import SESSION, WITH_COOKIE, ask, fresh, sidecar
from tests.gateway.signing import NOW as SIGNED_AT
from tests.gateway.signing import RULES, said, signed, verifier
from tests.gateway.worlds import T

ASKED = [
    pytest.param("/check/v1/chats?a=1", {}, id="envoy"),
    pytest.param("/check", {"X-Original-URI": "/v1/chats?a=1", "X-Original-Method": "GET"}, id="nginx"),
    pytest.param("/check", {"X-Forwarded-Uri": "/v1/chats?a=1", "X-Forwarded-Method": "GET", "X-Forwarded-Host": "app.example"}, id="traefik"),
    pytest.param("/check", {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/v1/chats?a=1", "X-Forwarded-Proto": "https"}, id="caddy"),
    pytest.param("/check", {"X-Original-Method": "GET", "X-Original-URI": "/v1/chats?a=1"}, id="haproxy"),
]
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class NotLoaded:
    view, ready, last_error = View(1, loaded=False), False, "no Kafka broker: nobody.example:9092 refuses connections"


@pytest.mark.parametrize(("path", "headers"), ASKED)
class TestEachDialect:
    """What every proxy gets, whichever way it asks."""

    async def test_a_live_session_passes_with_its_id(self, path, headers) -> None:
        answered = await ask(sidecar(), path, headers | WITH_COOKIE)
        assert (answered.status, answered.body) == (200, b"")
        assert answered.headers == {"x-session-id": SESSION, "cache-control": "no-store", "content-length": "0"}

    async def test_an_ended_one_is_asked_to_authenticate_again(self, path, headers) -> None:
        view = fresh()
        view.expire(SESSION, T - 1000)
        answered = await ask(sidecar(view), path, headers | WITH_COOKIE)
        assert answered.status == 401
        assert answered.headers["www-authenticate"].startswith('Bearer error="insufficient_user_authentication"')
        assert answered.headers["content-type"] == "application/problem+json"
        problem = answered.problem
        assert (problem["title"], problem["reason"], problem["session_id"]) == (
            "Session Expired: Please Reauthenticate", "idle_timeout", SESSION,
        )  # fmt: skip
        assert problem["effective_at"] == "2026-11-24T05:59:59.000Z"

    async def test_a_revoked_one_is_over(self, path, headers) -> None:
        view = fresh()
        view.revoke(SESSION, T)
        answered = await ask(sidecar(view), path, headers | WITH_COOKIE)
        assert (answered.status, answered.problem["reason"]) == (401, "admin_revoked")
        assert 'error="invalid_token"' in answered.headers["www-authenticate"]

    async def test_who_is_locked_out_is_forbidden(self, path, headers) -> None:
        view = fresh()
        view.lock(Target(client_ip="198.51.100.7"), T)
        app = sidecar(view)
        assert (await ask(app, path, headers | WITH_COOKIE)).status == 200
        answered = await ask(app, path, headers | WITH_COOKIE | {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"})
        assert (answered.status, answered.problem["reason"]) == (403, "locked")

    async def test_a_stale_view_serves_nobody_whose_data_may_be_sensitive(self, path, headers) -> None:
        app = sidecar(now=Now(T + 60_001, 60_001))
        answered = await ask(app, path, headers | WITH_COOKIE)
        assert (answered.status, answered.headers["retry-after"], answered.problem["reason"]) == (503, "5", "view_stale")

    async def test_before_it_is_loaded_nobody_passes(self, path, headers) -> None:
        for without in WithoutSession:
            for cookie in ({}, WITH_COOKIE):
                app = sidecar(NotLoaded, settings=Settings(without_session=without))
                assert (await ask(app, path, headers | cookie)).status in (400, 401, 503)
        assert (await ask(sidecar(NotLoaded), path, headers | WITH_COOKIE)).status == 503

    @pytest.mark.parametrize(("without", "status"), [("admit", 200), ("refuse", 400), ("challenge", 401)])
    async def test_without_a_session(self, path, headers, without, status) -> None:
        answered = await ask(sidecar(settings=Settings(without_session=WithoutSession(without))), path, headers | {"X-Session-Id": "forged"})
        assert answered.status == status
        # Sent all the same: a proxy puts it in the place of the client's.
        assert answered.headers.get("x-session-id") == ("" if status == 200 else None)
        assert answered.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)

    async def test_a_session_id_may_stand_in_the_path(self, path, headers) -> None:
        answered = await ask(sidecar(sources="path:/v1/{id}"), path, headers)
        assert answered.headers["x-session-id"] == hashed_session_id("chats")


async def test_an_unusable_session_id_is_a_fault_of_the_request() -> None:
    for value in ("", "a b", "x" * 8193):
        answered = await ask(sidecar(), headers={"Cookie": f'session="{value}"'})
        assert (answered.status, answered.problem["reason"]) == (400, "request_unusable")
        assert answered.problem["detail"].startswith("the session id in cookie:session")
    answered = await ask(sidecar(), headers=[("Cookie", "session=a; session=b")])
    assert "more than once" in answered.problem["detail"]


async def test_oversized_headers_are_a_fault_of_the_request() -> None:
    answered = await ask(sidecar(), headers=WITH_COOKIE | {"X-Long": "x" * 65_536})
    assert (answered.status, answered.problem["type"]) == (400, "urn:session-monitor:problem:request-unusable")


async def test_a_proxy_that_passes_no_answer_on_may_ask_for_it() -> None:
    view = fresh()
    metrics = GatewayMetrics()
    app = sidecar(view, metrics=metrics)
    nginx = WITH_COOKIE | {"X-Original-URI": "/v1/chats", "X-Original-Method": "POST"}
    # It was refused, and lives again by now: that is no answer of the service.
    answered = await ask(app, "/refusal", nginx)
    assert (answered.status, answered.headers["retry-after"]) == (503, "1")
    view.expire(SESSION, T)
    assert await ask(app, "/refusal", nginx) == await ask(app, "/check", nginx)
    assert (await ask(app, "/refusal", nginx)).problem["reason"] == "idle_timeout"
    name = "session_monitor_gateway_decisions_total"
    assert metrics.registry.get_sample_value(name, {"verdict": "refuse", "reason": "idle_timeout"}) == 1
    assert metrics.registry.get_sample_value(name, {"verdict": "admit", "reason": ""}) == 0


async def test_a_browser_gets_a_page_or_goes_to_the_login() -> None:
    view = fresh()
    view.expire(SESSION, T)
    headers = WITH_COOKIE | BROWSER | {"X-Forwarded-Uri": "/chats?a=1", "X-Forwarded-Host": "app.example", "X-Forwarded-Proto": "https"}
    login = "https://login.example/?to={return_to}"
    there = "https://login.example/?to=https%3A%2F%2Fapp.example%2Fchats%3Fa%3D1"
    answered = await ask(sidecar(view, wording=Wording(login)), headers=headers)
    assert (answered.status, answered.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert f'href="{there}"' in answered.body.decode()
    app = sidecar(view, wording=Wording(login, redirect_browsers=True))
    answered = await ask(app, headers=headers)
    assert (answered.status, answered.headers["location"]) == (302, there)
    # What was sent would be lost on the way.
    assert (await ask(app, headers=headers | {"X-Forwarded-Method": "POST"})).status == 401


class TestTokens:
    """With an issuer."""

    def app(self, view=None):
        return sidecar(view, sources="claim:sid,cookie:session", now=Now(SIGNED_AT, 0), verifier=verifier())

    async def test_a_verified_claim_names_the_session_as_it_is(self) -> None:
        answered = await ask(self.app(), headers={"Authorization": f"Bearer {signed()}"})
        assert (answered.status, answered.headers["x-session-id"]) == (200, "s-81f2")

    async def test_without_a_token_the_next_place_counts(self) -> None:
        assert (await ask(self.app(), headers=WITH_COOKIE)).headers["x-session-id"] == SESSION
        assert (await ask(self.app(), headers=WITH_COOKIE | {"Authorization": "Basic YTpi"})).headers["x-session-id"] == SESSION

    @pytest.mark.parametrize(
        ("authorization", "described"),
        [
            ("Bearer x", "malformed"), ("Bearer ", "malformed"), (f"Bearer {signed(said(exp=1))}", "expired"),
            (f"Bearer {signed(said(aud='elsewhere'))}", "audience"), (f"Bearer {signed()[:-8]}AAAAAAAA", "signature"),
        ],
        ids=["no-token", "empty", "expired", "audience", "forged"],
    )  # fmt: skip
    async def test_a_bad_token_is_challenged_whatever_else_is_there(self, authorization, described) -> None:
        answered = await ask(self.app(), headers=WITH_COOKIE | {"Authorization": authorization})
        assert (answered.status, answered.problem["reason"]) == (401, "token_invalid")
        assert 'error="invalid_token"' in answered.headers["www-authenticate"]
        assert described in answered.headers["www-authenticate"]
        assert authorization.removeprefix("Bearer ") not in answered.headers["www-authenticate"] or authorization in ("Bearer ", "Bearer x")

    async def test_two_tokens_are_refused(self) -> None:
        one = ("Authorization", f"Bearer {signed()}")
        assert (await ask(self.app(), headers=[one, one])).status == 401

    async def test_a_subject_that_is_locked_is_met_under_any_session(self) -> None:
        view = fresh()
        view.lock(Target(subject="alice@example.com"), T)
        app = self.app(view)
        for sid in ("s-81f2", "s-new"):
            answered = await ask(app, headers={"Authorization": f"Bearer {signed(said(sid=sid))}"})
            assert (answered.status, answered.problem["reason"]) == (403, "locked")
        assert (await ask(app, headers={"Authorization": f"Bearer {signed(said(sub='bob'))}"})).status == 200

    async def test_a_newer_authentication_revives_what_a_limit_ended_and_not_what_was_revoked(self) -> None:
        view = fresh()
        view.expire("s-81f2", SIGNED_AT - 100_000)
        view.revoke("s-over", SIGNED_AT - 100_000)
        app, seconds = self.app(view), SIGNED_AT // 1000

        async def status(sid, auth_time):
            return (await ask(app, headers={"Authorization": f"Bearer {signed(said(sid=sid, auth_time=auth_time))}"})).status

        assert [await status("s-81f2", seconds - ago) for ago in (200, 10)] == [401, 200]
        assert [await status("s-over", seconds - ago) for ago in (200, 10)] == [401, 401]

    async def test_an_issuer_that_is_away_is_no_fault_of_the_token(self) -> None:
        class Away:
            async def verify(self, token, now):
                return TokenRefused(TokenFault.KEYS_UNAVAILABLE)

        app = sidecar(sources="claim:sid", verifier=Away())
        answered = await ask(app, headers={"Authorization": f"Bearer {signed()}"})
        assert (answered.status, answered.headers["retry-after"], answered.problem["reason"]) == (503, "5", "token_unjudged")

    @pytest.mark.parametrize(("sid", "shown"), [("a b%", "a%20b%25"), ("é", "%C3%A9"), ("a\r\nx: y", "a%0D%0Ax:%20y"), ('a"b', 'a"b')])
    async def test_an_id_can_not_write_headers(self, sid, shown) -> None:
        assert (await ask(self.app(), headers={"Authorization": f"Bearer {signed(said(sid=sid))}"})).headers["x-session-id"] == shown


class TestRoutes:
    """What the operator says of paths."""

    OPEN = "/open/* classification=public posture=best-effort without-session=admit"
    STRICT = "/admin/* classification=restricted workload=console route=/admin"

    def app(self, view=None, *, routes=(OPEN, STRICT, "/*"), **more):
        return sidecar(view, routes=parse_routes(routes), **more)

    async def test_a_stale_view_serves_what_is_not_sensitive_and_marks_it(self) -> None:
        app = self.app(now=Now(T + 60_001, 60_001))
        answered = await ask(app, "/check/open/x", WITH_COOKIE)
        assert (answered.status, answered.headers["session-monitor-view"]) == (200, "stale")
        assert (await ask(app, "/check/open/x")).status == 200
        for path in ("/check/admin/x", "/check/elsewhere", "/check/open/../admin/x"):
            assert (await ask(app, path, WITH_COOKIE)).status in (503, 400)

    async def test_locks_meet_what_is_behind_a_path(self) -> None:
        for target in (Target(classification="restricted"), Target(workload="console")):
            view = fresh()
            view.lock(target, T)
            app = self.app(view)
            asked = ("/check/admin/x", "/check//admin/x", "/check/%61dmin", "/check/open/..%2fadmin/x", "/check/open/x", "/check/x")
            assert [(await ask(app, path, WITH_COOKIE)).status for path in asked] == [403, 400, 403, 400, 200, 200]

    async def test_a_path_that_leads_to_different_routes_is_a_fault_of_the_request(self) -> None:
        for path in ("/check/open/../admin", "/check/open/..;/admin"):
            answered = await ask(self.app(), path, WITH_COOKIE)
            assert (answered.status, answered.problem["reason"]) == (400, "request_unusable")
            assert "read in several ways" in answered.problem["detail"]
            assert (await ask(sidecar(), path, WITH_COOKIE)).status == 200

    async def test_only_where_it_is_said_no_session_is_needed(self) -> None:
        asked = ("/check/open/login", "/check/open/../x", "/check/x")
        assert [(await ask(self.app(), path)).status for path in asked] == [200, 400, 401]

    @pytest.mark.parametrize(("claim", "path", "status"), [
        ("best_effort", "/check/x", 200), ("best_effort", "/check/open/x", 200), ("strict", "/check/open/x", 503),
        ("whatever", "/check/open/x", 503), (None, "/check/open/x", 200), (None, "/check/x", 503),
    ])  # fmt: skip
    async def test_of_route_and_claim_the_stricter_posture_counts(self, claim, path, status) -> None:
        view = MemoryView()
        view.watermark(SIGNED_AT, 0)
        app = self.app(view, sources="claim:sid", now=Now(SIGNED_AT, 60_001), verifier=verifier(rules=replace(RULES, posture="edge.posture")))
        token = signed(said(edge={"posture": claim}))
        assert (await ask(app, path, {"Authorization": f"Bearer {token}"})).status == status


class Told(list):
    """A witness that keeps what was seen of the admitted."""

    def admitted(self, facts, seen, now) -> None:
        self.append((facts, seen))


class TestSeen:
    """What the monitor is told of a request besides its facts."""

    @pytest.mark.parametrize(("path", "method", "kind"), [
        ("/check/x", "GET", None), ("/check/x", "HEAD", None), ("/check/x", "OPTIONS", "keepalive"), ("/check/poll/1", "GET", "keepalive"),
        ("/check/agents", "POST", "agent"), ("/check/agents", "OPTIONS", "keepalive"),
    ])  # fmt: skip
    async def test_the_kind_of_an_activity(self, path, method, kind) -> None:
        told = Told()
        app = sidecar(witnesses=[told], routes=parse_routes(["/poll/* activity=keepalive", "/agents activity=agent"]))
        assert (await ask(app, path, WITH_COOKIE, method=method)).status == 200
        assert [seen.kind for _, seen in told] == [kind]
        told.clear()
        assert (await ask(app, "/check", WITH_COOKIE | {"X-Original-URI": path.removeprefix("/check"), "X-Original-Method": method})).status == 200
        assert [seen.kind for _, seen in told] == [kind]


class TestHealth:
    """What an orchestrator and a scraper ask."""

    async def test_it_is_ready_once_the_view_is_loaded_and_says_why_not(self) -> None:
        answered = await ask(sidecar(NotLoaded), "/readyz")
        assert answered.status == 503
        assert answered.problem == {"ok": False, "reason": f"the view is not loaded yet: {NotLoaded.last_error}"}
        answered = await ask(sidecar(), "/readyz")
        assert (answered.status, answered.problem) == (200, {"ok": True, "reason": "the view is loaded"})

    async def test_it_is_alive_before_it_is_ready(self) -> None:
        assert (await ask(sidecar(NotLoaded), "/healthz")).status == 200

    async def test_what_it_has_decided_and_how_old_its_view_is(self) -> None:
        view = fresh(partitions=2)
        view.expire(SESSION, T)
        view.lock(Target(subject="alice"), T)
        app = sidecar(view, now=Now(T, 1500))
        await ask(app, headers=WITH_COOKIE)
        await ask(app, headers={"Cookie": "session=other"})
        await ask(app)
        lines = (await ask(app, "/metrics")).body.decode().splitlines()
        assert {
            'session_monitor_gateway_decisions_total{reason="idle_timeout",verdict="refuse"} 1.0',
            'session_monitor_gateway_decisions_total{reason="",verdict="admit"} 1.0',
            'session_monitor_gateway_decisions_total{reason="login_required",verdict="refuse"} 1.0',
            'session_monitor_gateway_decisions_total{reason="request_unusable",verdict="refuse"} 0.0',
            'session_monitor_gateway_view_age_seconds{partition="0"} 1.5',
            'session_monitor_gateway_view_age_seconds{partition="1"} 1.5',
            "session_monitor_gateway_view_sessions 1.0",
            "session_monitor_gateway_view_locks 1.0",
            "session_monitor_gateway_view_loaded 1.0",
        } <= set(lines)

    async def test_what_has_become_of_the_activity(self) -> None:
        metrics = GatewayMetrics()
        app = sidecar(metrics=metrics)
        lines = (await ask(app, "/metrics")).body.decode()
        assert 'session_monitor_gateway_activity_events_total{fate="published"} 0.0' in lines
        metrics.watch_activity(lambda: Figures(published=3, coalesced=5, lost=1, buffered=2))
        lines = (await ask(app, "/metrics")).body.decode().splitlines()
        name = "session_monitor_gateway_activity"
        assert {f'{name}_events_total{{fate="{fate}"}} {count}.0' for fate, count in (("published", 3), ("coalesced", 5), ("lost", 1))} <= set(lines)
        assert f"{name}_buffered 2.0" in lines

    async def test_a_partition_of_which_nothing_was_heard_is_infinitely_old(self) -> None:
        lines = (await ask(sidecar(MemoryView()), "/metrics")).body.decode().splitlines()
        assert 'session_monitor_gateway_view_age_seconds{partition="0"} +Inf' in lines

    async def test_before_it_is_loaded_there_is_no_age(self) -> None:
        body = (await ask(sidecar(NotLoaded), "/metrics")).body.decode()
        assert "session_monitor_gateway_view_loaded 0.0" in body
        assert "view_age_seconds{" not in body

    async def test_a_reason_of_a_newer_monitor_is_counted_as_other(self) -> None:
        metrics = GatewayMetrics()
        for reason in ("future_reason", "idle_timeout"):
            metrics.decided(Verdict(Outcome.REFUSE, reason))
        value = metrics.registry.get_sample_value
        name = "session_monitor_gateway_decisions_total"
        assert value(name, {"verdict": "refuse", "reason": "other"}) == 1
        assert value(name, {"verdict": "refuse", "reason": "future_reason"}) is None

    @pytest.mark.parametrize("path", ["/", "/checks", "/check%2f", "/metrics/", "/v1/events", "/healthz/../check"])
    async def test_a_path_that_there_is_not(self, path) -> None:
        assert (await ask(sidecar(), path, WITH_COOKIE)).status == 404

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
    async def test_a_method_that_is_not_allowed(self, path) -> None:
        answered = await ask(sidecar(), path, method="POST")
        assert (answered.status, answered.headers["allow"]) == (405, "GET, HEAD")

    async def test_nothing_but_http_is_spoken(self) -> None:
        with pytest.raises(InvariantError, match="not lifespan"):
            await sidecar()({"type": "lifespan"}, None, None)
