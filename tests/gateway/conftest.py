from collections.abc import Iterator

import pytest

from monitor.core.errors import AbsenceError


@pytest.fixture
def oidc() -> Iterator["OidcServer"]:  # noqa: F821 - imported where it is needed
    """A real OIDC server of the test's own, or a skip that says what is missing."""
    from tests.gateway.oidc_server import OidcServer

    try:
        server = OidcServer()
    except AbsenceError as error:
        pytest.skip(f"no OIDC server: {error}")
    try:
        server.start()
        yield server
    finally:
        server.close()
