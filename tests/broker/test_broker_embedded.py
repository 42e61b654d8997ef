"""The embedded broker: starts, stops, leaves nothing, says what is missing."""

import importlib.util
import socket
import tempfile

import pytest

from monitor.broker.administration import apply_topics
from monitor.broker.control_log import read_controls, write_control
from monitor.broker.embedded import EmbeddedBroker
from monitor.broker.reach import require_broker
from monitor.core.errors import AbsenceError, InvariantError, MissingExtraError
from monitor.wire.topics import Topics


@pytest.mark.embedded
def test_it_serves_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    broker = EmbeddedBroker()
    with broker:
        assert require_broker(broker.connection)
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AbsenceError, match="refuses connections"):
        require_broker(broker.connection)
    broker.stop()


@pytest.mark.embedded
def test_it_serves_what_an_orderly_end_left_in_a_directory_of_ours(tmp_path):
    topics = Topics("k-", 2)
    with EmbeddedBroker(directory=tmp_path) as broker:
        apply_topics(broker.connection, topics)
        write_control(broker.connection, topics, "a", b"kept")
    with EmbeddedBroker(directory=tmp_path) as broker:
        assert [one.value for one in read_controls(broker.connection, topics)] == [b"kept"]


@pytest.mark.embedded
def test_it_comes_back_on_its_port_after_a_kill():
    with EmbeddedBroker() as broker:
        address = broker.bootstrap_servers
        broker.kill()
        with pytest.raises(AbsenceError, match="refuses connections"):
            require_broker(broker.connection)
        broker.start()
        assert broker.bootstrap_servers == address
        assert require_broker(broker.connection)


def test_a_taken_port_is_said_before_anything_starts():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AbsenceError, match=f"the embedded broker: port {port} of 127.0.0.1 can't be had"):
            EmbeddedBroker(port).start()


def test_without_its_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"session-monitor\[embedded\]"):
        EmbeddedBroker().start()


def test_its_address_is_known_only_once_it_runs():
    with pytest.raises(InvariantError):
        _ = EmbeddedBroker().bootstrap_servers
