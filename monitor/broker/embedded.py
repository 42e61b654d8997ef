"""`EmbeddedBroker`: a Kafka broker of a few megabytes, for `up`, demos and tests. Not for production: see README.md."""

import importlib.util
import re
import time
from pathlib import Path
from typing import Final

from monitor.broker.child import Child
from monitor.broker.connection import Connection
from monitor.broker.lifecycle import Stopping, serves
from monitor.broker.port import LOOPBACK, require_free
from monitor.broker.scratch import Scratch
from monitor.core.errors import AbsenceError, InvariantError, MissingExtraError

_ADDRESS: Final = re.compile(rb"^\s+kafka\s+\S+:(\d+)\s*$", re.MULTILINE)
_HARMLESS: Final = re.compile(r"^.*weak version `GLIBC[^\n]*\n?", re.MULTILINE)
"""The program's own libc is newer than it needs; the loader says so each time."""


class EmbeddedBroker(Stopping):
    """noida-db as a child process, on the loopback interface. It dies with this process, however that ends.

    Its data lives in a temporary directory and goes with `stop`; give `directory` to keep it.
    """

    def __init__(self, port: int = 0, directory: Path | None = None, start_timeout: float = 20.0) -> None:
        """`port` 0 takes a free one."""
        self._wanted = port
        self._port = 0
        self._directory = directory
        self._start_timeout = start_timeout
        self._scratch: Scratch | None = None
        self._child: Child | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`."""
        if not self._port:
            raise InvariantError("the embedded broker's address was asked for before it was started")
        return f"{LOOPBACK}:{self._port}"

    @property
    def connection(self) -> Connection:
        """How clients reach it."""
        return Connection(bootstrap_servers=self.bootstrap_servers)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.alive

    def said(self) -> str:
        """The last of its output, for when it has ended by itself."""
        return "" if self._child is None else _HARMLESS.sub("", self._child.said())

    def start(self) -> None:
        """Serve within `start_timeout` seconds. Raises MissingExtraError or AbsenceError (port taken, no start)."""
        program = _program()
        if self._wanted:
            require_free(self._wanted, "the embedded broker")
        self._scratch = self._scratch or Scratch("embedded")
        data = self._directory or self._scratch.path / "data"
        output = self._scratch.path / "output"
        output.unlink(missing_ok=True)
        command = [str(program), "start", "--only", "kafka", "--kafka-port", str(self._port or self._wanted)]
        self._child = Child([*command, "--data-dir", str(data)], output)
        self._child.start()
        deadline = time.monotonic() + self._start_timeout
        while self._child.alive and time.monotonic() < deadline:
            if found := _ADDRESS.search(output.read_bytes()):
                self._port = int(found[1])
                if serves(
                    self.connection,
                    deadline - time.monotonic(),
                    lambda: bool(self._child and self._child.alive),
                ):
                    return
                break
            time.sleep(0.01)
        said = self.said() or "it said nothing"
        self.stop()
        raise AbsenceError(f"the embedded broker did not start within {self._start_timeout:.0f} s: {said}")

    def stop(self) -> None:
        """End within 5 s and remove the data."""
        if self._child is not None:
            self._child.stop(5.0)
            self._child = None
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def kill(self) -> None:
        """End it with SIGKILL; `start` serves again on the same port, without what came in the last second or so."""
        if self._child is not None:
            self._child.kill()
            self._child = None


def _program() -> Path:
    # The package's own launcher would be a second process that passes no signals on.
    spec = importlib.util.find_spec("noida_db")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("embedded", "the embedded broker")
    program = Path(spec.submodule_search_locations[0]) / "noida-db"
    if not program.is_file():
        raise AbsenceError(
            f"the embedded broker has no program for this platform ({program}): use a Kafka broker of your own"
        )
    if not program.stat().st_mode & 0o100:
        program.chmod(0o755)  # wheels are unpacked without the bit
    return program
