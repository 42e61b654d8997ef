"""The brokers and the OIDC server that tests run on: what the machine has, or a skip that says what it has not.

SESSION_MONITOR_TEST_KAFKA   host:port of an Apache Kafka to use; its topics get prefixes of their own
SESSION_MONITOR_REQUIRE      worlds (kafka, embedded, oidc, gateways, alertmanager; with commas) whose absence is a failure, not a skip
"""

import functools
import logging
import os
import signal
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, settings

from monitor.broker.administration import apply_topics
from monitor.broker.apache import ApacheKafka
from monitor.broker.connection import Connection
from monitor.broker.embedded import EmbeddedBroker
from monitor.broker.libraries import java, libraries
from monitor.core.errors import AbsenceError, MissingExtraError
from monitor.wire.topics import Topics

# Machines are shared: how long an example takes says nothing about it.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

ADDRESS = "SESSION_MONITOR_TEST_KAFKA"
REQUIRED = frozenset(os.environ.get("SESSION_MONITOR_REQUIRE", "").replace(",", " ").split())


def pytest_configure() -> None:
    """Background jobs and nohup start with signals ignored, and children inherit that: what is tested here is them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A world that is required is there, or the run fails: nothing passes by skipping."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        missing = sorted(REQUIRED & {mark.name for mark in item.iter_markers()})
        if missing:
            report.outcome = "failed"
            report.longrepr = (
                f"{', '.join(missing)} is required here (SESSION_MONITOR_REQUIRE), but: {report.longrepr}"
            )
    return report


class Served(msgspec.Struct, frozen=True):
    """A broker that runs, however it came to run."""

    connection: Connection

    @property
    def bootstrap_servers(self) -> str:
        return self.connection.bootstrap_servers


class World(NamedTuple):
    """A broker and the topics on it that belong to one test; unpacks to address and prefix."""

    bootstrap_servers: str
    prefix: str

    @property
    def connection(self) -> Connection:
        return Connection(bootstrap_servers=self.bootstrap_servers)

    @property
    def topics(self) -> Topics:
        return Topics(self.prefix)


@pytest.fixture(scope="session")
def embedded() -> Iterator[Served]:
    """The embedded broker, one for all tests of this process."""
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(EmbeddedBroker())
        except MissingExtraError as error:
            pytest.skip(str(error))
        yield Served(broker.connection)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Served]:
    """A real Apache Kafka, one for all tests of this process: an address, else a container, else the Maven jars."""
    if address := os.environ.get(ADDRESS):
        yield Served(Connection(bootstrap_servers=address))
        return
    with ExitStack() as stack:
        if (container := _container(stack)) is not None:
            yield Served(container)
            return
        _require_jars()
        yield Served(stack.enter_context(ApacheKafka(heap="512m", short_lived=True)).connection)


@pytest.fixture
def apache_kafka() -> Iterator[Callable[..., ApacheKafka]]:
    """Makes Apache Kafkas of the test's own, to be killed and restarted; those still there at its end are stopped."""
    _require_jars()
    with ExitStack() as stack:

        def make(**settings) -> ApacheKafka:
            return stack.enter_context(ApacheKafka(**{"heap": "512m", "short_lived": True, **settings}))

        yield make


@pytest.fixture
def own_topics() -> Callable[[Served], World]:
    """Makes the topics of one test on a broker, under a prefix of its own."""

    def make(broker: Served) -> World:
        prefix = f"t{uuid.uuid4().hex[:10]}-"
        apply_topics(broker.connection, Topics(prefix), replication=1)
        return World(broker.bootstrap_servers, prefix)

    return make


@pytest.fixture
def oidc() -> Iterator["OidcServer"]:  # noqa: F821 - imported where it is needed
    """A real OIDC server of the test's own."""
    from tests.gateway.oidc_server import OidcServer

    try:
        server = OidcServer()
    except AbsenceError as error:
        pytest.skip(f"no OIDC server: {error}")
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def cli(capfd, monkeypatch) -> Iterator[Callable[..., "Ended"]]:
    """Runs the program as a shell would, in this process."""
    from monitor.cli.program import main

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("kafka", "aiokafka", "faust", "mode")}
    # Lines of 80 columns would be what a test sees of errors.
    monkeypatch.setenv("COLUMNS", "400")

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["session-monitor", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(False)


class Ended(NamedTuple):
    """What the program said."""

    code: int
    out: str
    err: str


def _require_jars() -> None:
    try:
        java()
        libraries()
    except AbsenceError as error:
        pytest.skip(f"no Apache Kafka: {ADDRESS} is not set, {_docker_fault()}, and {error}")


@functools.cache
def _docker_fault() -> str | None:
    """Why there are no containers here; None where there can be."""
    # In a process of its own: where no engine is, the client leaves sockets behind.
    asked = "import docker, testcontainers.kafka; docker.from_env(timeout=5).ping()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", asked], capture_output=True, text=True, timeout=60, check=False
    )
    return (
        f"no Docker engine ({(done.stderr.strip().splitlines() or ['?'])[-1][:120]})"
        if done.returncode
        else None
    )


@pytest.fixture(scope="session")
def docker_fault() -> str | None:
    """Why there are no containers here; None where there can be."""
    return _docker_fault()


def _container(stack: ExitStack) -> Connection | None:
    if _docker_fault() is not None:
        return None
    with warnings.catch_warnings(action="ignore"):
        from testcontainers.kafka import KafkaContainer

        container = KafkaContainer().with_kraft().with_env("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
        return Connection(bootstrap_servers=stack.enter_context(container).get_bootstrap_server())
