"""Every test here runs on the embedded broker."""

import pytest


@pytest.fixture
def topics(embedded, own_topics):
    """Address and prefix of topics that belong to this test; also `.connection` and `.topics`."""
    return own_topics(embedded)
