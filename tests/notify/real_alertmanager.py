"""A real Alertmanager on a free port, and what `amtool` says of it."""

import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import pytest

from monitor.broker.child import Child
from monitor.broker.port import LOOPBACK, free_port

PACKAGE = "Debian: apt-get install prometheus-alertmanager"
START_SECONDS = 30
# What it notifies goes to a webhook of the test's own, at once.
CONFIG = """
route: {{receiver: test, group_by: [fingerprint], group_wait: 50ms, group_interval: 100ms, repeat_interval: 1h}}
receivers: [{{name: test, webhook_configs: [{{url: '{hook}', send_resolved: true}}]}}]
global: {{resolve_timeout: {resolve_timeout}}}
"""


def program(name: str) -> str:
    """Its path; skips the test where it is not installed."""
    path = shutil.which(name) or shutil.which(name, path="/usr/bin")
    if path is None:
        pytest.skip(f"{name} is not installed ({PACKAGE})")
    return path


class RealAlertmanager:
    """It forgets what it is not told again after `resolve_timeout`, where no end is said."""

    def __init__(self, directory: Path, *, hook: str, resolve_timeout: str = "1s") -> None:
        self._server, self._amtool = program("prometheus-alertmanager"), program("amtool")
        self._directory, self._child, self.port = directory, None, free_port()
        (directory / "config.yml").write_text(CONFIG.format(hook=hook, resolve_timeout=resolve_timeout))

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        command = [
            self._server, f"--config.file={self._directory}/config.yml", f"--storage.path={self._directory}/data",
            f"--web.listen-address={LOOPBACK}:{self.port}", "--cluster.listen-address=",
        ]  # fmt: skip
        self._child = Child(command, self._directory / "output")
        self._child.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            assert self._child.alive, f"it did not start: {self._child.said()}"
            assert time.monotonic() < deadline, f"it did not start in time: {self._child.said()}"
            time.sleep(0.05)

    def stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.stop(10.0)

    def alerts(self, *said: str):
        """`amtool alert query`, of what is active and not silenced unless it is asked for otherwise."""
        return msgspec.json.decode(self.amtool("-o", "json", "alert", "query", *said))

    def amtool(self, *said: str) -> str:
        command = [self._amtool, f"--alertmanager.url={self.url}", *said]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False
