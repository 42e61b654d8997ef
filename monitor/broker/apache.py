"""`ApacheKafka`: a real single-node Apache Kafka (KRaft), for tests and benchmarks. Needs Java 17; see `libraries`."""

import base64
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from monitor.broker.child import Child
from monitor.broker.connection import Connection
from monitor.broker.libraries import VERSION, java, libraries
from monitor.broker.lifecycle import Stopping, serves
from monitor.broker.port import LOOPBACK, free_port, require_free
from monitor.broker.scratch import Scratch
from monitor.core.errors import AbsenceError, InvariantError

_ATTEMPTS: Final = 3
"""A free port may be taken before Kafka gets to it."""
_QUICK: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Up in half the time, with less throughput later."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class ApacheKafka(Stopping):
    """Apache Kafka as a child process, on the loopback interface. It dies with this process, however that ends.

    `kill` is SIGKILL; `restart` serves the same data on the same port again. `stop` removes the data.
    """

    def __init__(
        self, port: int = 0, heap: str = "1g", settings: Mapping[str, str] = _NOTHING,
        start_timeout: float = 60.0, *, short_lived: bool = False,
    ) -> None:  # fmt: skip
        """`settings` go over ours, in the broker's own words; `short_lived` starts quicker and serves slower."""
        self._short_lived = short_lived
        self._wanted = port
        self._port = 0
        self._heap = heap
        self._settings = dict(settings)
        self._start_timeout = start_timeout
        self._scratch: Scratch | None = None
        self._child: Child | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`."""
        if not self._port:
            raise InvariantError("Apache Kafka's address was asked for before it was started")
        return f"{LOOPBACK}:{self._port}"

    @property
    def connection(self) -> Connection:
        """How clients reach it."""
        return Connection(bootstrap_servers=self.bootstrap_servers)

    @property
    def process(self) -> Child:
        """The running broker: its pid, and signals to it."""
        if self._child is None:
            raise InvariantError("Apache Kafka's process was asked for before it was started")
        return self._child

    def start(self) -> None:
        """Serve. Raises AbsenceError where Java, the jars, or the port are not to be had."""
        if self._wanted:
            require_free(self._wanted, f"Apache Kafka {VERSION}")
        said = ""
        for _ in range(1 if self._wanted else _ATTEMPTS):
            self._prepare()
            if self._launch():
                return
            said = self.process.said() or "it said nothing"
            self.stop()
        raise AbsenceError(f"Apache Kafka {VERSION} did not start within {self._start_timeout:.0f} s: {said}")

    def stop(self) -> None:
        """End (15 s for an orderly one) and remove the data."""
        self._end()
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def kill(self) -> None:
        """End it with SIGKILL; data and port stay."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def restart(self) -> None:
        """Serve the same data on the same port; a broker that still runs is stopped in order first."""
        if self._scratch is None:
            raise InvariantError("Apache Kafka was restarted before it was started")
        self._end()
        if not self._launch():
            raise AbsenceError(f"Apache Kafka {VERSION} did not start again: {self.process.said()}")

    def _end(self) -> None:
        if self._child is not None:
            self._child.stop(15.0)
            self._child = None

    def _prepare(self) -> None:
        self._scratch = Scratch("kafka")
        self._port = self._wanted or free_port()
        lines = (
            f"{name}={value}" for name, value in (self._properties(free_port()) | self._settings).items()
        )
        properties = self._scratch.path / "server.properties"
        properties.write_text("\n".join(lines) + "\n")
        # Kafka wants 16 bytes in URL-safe base64, not beginning with a dash.
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "a")
        command = [
            java(), *_QUICK, "-cp", f"{libraries()}/*", "kafka.tools.StorageTool",
            "format", "-t", cluster, "-c", str(properties),
        ]  # fmt: skip
        wait = self._start_timeout
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=wait)  # noqa: S603
        if done.returncode:
            self.stop()
            raise AbsenceError(
                f"Apache Kafka {VERSION} can't format its storage: {(done.stderr or done.stdout).strip()[-1000:]}"
            )

    def _launch(self) -> bool:
        if self._scratch is None:
            raise InvariantError("Apache Kafka was launched before it was prepared")
        command = [java(), f"-Xmx{self._heap}", *(_QUICK if self._short_lived else ())]
        command += ["-cp", f"{libraries()}/*", "kafka.Kafka", str(self._scratch.path / "server.properties")]
        self._child = child = Child(command, self._scratch.path / "output")
        child.start()
        return serves(self.connection, self._start_timeout, lambda: child.alive)

    def _properties(self, controller: int) -> dict[str, str]:
        data = self._scratch.path / "data" if self._scratch else Path()
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self._port},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self._port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(data),
            # A topic made by accident would have the wrong number of partitions.
            "auto.create.topics.enable": "false",
            # After a SIGKILL the broker can't register again before its old registration has run out (9 s by default).
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "250",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            # 128 MB of heap by default, for topics of a few megabytes.
            "log.cleaner.dedupe.buffer.size": "20000000",
        }


def runnable() -> bool:
    """Whether `start` has what it needs, or can fetch it: for those who would rather skip than fail."""
    return shutil.which("java") is not None and (shutil.which("mvn") is not None or _cached())


def _cached() -> bool:
    from monitor.broker.libraries import home

    return any(home().glob("*.jar"))
