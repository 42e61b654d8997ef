"""The original request, out of what each proxy sends."""

import pytest

from monitor.gateway.dialects import (
    LARGEST_HEADERS,
    LARGEST_TARGET,
    Original,
    OriginalRefused,
    asks,
    read_original,
)
from tests.gateway.asking import pairs

ENVOY = ("POST", b"/check/v1/chats/7", b"a=1", {"Host": "app.example", "X-Forwarded-Proto": "https"})
NGINX = ("GET", b"/check", b"", {"X-Original-URI": "/v1/chats/7?a=1", "X-Original-Method": "POST"})
TRAEFIK = (
    "GET", b"/check", b"",
    {
        "X-Forwarded-Method": "POST", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example", "X-Forwarded-Uri": "/v1/chats/7?a=1",
        "X-Forwarded-For": "198.51.100.7",
    },
)  # fmt: skip
CADDY = (
    "GET", b"/check", b"",
    {
        "X-Forwarded-For": "198.51.100.7", "X-Forwarded-Host": "app.example", "X-Forwarded-Method": "POST", "X-Forwarded-Proto": "https",
        "X-Forwarded-Uri": "/v1/chats/7?a=1",
    },
)  # fmt: skip
HAPROXY = ("HEAD", b"/check", b"", {"X-Original-Method": "POST", "X-Original-URI": "/v1/chats/7?a=1", "X-Forwarded-For": "198.51.100.7"})


def read(method="GET", path=b"/check", query=b"", headers=()) -> Original | OriginalRefused:
    return read_original(method, path, query, pairs(headers))


def detail(**request) -> str:
    refused = read(**request)
    assert isinstance(refused, OriginalRefused)
    return refused.detail


@pytest.mark.parametrize("sent", [ENVOY, NGINX, TRAEFIK, CADDY, HAPROXY], ids=["envoy", "nginx", "traefik", "caddy", "haproxy"])
def test_each_proxy_tells_the_same_request(sent) -> None:
    original = read(*sent)
    assert (original.method, original.target) == ("POST", "/v1/chats/7?a=1")
    assert original.client_ip == (None if sent in (ENVOY, NGINX) else "198.51.100.7")


@pytest.mark.parametrize(
    ("path", "is_one"),
    [(b"/check", True), (b"/check/", True), (b"/check/x", True), (b"/check//x", True), (b"/checks", False), (b"/", False), (b"", False), (b"/x/check", False)],
)
def test_what_is_asked(path, is_one) -> None:
    assert asks(path) is is_one


def test_behind_the_prefix_no_header_speaks_about_path_and_method() -> None:
    forged = {"X-Forwarded-Uri": "/free", "X-Original-URI": "/free", "X-Forwarded-Method": "HEAD", "X-Original-Method": "HEAD"}
    original = read("PUT", b"/check/", b"", forged)
    assert (original.method, original.target) == ("PUT", "/")


def test_without_headers_it_is_the_root() -> None:
    assert read("PUT") == Original("PUT", "/")


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ([("X-Original-URI", "/a"), ("X-Forwarded-Uri", "/b")], "x-forwarded-uri"),
        ([("X-Original-URI", "/a"), ("X-Original-URI", "/b")], "x-original-uri"),
        ([("X-Original-Method", "GET"), ("X-Forwarded-Method", "PUT")], "x-forwarded-method"),
    ],
)
def test_a_header_that_a_client_added_never_wins(headers, name) -> None:
    assert name in detail(headers=headers)
    assert isinstance(read(headers=[(one, "/a" if "uri" in name else "GET") for one, _ in headers]), Original)


@pytest.mark.parametrize("target", ["", "v1", "*", "https://app.example/"])
def test_a_path_begins_with_a_slash(target) -> None:
    assert "does not begin with '/'" in detail(headers={"X-Original-URI": target})


@pytest.mark.parametrize("method", ["", "G T", "GET\x00", "x" * 33, "GÉT"])
def test_a_method_is_a_token(method) -> None:
    assert "method" in detail(headers={"X-Original-Method": method})
    if method:
        assert "method" in detail(method=method, path=b"/check/")


@pytest.mark.parametrize(
    ("sent", "target"),
    [("/é".encode(), "/%C3%A9"), (b"/\xff", "/%FF"), (b"/a b", "/a%20b"), (b"/%C3%A9", "/%C3%A9"), (b"/%", "/%"), (b"/a\x00", "/a%00")],
)
def test_a_path_has_one_spelling(sent, target) -> None:
    assert read(headers={"X-Original-URI": sent}).target == target
    assert read(path=b"/check" + sent).target == target


def test_sizes_are_bounded() -> None:
    longest = "/" + "x" * (LARGEST_TARGET - 1)
    assert read(headers={"X-Original-URI": longest}).target == longest
    assert str(LARGEST_TARGET) in detail(headers={"X-Original-URI": longest + "x"})
    assert str(LARGEST_TARGET) in detail(path=b"/check/x", query=b"x" * LARGEST_TARGET)
    assert isinstance(read(headers={"a": "x" * (LARGEST_HEADERS - 1)}), Original)
    assert str(LARGEST_HEADERS) in detail(headers={"a": "x" * LARGEST_HEADERS})


@pytest.mark.parametrize(
    ("lines", "ip"),
    [
        (["203.0.113.9, 198.51.100.7"], "198.51.100.7"), (["203.0.113.9", "198.51.100.7"], "198.51.100.7"), (["2001:db8::7"], "2001:db8::7"),
        (["unknown"], None), (["198.51.100.7,"], None), (["x" * 1000], None), ([], None),
    ],
)  # fmt: skip
def test_the_client_is_the_last_that_a_proxy_has_seen(lines, ip) -> None:
    assert read(headers=[("X-Forwarded-For", line) for line in lines]).client_ip == ip


@pytest.mark.parametrize(
    ("scheme", "host", "target", "url"),
    [
        ("https", "app.example:8443", "/a?b", "https://app.example:8443/a?b"), ("http", "[2001:db8::7]:80", "/", "http://[2001:db8::7]:80/"),
        ("https", "app.example", "//evil.example/", "https://app.example//evil.example/"),
        ("javascript", "app.example", "/a", "/a"), ("https", "evil.example/x?", "/a", "/a"), ("https", "a@evil.example", "/a", "/a"),
        ("", "", "/a", "/a"), ("", "", "//evil.example/", None), ("", "", "/\\evil.example/", None),
    ],
)  # fmt: skip
def test_where_to_come_back_to_never_leads_elsewhere(scheme, host, target, url) -> None:
    headers = {"X-Forwarded-Proto": scheme, "X-Forwarded-Host": host, "X-Forwarded-Uri": target}
    assert read(headers=headers).return_to == url
