"""What the `worker` verb says of topics and ports that are not as it needs them."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.demo import POLICY

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.embedded


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """No token of this test's own is left where people have theirs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)


def test_topics_that_are_missing(cli, embedded):
    ended = cli("worker", "--bootstrap-servers", embedded.bootstrap_servers, "--topic-prefix", "none-", "--policy", str(POLICY))
    assert ended.code == 1
    assert "none-access-events" in ended.err
    assert "session-monitor topics apply" in ended.err


def test_topics_of_another_partition_count(cli, embedded, own_topics):
    servers, prefix = own_topics(embedded)
    ended = cli("worker", "--bootstrap-servers", servers, "--topic-prefix", prefix, "--partitions", "4", "--policy", str(POLICY))
    assert ended.code == 1
    assert "has 8 partitions, needs 4" in ended.err
    assert "--partitions 8" in ended.err


def test_a_port_of_the_api_that_is_taken(embedded, own_topics):
    servers, prefix = own_topics(embedded)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = {"bootstrap-servers": servers, "topic-prefix": prefix, "policy": POLICY, "from": "earliest", "api-port": port}
        command = [sys.executable, "-m", "monitor", "worker", *(f"--{name}={value}" for name, value in options.items())]
        # A process of its own: one that fails in the middle of its start leaves its event loop to the end of the process.
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}" in ended.stderr
