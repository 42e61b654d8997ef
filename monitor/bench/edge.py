"""A sidecar over HTTP, by itself and behind Envoy: requests, how long they take, and from due to the first 401.

Everything real: worker, broker, `session-monitor gateway` as shipped, Envoy with the configuration that users copy. The asker, the
server that it is compared with and the service behind Envoy are programs of their own.
"""

import asyncio
import resource
import secrets
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
from ruamel.yaml import YAML

from monitor.bench.asker import WARM, Asked, Connection, Spec, cookie, ended, request
from monitor.bench.feeds import Spec as Following
from monitor.bench.figures import Spread, spread
from monitor.bench.observer import Observer
from monitor.bench.processes import Program
from monitor.bench.stage import Stage
from monitor.broker.connection import Connection as Broker
from monitor.broker.port import LOOPBACK, free_port
from monitor.core.errors import AbsenceError
from monitor.core.instants import SECOND
from monitor.publish import Publisher, hashed_session_id
from monitor.wire.times import format_time

SESSIONS: Final = 10_000
ABSOLUTE: Final = 10
"""Seconds after which a brief session is over."""
POLICY: Final = f"""version: 1
defaults: {{idle: 30m, absolute: 12h}}
rules:
  - name: brief
    when: {{workload: [brief]}}
    absolute: {ABSOLUTE}s
"""
ROUNDS: Final = 3
PROBE: Final = 0.01
"""Seconds between two requests of a session that is about to end: how exactly its first 401 is known."""
EARLY: Final = 0.2
"""Seconds before its deadline at which a session is first asked about."""
AUTHORIZATION: Final = "envoy.filters.http.ext_authz"
CONFIGURATION: Final = Path(__file__).parents[2] / "compose" / "gateways" / "envoy" / "envoy.yaml"
_SHIPPED: Final = {"edge": 8080, "app": 8000, "session_monitor": 8180}
HOW: Final = (
    "One process asks over connections that it keeps, each again as soon as it has its answer; a tenth of the sessions has ended."
    " The sidecar, as shipped, and the same server with an application that always says 200 are asked in turn; requests per"
    " CPU-second of the server, medians of the rounds. Then the sidecar is asked at a fixed rate, without and with idle subscribers of"
    " its feeds. Envoy, as shipped, and the same without the authorization filter are asked"
    " in turn at that rate, each answer counted from the instant at which it should have been asked for. Due to 401: from the"
    f" absolute deadline of a session, which is asked for through Envoy every {PROBE * 1000:.0f} ms, until its first 401 is there, under"
    " that rate and the stream of events; all clocks are this machine's."
)


class Served(msgspec.Struct, frozen=True):
    """A server, asked as fast as it answers: medians of the rounds."""

    per_cpu_second: float
    per_second: float
    p50: float
    p99: float


class Edge(msgspec.Struct, frozen=True):
    """What was measured; times in milliseconds."""

    sidecar: Served
    constant: Served
    refused_share: float
    idle: Asked
    """At the fixed rate, with nobody else there ..."""
    subscribed: Asked
    """... and with the feeds."""
    idle_cpu: float
    subscribed_cpu: float
    """Microseconds of CPU time that the sidecar took for each request then."""
    envoy_with: Spread | None = None
    envoy_without: Spread | None = None
    due_to_refused: Spread | None = None
    asked_per_second: float = 0.0
    """At Envoy, with the filter."""


def envoy_program(given: str | None) -> str | None:
    """The program: the one given, or one that is installed."""
    return given or shutil.which("envoy", path=sysconfig.get_path("scripts")) or shutil.which("envoy")


class Asking(msgspec.Struct, frozen=True):
    """How much is asked, and what goes on meanwhile."""

    seconds: float
    """Of each round."""
    connections: int
    rate: float
    """Requests a second where the rate is fixed."""
    events: float
    """A second, at the worker, while sessions end."""
    expiries: float
    """Sessions a second that end."""
    feeds: int
    """Clients that follow a session of theirs."""


def measure(connection: Broker, directory: Path, asking: Asking, *, envoy: str | None, configuration: Path) -> Edge:
    """Without Envoy its part is None. Raises AbsenceError where something is missing, or ends."""
    allow_descriptors(2 * asking.feeds)
    with Stage(connection, directory, POLICY, "edge") as stage, Observer(connection, stage.topics) as observer:
        stage.ready(observer, stage.worker())
        with Publisher(stage.connection, topic_prefix=stage.topics.prefix) as publisher:
            for number in range(SESSIONS):
                name = hashed_session_id(cookie(number))
                # What names no workload meets the rule for brief ones too.
                (publisher.closed if ended(number) else publisher.opened)(name, subject=f"user-{number}", workload="chat")
        ports = {"sidecar": free_port(), "constant": free_port()}
        token = stage.write("token", secrets.token_urlsafe(32))
        token.chmod(0o600)
        options = ("--session-id", "cookie:session", "--api-token-file", str(token), "--subscribers", str(max(1, asking.feeds)))
        gateway = stage.gateway(ports["sidecar"], *options)
        constant = stage.run("constant", ["-m", "monitor.bench.constant", str(ports["constant"])])
        _until(lambda: _status(ports["sidecar"], "/check", max(filter(ended, range(SESSIONS)))) == 401, gateway)
        _until(lambda: _status(ports["constant"], "/check", 0) == 200, constant)
        served = _in_turn(stage, {"constant": constant, "sidecar": gateway}, ports, asking)
        statuses = served["sidecar"][-1][0].statuses
        idle, idle_cpu = _steady(stage, "idle", gateway, ports["sidecar"], asking)
        with _followed(stage, ports["sidecar"], token, asking.feeds):
            subscribed, subscribed_cpu = _steady(stage, "subscribed", gateway, ports["sidecar"], asking)
        found = Edge(
            _served(served["sidecar"], asking.seconds), _served(served["constant"], asking.seconds),
            statuses.get(401, 0) / sum(statuses.values()), idle, subscribed, idle_cpu, subscribed_cpu,
        )  # fmt: skip
        return found if envoy is None else _behind(stage, _Envoys(stage, envoy, configuration, ports), asking, found)


def _in_turn(
    stage: Stage, programs: dict[str, Program], ports: dict[str, int], asking: Asking
) -> dict[str, list[tuple[Asked, float]]]:  # fmt: skip
    """What each answered in each round, and the CPU seconds that it took for that."""
    served: dict[str, list[tuple[Asked, float]]] = {name: [] for name in programs}
    for number in range(ROUNDS):
        for name, program in programs.items():
            before = program.usage().cpu_seconds
            asked = _ask(stage, f"{name}-{number}", ports[name], "/check", asking.seconds, asking.connections)
            served[name].append((asked, program.usage().cpu_seconds - before))
    return served


def _steady(stage: Stage, name: str, gateway: Program, port: int, asking: Asking) -> tuple[Asked, float]:
    """What the sidecar answers at the fixed rate, and its microseconds of CPU time a request."""
    seconds = 2 * asking.seconds
    before = gateway.usage().cpu_seconds
    asked = _ask(stage, name, port, "/check", seconds, asking.connections, asking.rate)
    return asked, round((gateway.usage().cpu_seconds - before) / (asking.rate * (seconds + WARM)) * 1e6)


def _behind(stage: Stage, edges: "_Envoys", asking: Asking, found: Edge) -> Edge:
    """Envoy with and without the question, and from due to its first 401."""
    seconds, connections, rate = asking.seconds, asking.connections, asking.rate
    taken: dict[bool, list[Asked]] = {True: [], False: []}
    for number in range(ROUNDS):
        for asks in (False, True):
            name = f"envoy-{'with' if asks else 'without'}-{number}"
            taken[asks].append(_ask(stage, name, edges.ports[asks], "/", seconds, connections, rate))
    load = stage.load(sessions=SESSIONS, rate=asking.events)
    crowd = _start(stage, "crowd", edges.ports[True], "/", 2 * seconds + ABSOLUTE, connections, rate)
    due = asyncio.run(_until_refused(stage, edges.ports[True], asking.expiries, seconds))
    crowd.wait(60 + 4 * seconds)
    stage.reached(load)
    return msgspec.structs.replace(
        found, envoy_with=_middle(taken[True]), envoy_without=_middle(taken[False]), due_to_refused=spread(due),
        asked_per_second=taken[True][-1].per_second,
    )  # fmt: skip


@contextmanager
def _followed(stage: Stage, port: int, token: Path, count: int) -> Iterator[None]:
    """With so many subscribers, all of them idle."""
    if not count:
        yield
        return
    spec = Following(host=LOOPBACK, port=port, token_file=str(token), count=count)
    program = stage.run("feeds", ["-m", "monitor.bench.feeds", msgspec.json.encode(spec).decode()])
    _until(lambda: program.reported, program, 120.0)
    try:
        yield
        program.require()
    finally:
        program.stop()


def allow_descriptors(wanted: int) -> None:
    """Let this process and its children have so many connections and some. Raises AbsenceError where the system does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + 500
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise AbsenceError(f"{wanted} connections need {needed} open files, and the system allows {hard}: give fewer --feeds, or raise `ulimit -Hn`")
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class _Envoys:
    """Two of them before one service: by whether it asks the sidecar."""

    def __init__(self, stage: Stage, program: str, configuration: Path, ports: dict[str, int]) -> None:
        try:
            shipped = configuration.read_text("utf-8")
        except OSError as error:
            raise AbsenceError(f"{configuration} can't be read: {error.strerror}; give --envoy-config, the file of compose/gateways/envoy") from error
        self.ports = {True: free_port(), False: free_port()}
        for asks, port in self.ports.items():
            here = {"edge": port, "app": ports["constant"], "session_monitor": ports["sidecar"]}
            text = shipped
            for name, number in _SHIPPED.items():
                text = text.replace(f"port_value: {number}}}", f"port_value: {here[name]}}}")
            path = stage.write(f"envoy-{port}.yaml", text)
            if not asks:
                _leave_out(path, AUTHORIZATION)
            options = ["-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warn"]
            _until(partial(_passes, port), stage.run(f"envoy-{port}", options, program))


def _leave_out(path: Path, filter_name: str) -> None:
    yaml = YAML(typ="safe")
    with path.open(encoding="utf-8") as file:
        said: Any = yaml.load(file)
    for listener in said["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            for one in chain["filters"]:
                config = one["typed_config"]
                config["http_filters"] = [part for part in config["http_filters"] if part["name"] != filter_name]
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(said, file)


async def _until_refused(stage: Stage, port: int, expiries: float, seconds: float) -> list[float]:
    """Sessions begin one after the other; each is asked for around its deadline. Milliseconds from that to its 401."""
    found: list[float] = []
    count = int(expiries * seconds)
    begin = time.time() + 1
    with Publisher(stage.connection, topic_prefix=stage.topics.prefix, granularity=0) as publisher:

        async def follow(number: int) -> None:
            session, start = f"brief-{number:06d}", begin + number / expiries
            await asyncio.sleep(max(0.0, start - time.time()))
            at = int(start * SECOND)
            publisher.opened(hashed_session_id(session), subject=session, workload="brief", time=format_time(at))
            due = at / SECOND + ABSOLUTE
            raw = request(f"{LOOPBACK}:{port}", "/", session)
            await asyncio.sleep(max(0.0, due - EARLY - time.time()))
            connection = await Connection.connect(LOOPBACK, port)
            try:
                while (status := await connection.ask(raw)) == 200:
                    if time.time() > due + 30:
                        raise AbsenceError(f"session {session} still passes 30 s after its deadline")
                    await asyncio.sleep(PROBE)
            finally:
                connection.close()
            if status != 401:
                raise AbsenceError(f"session {session} was answered with {status}, which is neither 200 nor 401")
            found.append((time.time() - due) * 1000)

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(follow(number))
    return found


def _start(stage: Stage, name: str, port: int, path: str, seconds: float, connections: int, rate: float) -> Program:
    spec = Spec(host=LOOPBACK, port=port, path=path, sessions=SESSIONS, seconds=seconds, connections=connections, rate=rate)
    return stage.run(name, ["-m", "monitor.bench.asker", msgspec.json.encode(spec).decode()])


def _ask(stage: Stage, name: str, port: int, path: str, seconds: float, connections: int, rate: float = 0.0) -> Asked:
    program = _start(stage, name, port, path, seconds, connections, rate)
    program.wait(60 + 2 * seconds)
    return msgspec.json.decode(program.report(), type=Asked)


def _served(rounds: list[tuple[Asked, float]], seconds: float) -> Served:
    warmed = (seconds + WARM) / seconds  # its CPU time is counted from before the warming on
    return Served(
        median(asked.requests * warmed / cpu for asked, cpu in rounds), median(asked.per_second for asked, _ in rounds),
        median(asked.milliseconds.p50 for asked, _ in rounds), median(asked.milliseconds.p99 for asked, _ in rounds),
    )  # fmt: skip


def _middle(rounds: list[Asked]) -> Spread:
    times = [asked.milliseconds for asked in rounds]
    return Spread(
        sum(one.count for one in times), median(one.p50 for one in times), median(one.p99 for one in times), max(one.worst for one in times)
    )


def _until(holds: Callable[[], bool], program: Program, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        program.require()
        if time.monotonic() > deadline:
            raise AbsenceError(f"a server was not ready within {seconds:.0f} s:\n{program.said()}")
        time.sleep(0.05)


def _passes(port: int) -> bool:
    return _status(port, "/", 1) == 200


def _status(port: int, path: str, number: int) -> int:
    """Of one request; 0 where nobody answers."""

    async def ask() -> int:
        connection = await Connection.connect(LOOPBACK, port)
        try:
            return await connection.ask(request(f"{LOOPBACK}:{port}", path, cookie(number)))
        finally:
            connection.close()

    with suppress(OSError, AbsenceError):
        return asyncio.run(ask())
    return 0
