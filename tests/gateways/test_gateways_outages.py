"""Without an answer of the sidecar nobody passes, and the client gets the status that the README says."""

import socket
from contextlib import closing

import pytest

from monitor.broker.port import LOOPBACK
from monitor.gateway.server import Server
from tests.gateway.asking import WITH_COOKIE
from tests.gateways.edge import Edge
from tests.gateways.proxies import Haproxy

pytestmark = pytest.mark.gateways


def refused(edge) -> int:
    """The status of a request that does not reach the service."""
    through = edge.service.asked
    answered = edge.ask(headers=WITH_COOKIE, method="POST", body=b"x" * 1000)
    assert edge.service.asked == through, answered
    return answered.status


def test_nobody_passes_while_the_sidecar_is_gone(own_edge) -> None:
    assert own_edge.ask(headers=WITH_COOKIE).status == 200
    own_edge.stop_sidecar()
    assert [refused(own_edge) for _ in range(3)] == [own_edge.proxy.documented("the sidecar is gone")] * 3
    own_edge.start_sidecar()
    assert own_edge.ask(headers=WITH_COOKIE).status == 200


@pytest.mark.slow
def test_nobody_passes_while_the_sidecar_hangs(own_edge) -> None:
    assert own_edge.ask(headers=WITH_COOKIE).status == 200
    own_edge.stop_sidecar()
    # The kernel takes the connections, and nobody answers.
    with closing(socket.create_server((LOOPBACK, own_edge.sidecar_port), backlog=16)):
        assert refused(own_edge) == own_edge.proxy.documented("the sidecar hangs")


@pytest.mark.parametrize("status", [200, 204, 302, 404, 500, 503])
def test_only_a_word_of_the_sidecar_lets_a_request_pass(edge, status) -> None:
    """Whatever else answers on its port: an answer that is none of the sidecar's stops the request, or at least names no session."""

    async def other(scope, receive, send) -> None:
        headers = [(b"content-length", b"0"), (b"location", b"/elsewhere")]
        await send({"type": "http.response.start", "status": status, "headers": headers[: 2 if status == 302 else 1]})
        await send({"type": "http.response.body", "body": b""})

    edge.app = other
    through = edge.service.asked
    answered = edge.ask(headers=WITH_COOKIE | {"X-Session-Id": "forged"})
    if edge.service.asked == through:
        assert answered.status != 200
    else:
        assert (status in (200, 204), "".join(answered.json["headers"].get("x-session-id", []))) == (True, "")


def test_a_script_of_haproxys_that_fails_lets_nobody_pass(tmp_path) -> None:
    class Broken(Haproxy):
        def render(self, name: str, text: str) -> str:
            assert text.count("core.httpclient()") == (name == "session_monitor.lua")
            return text.replace("core.httpclient()", 'error("broken")')

    edge = Edge(Broken, tmp_path)
    edge.app = Server  # nobody asks it
    try:
        edge.start()
        assert refused(edge) == 503
        assert "broken" in edge.proxy.said()
    finally:
        edge.stop()
