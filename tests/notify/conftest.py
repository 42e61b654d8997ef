"""What tests of delivery share."""

import gc
import logging

import pytest

from tests.notify.listening import Listening

KEY = b"between the two of us"


@pytest.fixture
def listening():
    """A server that takes alerts."""
    one = Listening()
    one.start()
    yield one
    one.hold.set()
    one.stop()


@pytest.fixture
def secret_file(tmp_path):
    """What a webhook is signed with."""
    path = tmp_path / "secret"
    path.write_bytes(KEY + b"\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def refused(caplog):
    """Lets go of refused sockets within the test (see `broker_away`)."""
    # Records of its log would keep the errors, those their frames, and those the sockets.
    caplog.set_level(logging.CRITICAL + 1, "kafka")
    yield
    gc.collect()
