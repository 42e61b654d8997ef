"""Routes: what the operator says of paths, and that no spelling of a path changes what is said of it."""

import pytest

from monitor.core.errors import InputError
from monitor.gateway import Posture, WithoutSession
from monitor.gateway import routes as module
from monitor.gateway.routes import UNKNOWN, Route, RouteRefused, parse_routes, stricter

ADMIN, REST = "/admin/* classification=restricted posture=strict", "/* classification=public posture=best-effort"
SPELLINGS = [
    "/public/../admin/x", "/public/%2e%2e/admin/x", "/public/..%2Fadmin/x", "/public/..;/admin/x", "/public/..\\admin/x", "//public/admin/x",
    "/public/%252e%252e/admin/x", "/admin;/x", "/admin%2Fx/../../y", "/admin\\x", "/admin%5cx", "/admin/x/../../y",
]  # fmt: skip


def found(routes, target: str) -> str:
    """The pattern that decides."""
    route = routes.find(target)
    return "refused" if isinstance(route, RouteRefused) else route.pattern


def test_all_that_can_be_said_of_a_path() -> None:
    routes = parse_routes(["/v1/models/fraud* classification=restricted workload=inference route=/v1/models/fraud posture=best-effort without-session=admit activity=agent"])
    assert routes.find("/v1/models/fraud-2?x=1") == Route(
        "/v1/models/fraud*", "restricted", "inference", "/v1/models/fraud", Posture.BEST_EFFORT, WithoutSession.ADMIT, "agent"
    )
    assert routes.find("/v1/models") is UNKNOWN
    assert parse_routes([]).find("/public/../x") is UNKNOWN


def test_the_first_that_matches_decides_and_it_may_say_nothing() -> None:
    routes = parse_routes(["/v1/a* workload=batch", "/v1/b", REST])
    assert [found(routes, path) for path in ("/v1/ab", "/v1/b", "/v1/bc", "/")] == ["/v1/a*", "/v1/b", "/*", "/*"]
    assert routes.find("/v1/b") == Route("/v1/b")


@pytest.mark.parametrize("path", ["/admin", "/admin/", "//admin//", "/admin/x", "/%61dmin/x", "/admin//x/", "/admin?x", "/admin/?x"])
def test_a_slash_at_the_end_doubled_ones_and_encoded_letters_do_not_count(path) -> None:
    routes = parse_routes([ADMIN, REST])
    assert found(routes, path) in ("/admin/*", "refused")
    assert found(routes, path.replace("//admin", "/admin")) == "/admin/*"


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("order", [(ADMIN, REST), (REST.replace("/*", "/public/*"), ADMIN), (ADMIN,)])
def test_no_spelling_steps_out_of_a_strict_route(order, spelling) -> None:
    assert found(parse_routes(order), spelling) in ("/admin/*", "refused")


def test_a_spelling_that_makes_no_difference_passes() -> None:
    routes = parse_routes([ADMIN, REST])
    for path in ("/groups/a%2Fb", "/public/./x", "/public/a;v=1", "/public/100%25", "/public/x/../y"):
        assert found(routes, path) == "/*"
    for path in ("/admin/a%2Fb", "/admin/x/../y", "/admin/x;v=1"):
        assert found(routes, path) == "/admin/*"


def test_what_is_remembered_is_bounded_and_the_same() -> None:
    routes = parse_routes([ADMIN])
    for number in range(module.REMEMBERED + 10):
        assert found(routes, f"/admin/{number}") == "/admin/*"
    assert len(routes._known) == 10
    routes.find("/" + "x" * module.REMEMBERED_LENGTH)
    assert len(routes._known) == 10
    assert [routes.find("/admin/1?a"), routes.find("/admin/1?b")] == [routes.routes[0]] * 2


def test_an_environment_variable_has_all_in_one_text() -> None:
    assert parse_routes([f"{ADMIN}\n  {REST}"]).routes == parse_routes([ADMIN, REST]).routes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("classification=public", r"'classification=public' is no pattern of a path, which begins with '/'"),
        ("v1/*", r"'v1/\*' is no pattern"),
        ("/x colour=red", r"route /x: 'colour=red' is not known here; allowed are classification=..., workload=..."),
        ("/x classification", "'classification' is not known here"),
        ("/x classification=", "'classification=' is not known here"),
        ("/x workload=a workload=b", "workload is given twice"),
        ("/x workload=" + "a" * 1025, "has 1025 characters; allowed are up to 1024"),
        ("/x posture=lax", "posture=lax is not known; allowed are strict and best-effort"),
        ("/x without-session=allow", "without-session=allow is not known; allowed are admit, refuse, challenge"),
        ("/x activity=inflight", "activity=inflight is not known; allowed are human, agent, keepalive"),
        ("/a%20b", "percent-encoding undone"), ("/a//b", "without '//'"), ("/a/../b", "'..'"), ("/a;b", "';'"),
        ("/x /y /x", "'/x' stands twice"),
    ],
)  # fmt: skip
def test_a_route_that_can_not_be_is_explained(text, said) -> None:
    with pytest.raises(InputError, match=said):
        parse_routes([text])


def test_of_two_postures_the_strict_one_counts() -> None:
    strict, best = Posture.STRICT, Posture.BEST_EFFORT
    assert [stricter(strict, best), stricter(best, strict), stricter(None, best), stricter(best, None), stricter(None, None)] == [
        strict, strict, best, best, None,
    ]  # fmt: skip
