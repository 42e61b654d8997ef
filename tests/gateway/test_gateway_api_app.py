"""The sidecar's own API: who may what, and what everybody else is told."""

import json

import msgspec
import pytest

from monitor.core.instants import MINUTE
from monitor.gateway.api.app import ROUTES
from monitor.gateway.api.openapi import document
from monitor.gateway.api.problems import ROWS, Fault
from tests.gateway.asking import ask, fresh, sidecar
from tests.gateway.calling import HOLDER, NOW, api, call, client
from tests.gateway.test_gateway_sidecar import NotLoaded

SESSION = "/v1/sessions/s-81f2"
EVENT = HOLDER | {"Content-Type": "application/json"}
OPENED = b'{"type":"session.opened","session_id":"s-1"}'


class TestWhoMayWhat:
    """By the token that is shown."""

    async def test_a_client_reads_its_own_session(self) -> None:
        view = fresh()
        called = api(view)
        view.warn("s-81f2", NOW + MINUTE)
        answered = await call(called.app, SESSION, client())
        assert (answered.status, answered.headers["content-type"]) == (200, "application/json")
        assert answered.problem == {
            "session_id": "s-81f2", "state": "live", "ends_at": "2026-11-24T06:01:00.000Z", "ends_for": "idle_timeout", "time_left_ms": MINUTE,
        }  # fmt: skip

    async def test_of_others_it_does_not_even_learn_whether_they_are_there(self) -> None:
        view = fresh()
        view.expire("s-ended", NOW)
        for path in ("", "/events"):
            called = api(view)
            others = ("s-ended", "s-unknown", "~s", "%ff", "x" * 300)
            answers = [await call(called.app, f"/v1/sessions/{one}{path}", client()) for one in others]
            assert all(answered == answers[0] for answered in answers)
            assert (answers[0].status, answers[0].problem["reason"]) == (403, "not_your_session")
            assert 'error="insufficient_scope"' in answers[0].headers["www-authenticate"]

    async def test_the_holder_of_the_token_reads_any(self) -> None:
        view = fresh()
        view.revoke("a/b é", NOW)
        answered = await call(api(view).app, "/v1/sessions/a%2Fb%20%C3%A9", HOLDER)
        assert (answered.status, answered.problem["session_id"], answered.problem["state"]) == (200, "a/b é", "ended")

    async def test_an_id_is_decoded_once(self) -> None:
        assert (await call(api().app, "/v1/sessions/a%252Fb", HOLDER)).problem["session_id"] == "a%2Fb"

    @pytest.mark.parametrize("path", ["/v1/sessions/~tick", "/v1/sessions/%ff", f"/v1/sessions/{'x' * 257}", "/v1/sessions/%7Ea/events"])
    async def test_an_id_that_no_session_can_have(self, path) -> None:
        answered = await call(api().app, path, HOLDER)
        assert (answered.status, answered.problem["reason"]) == (400, "session_id_unusable")

    async def test_only_the_holder_publishes(self) -> None:
        for called in (api(), api(token=None)):
            answered = await call(called.app, "/v1/events", client() | {"Content-Type": "application/json"}, OPENED, method="POST")
            assert (answered.status, answered.problem["reason"]) == (403, "may_not_publish")
            assert called.log.posts == []

    @pytest.mark.parametrize(
        ("headers", "error"),
        [({}, None), ({"Authorization": "Basic YTpi"}, None), ({"Authorization": "Bearer x"}, "invalid_token"), (client(exp=1), "invalid_token")],
    )  # fmt: skip
    @pytest.mark.parametrize(("path", "method"), [(SESSION, "GET"), (f"{SESSION}/events", "GET"), ("/v1/events", "POST")])
    async def test_without_a_good_token_there_is_a_challenge(self, headers, error, path, method) -> None:
        answered = await call(api().app, path, headers, OPENED, method=method)
        assert answered.status == 401
        assert answered.headers["www-authenticate"].startswith(f'Bearer error="{error}"' if error else "Bearer")
        assert ("error=" in answered.headers["www-authenticate"]) is (error is not None)
        assert answered.headers["content-type"] == "application/problem+json"

    async def test_two_tokens_are_none(self) -> None:
        both = [*HOLDER.items(), *client().items()]
        assert (await call(api().app, SESSION, both)).status == 401

    async def test_before_the_view_is_loaded_nothing_is_known_of_anybody(self) -> None:
        for path in (SESSION, f"{SESSION}/events"):
            answered = await call(api(NotLoaded).app, path, HOLDER)
            assert (answered.status, answered.headers["retry-after"], answered.problem["reason"]) == (503, "5", "view_stale")

    async def test_a_view_that_is_too_old_says_so(self) -> None:
        called = api()
        called.clock.pass_by(MINUTE)
        called.clock.now = msgspec.structs.replace(called.clock.now, monotonic=MINUTE + 1)
        answered = await call(called.app, SESSION, HOLDER)
        assert (answered.status, answered.headers["retry-after"], answered.problem["state"]) == (200, "5", "unknown")


class TestPaths:
    """What there is, and what not."""

    @pytest.mark.parametrize(
        "path",
        ["/v1/", "/v1/event", "/v1/events/", "/v1/sessions", "/v1/sessions/", "/v1/sessions//events", "/v1/sessions/a/b", "/v1/sessions/a/events/c",
         "/v1/%65vents", "/v1/sessions/{id}/x", "/v1//events"],
    )  # fmt: skip
    async def test_a_path_that_there_is_not(self, path) -> None:
        answered = await call(api().app, path, HOLDER)
        assert (answered.status, answered.problem["type"]) == (404, "urn:session-monitor:problem:not-found")

    async def test_without_an_api_none_of_it_is_there(self) -> None:
        for path in (SESSION, "/v1/openapi.json"):
            assert (await ask(sidecar(), path)).status == 404

    @pytest.mark.parametrize(("path", "method", "allowed"), [
        ("/v1/events", "GET", "POST"), (SESSION, "POST", "GET"), (f"{SESSION}/events", "HEAD", "GET"), (f"{SESSION}/events", "OPTIONS", "GET"),
    ])  # fmt: skip
    async def test_a_method_that_is_not_allowed(self, path, method, allowed) -> None:
        answered = await call(api().app, path, HOLDER, method=method)
        assert (answered.status, answered.headers["allow"]) == (405, allowed)

    async def test_the_head_of_a_session_may_be_asked_for(self) -> None:
        assert (await call(api().app, SESSION, HOLDER, method="HEAD")).status == 200

    async def test_the_rest_of_the_sidecar_is_as_it_was(self) -> None:
        assert (await ask(api().app, "/healthz")).status == 200


class TestDocument:
    """The OpenAPI document."""

    async def test_anybody_may_read_it(self) -> None:
        answered = await call(api().app, "/v1/openapi.json")
        assert (answered.status, answered.problem) == (200, json.loads(msgspec.json.encode(document())))

    def test_every_path_of_it_is_served_and_every_one_that_is_served_is_in_it(self) -> None:
        told = {path: {name.upper() for name in item if name != "parameters"} for path, item in document()["paths"].items()}
        assert told == {path: set(methods) for path, methods in ROUTES.items()}

    def test_every_status_of_a_fault_is_explained_but_those_of_what_is_not_there(self) -> None:
        explained = {int(status) for status in document()["components"]["responses"]}
        assert {row.status for fault, row in ROWS.items() if fault not in (Fault.NOT_FOUND, Fault.METHOD_NOT_ALLOWED)} <= explained
        assert set(ROWS) == set(Fault)

    def test_what_it_refers_to_is_there(self) -> None:
        whole = document()

        def references(part) -> set[str]:
            if isinstance(part, dict):
                own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
                return own.union(*(references(one) for one in part.values()))
            return set().union(*(references(one) for one in part)) if isinstance(part, list) else set()

        for reference in references(whole):
            place = whole
            for step in reference.removeprefix("#/").split("/"):
                place = place[step]
