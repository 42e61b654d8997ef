"""`Whole`: broker, worker, sidecar, issuer and service, each a real one, with all gateways that are installed side by side before them."""

import http.client
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from monitor.broker.administration import apply_topics
from monitor.broker.child import Child
from monitor.broker.port import LOOPBACK, free_port
from monitor.wire.topics import Topics
from tests.conftest import REQUIRED, World
from tests.gateway.worlds import until
from tests.gateways.edge import Answered, Loop, ask
from tests.gateways.issuer import AUDIENCE, Issuer
from tests.gateways.proxies import PROXIES, Proxy
from tests.gateways.service import Service
from tests.kafka.plain import Worker

ROOT = Path(__file__).parents[2]
PREFIX = "whole-"
SECONDS = 90
"""Nothing here takes that long; machines are shared."""


class Whole:
    """Use it with `with`. The broker is somebody else's, and may be killed."""

    def __init__(self, broker, policy: str, directory: Path, *options: str) -> None:
        """`options` are more of the sidecar's."""
        self.broker, self._directory, self._options = broker, directory, options
        self._policy = directory / "policy.yaml"
        self._policy.write_text(policy)
        self.world = World(broker.bootstrap_servers, PREFIX)
        # One that is missing is left out, but where all are required: then its absence is the test's.
        self.gateways = [proxy for proxy in PROXIES if "gateways" in REQUIRED or _installed(proxy)]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            apply_topics(self.broker.connection, Topics(PREFIX), replication=1)
            worker = Worker(*self.world, self._policy, self._directory / "worker.log").start()
            stack.callback(worker.ensure_dead)
            self.issuer = stack.enter_context(Issuer())
            self.sidecar = self._sidecar()
            stack.callback(self.sidecar.kill)
            loop = Loop()
            stack.callback(loop.close)
            self.service = Service()
            loop.run(self.service.start())
            stack.callback(lambda: loop.run(self.service.stop()))
            worker.wait_until_ready()
            self._ports = {}
            for kind in self.gateways:
                proxy = kind(self._directory, sidecar=self.sidecar_port, service=self.service.port)
                proxy.start()
                stack.callback(proxy.stop)
                self._ports[kind] = proxy.port
            until(lambda: _status(self.sidecar_port, "/readyz") == 200, SECONDS)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, gateway: type[Proxy], headers: dict[str, str], path: str = "/v1/chats") -> Answered:
        """What a client of this gateway gets."""
        return ask(self._ports[gateway], path, headers)

    def run(self, *words: str) -> str:
        """`session-monitor` with these words, as a person types them; what it prints."""
        command = [sys.executable, "-m", "monitor", *words, "--bootstrap-servers", self.world.bootstrap_servers, "--topic-prefix", PREFIX]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=self._directory, env=_environment())
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _sidecar(self) -> Child:
        self.sidecar_port = free_port()
        (self._directory / "sidecar").mkdir()
        command = [sys.executable, "-m", "monitor", "gateway", "--port", str(self.sidecar_port)]
        command += ["--bootstrap-servers", self.world.bootstrap_servers, "--topic-prefix", PREFIX]
        command += ["--issuer", self.issuer.url, "--audience", AUDIENCE, *self._options]
        child = Child(command, self._directory / "sidecar" / "output")
        child.start()
        until(lambda: not child.alive or _status(self.sidecar_port, "/healthz") == 200, SECONDS)
        assert child.alive, child.said()
        return child


def _installed(proxy: type[Proxy]) -> bool:
    try:
        proxy.program()
    except pytest.skip.Exception:
        return False
    return True


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSION_MONITOR_")}
    return kept | {"PYTHONPATH": str(ROOT)}


def _status(port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()
