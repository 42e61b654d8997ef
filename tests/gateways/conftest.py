"""Every test here needs real gateways."""

import pytest

from tests.gateway.asking import sidecar
from tests.gateways.edge import Edge
from tests.gateways.proxies import PROXIES


@pytest.fixture(scope="session")
def _edges(tmp_path_factory):
    """One of each gateway for all tests of this process, begun when it is needed."""
    begun = {}

    def get(proxy) -> Edge:
        if proxy not in begun:
            begun[proxy] = edge = Edge(proxy, tmp_path_factory.mktemp("gateway"))
            edge.app = sidecar()
            edge.start()
        return begun[proxy]

    yield get
    for edge in begun.values():
        edge.stop()


@pytest.fixture(params=[pytest.param(proxy, id=proxy.name) for proxy in PROXIES])
def proxy(request):
    """Each gateway in turn."""
    return request.param


@pytest.fixture
def edge(proxy, _edges):
    """It, beside a sidecar that the test chooses, and a service. Shared, one test after another."""
    proxy.program()
    return _edges(proxy)


@pytest.fixture
def own_edge(proxy, tmp_path):
    """One of the test's own, for what breaks."""
    one = Edge(proxy, tmp_path)
    one.app = sidecar()
    try:
        one.start()
        yield one
    finally:
        one.stop()
