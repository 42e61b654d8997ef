"""`OidcServer`: a real OIDC server (npm's oauth2-mock-server) as a child process; fetched into the cache the first time."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

from monitor.broker.child import Child
from monitor.broker.port import free_port
from monitor.broker.scratch import Scratch
from monitor.core.errors import AbsenceError

VERSION = "8.2.3"
"""The last one for Node.js 20."""
OLDEST_NODE = (20, 19)
FETCH_SECONDS = 110
START_SECONDS = 30.0


def installed() -> Path:
    """The directory with the server. Raises AbsenceError where it is not there and can't be fetched."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "session-monitor"
    directory = cache / f"oauth2-mock-server-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "fetching-oidc.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.is_dir():
            _fetch(directory)
    return directory


def _fetch(directory: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise AbsenceError("npm, which would fetch oauth2-mock-server, is not installed")
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        server = Path(scratch) / "server"
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        command += ["--prefix", str(server), f"oauth2-mock-server@{VERSION}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS)
        except subprocess.TimeoutExpired:
            raise AbsenceError(f"npm could not fetch oauth2-mock-server within {FETCH_SECONDS} s") from None
        if done.returncode:
            said = (done.stdout + done.stderr).strip()[-500:]
            raise AbsenceError(f"npm could not fetch oauth2-mock-server {VERSION}: {said}")
        # Renamed when whole: a fetch cut short is never taken for one.
        server.rename(directory)


def node() -> str:
    """The path of Node.js. Raises AbsenceError where there is none that is new enough."""
    found = shutil.which("node")
    if found is None:
        raise AbsenceError("Node.js is not installed")
    said = subprocess.run(
        [found, "--version"], capture_output=True, text=True, check=False, timeout=30
    ).stdout
    numbers = tuple(int(part) for part in said.strip().removeprefix("v").split(".")[:2] if part.isdecimal())
    if numbers < OLDEST_NODE:
        raise AbsenceError(
            f"Node.js {'.'.join(map(str, OLDEST_NODE))} or newer is needed, this is {said.strip()}"
        )
    return found


class OidcServer:
    """One issuer on the loopback interface. `kill` and `start`: the same address, with new keys."""

    def __init__(self) -> None:
        self._command = [node(), str(Path(__file__).with_name("oidc_server.mjs")), str(installed())]
        self._scratch = Scratch("oidc")
        self._port = free_port()
        self.issuer = f"http://localhost:{self._port}"
        self._child: Child | None = None

    def start(self) -> None:
        """Serve. Raises AbsenceError where it does not come up."""
        self._child = Child([*self._command, str(self._port)], self._scratch.path / "output")
        self._child.start()
        deadline = time.monotonic() + START_SECONDS
        while self._child.alive and time.monotonic() < deadline:
            try:
                self.kids()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AbsenceError(f"oauth2-mock-server did not start: {self._child.said()}")

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()

    def close(self) -> None:
        """End it and remove what it left."""
        self.kill()
        self._scratch.remove()

    def add_key(self) -> None:
        """Have one key more; tokens are signed by each in turn."""
        before = self.kids()
        self._child.signal(signal.SIGHUP)
        deadline = time.monotonic() + START_SECONDS
        while self.kids() == before:
            assert time.monotonic() < deadline, "the server made no new key"
            time.sleep(0.02)

    def kids(self) -> list[str]:
        """The names of its keys."""
        return [key["kid"] for key in self.keys()]

    def keys(self) -> list[dict]:
        """Its public keys."""
        return json.loads(self._ask("/jwks"))["keys"]

    def token(self, **claims) -> str:
        """An access token with these claims, from its token endpoint."""
        form = urlencode({"grant_type": "client_credentials", "claims": json.dumps(claims)})
        return json.loads(self._ask("/token", form.encode()))["access_token"]

    def _ask(self, path: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", data)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read()
