"""`session-monitor alerts notify`: a process that tells a receiver, and ends when it is told to."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from monitor.cli import alerts
from monitor.core.errors import InputError
from monitor.wire.alerts import AlertRecord, AlertState, encode_alert
from monitor.wire.times import Instant
from tests.cli.embedded_topics import World
from tests.notify.listening import Listening

AT = Instant(1_795_000_000_000)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"between the two of us\n")
    path.chmod(0o600)
    return path


def test_a_receiver_is_told_of_what_fires_and_the_process_ends_when_told(world: World, secret: Path) -> None:
    listening = Listening()
    listening.start()
    alert = AlertRecord("aa11", "timeout_churn", AlertState.FIRING, "warning", AT, AT, "it stands out", subject="alice")
    world.write(world.topics.session_alerts.name, (0, encode_alert(alert)))
    command = [sys.executable, "-m", "monitor", "alerts", "notify", "--webhook", f"pager={listening.url}", "--secret-file", str(secret)]
    process = subprocess.Popen([*command, *world.options], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not listening.posts:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline, "nobody was told"
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert (process.returncode, b"telling pager" in said) == (0, True)
        assert b"between" not in said
    finally:
        process.kill()
        process.communicate()
        listening.hold.set()
        listening.stop()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "name a receiver"), (("--webhook", "pager=http://127.0.0.1:1"), "--secret-file"), (("--alertmanager", "http://x"), "NAME=VALUE"),
        (("--alertmanager", "am=ftp://x"), "http://HOST"), (("--alertmanager", "am=http://x", "--give-up-after", "1s"), "--give-up-after"),
    ],
)  # fmt: skip
def test_wrong_use_is_told(run_verb: Any, options: tuple[str, ...], said: str) -> None:
    done = run_verb(alerts, "alerts", "notify", *options, "--bootstrap-servers", "127.0.0.1:1")
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)
