"""compose/gateways: each gateway has its page, and each page says the same of what a client gets."""

import re

from tests.gateways.proxies import PROXIES, SHIPPED

ALIKE = {
    "the session lives": "the service",
    "so it seems, by a view that is old, and the route is best effort": "the service",
    "it has ended": "401",
    "its principal is locked out": "403",
    "the sidecar has lost touch with the monitor, or has not loaded yet": "503",
    "the request names its session in a way that can't be used": "400",
}
OWN = ("the sidecar is gone", "the sidecar hangs")
"""Whose status differs: `tests/gateways` holds it against the real one."""


def test_every_gateway_that_is_shipped_is_tested() -> None:
    assert {path.name for path in SHIPPED.iterdir()} == {proxy.name for proxy in PROXIES}
    for proxy in PROXIES:
        assert {path.name for path in (SHIPPED / proxy.name).iterdir()} == {"README.md", *proxy.files}


def test_every_page_says_what_a_client_gets() -> None:
    for proxy in PROXIES:
        rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", proxy.readme(), re.MULTILINE)[1:])
        assert {happens: rows[happens].startswith(ALIKE[happens]) for happens in ALIKE} == dict.fromkeys(ALIKE, True), proxy.name
        assert rows.keys() == {*ALIKE, *OWN}
        assert {happens: proxy.documented(happens) >= 500 for happens in OWN} == dict.fromkeys(OWN, True)


def test_every_page_names_the_files_and_the_tests() -> None:
    for proxy in PROXIES:
        assert [name for name in proxy.files if f"`{name}`" not in proxy.readme()] == []
        assert f"`pytest tests/gateways -k {proxy.name}`" in proxy.readme()
