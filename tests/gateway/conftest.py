import gc
import logging

import pytest


@pytest.fixture
def refused(caplog):
    """Lets go of refused sockets within the test (see `broker_away`)."""
    # Records of its log would keep the errors, those their frames, and those the sockets.
    caplog.set_level(logging.CRITICAL + 1, "kafka")
    yield
    gc.collect()
