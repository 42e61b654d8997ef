"""One worker process, put together: engine, owner, control follower, API, watchdog.

Everything here is wiring. The order of starting is the order of needing; the order of stopping is its reverse.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from monitor.core.controls import Control, ControlType
from monitor.core.errors import AbsenceError, MissingExtraError
from monitor.core.instants import Millis
from monitor.core.standing import ControlLog
from monitor.observe.metrics import WorkerMetrics
from monitor.policy import compile_policy, version_of
from monitor.wire.controls import encode_control
from monitor.wire.topics import Topics
from monitor.worker.clock import SystemClock
from monitor.worker.follower import ControlFollower, compiled
from monitor.worker.memory import keep_large_apart, tidy_forever
from monitor.worker.owner import Host, OwnerSettings
from monitor.worker.ports import Appender, Clock
from monitor.worker.watchdog import Limits, Watchdog

log = logging.getLogger(__name__)


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator chooses for one worker process."""

    connection: Any
    """A `monitor.broker.connection.Connection`."""
    app_id: str = "session-monitor"
    topic_prefix: str = ""
    partitions: int = 8
    policy: str | None = None
    """The text of the policy file; needed by the first worker only."""
    start_from: str | None = None
    name: str = ""
    """Names this process; by default host and process id."""
    session_timeout_ms: Millis = 10_000
    checkpoint_every_ms: Millis = 700
    api_host: str = "127.0.0.1"
    api_port: int = 0
    api_token: str | None = None
    api_enabled: bool = True
    watchdog_ms: Millis = 60_000
    uvloop: bool = True


def run_worker(settings: WorkerSettings, ready: Callable[[str], None] | None = None) -> int:
    """Work until SIGTERM or SIGINT: exit code 0. The first failure is logged and gives 1.

    `ready` is told the API's address once it listens. Raises AbsenceError and InputError for what was wrong
    before anything began.
    """
    try:
        import aiokafka  # noqa: F401
        import faust  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("worker", "the worker") from error
    if settings.policy is not None:
        compile_policy(settings.policy)
    keep_large_apart()
    runner: type[asyncio.Runner] = asyncio.Runner
    with runner(loop_factory=loop_factory(settings.uvloop)) as run:
        try:
            run.run(_work(settings, ready))
        except (AbsenceError, KeyboardInterrupt):
            raise
        except Exception as error:
            log.critical("worker_stopped", exc_info=error, extra={"error": str(error)})
            return 1
    return 0


def loop_factory(uvloop_wanted: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Of uvloop's loops where it is wanted and there; None: asyncio's own."""
    if uvloop_wanted and sys.platform != "win32":
        try:
            import uvloop
        except ImportError:
            return None
        return uvloop.new_event_loop
    return None


async def _work(settings: WorkerSettings, ready: Callable[[str], None] | None) -> None:
    from monitor.worker.engine_app import Engine, Ports
    from monitor.worker.settings import EngineSettings, timeouts

    topics = Topics(settings.topic_prefix, settings.partitions, settings.app_id)
    clock = SystemClock()
    metrics = WorkerMetrics()
    name = settings.name or f"{socket.gethostname()}-{os.getpid()}"
    cleanups: list[tuple[str, Callable[[], Awaitable[None]]]] = []

    async def build(ports: Ports) -> Host:
        follower = ControlFollower(topics.session_control.name, ports.reader, ControlLog(compiled))
        await follower.start()
        cleanups.append(("control_follower", follower.stop))
        await ensure_policy(settings.policy, follower, ports.appender, topics, clock)
        api = await _start_api(settings, name, metrics, cleanups)
        owner_settings = OwnerSettings(
            name=name, api=api.url if api is not None else "", start_from=settings.start_from,
            checkpoint_every=settings.checkpoint_every_ms, lease=settings.session_timeout_ms // 2,
        )  # fmt: skip
        host = Host(owner_settings, topics, ports.appender, ports.reader, ports.offsets, follower, clock, metrics)
        if api is not None:
            api.attach(host)
            if ready is not None:
                ready(api.url)
        await host.start()
        watchdog = Watchdog(host.owned, Limits(progress=settings.watchdog_ms), excused=host.excused)
        await watchdog.start()
        cleanups.insert(0, ("watchdog", watchdog.stop))  # the last to go: a shutdown that hangs is ended too
        return host

    tidying = asyncio.create_task(tidy_forever(), name="tidying")
    engine = Engine(
        EngineSettings(
            app_id=topics.app_id, topic=topics.access_events.name, connection=settings.connection,
            client_id=name, **timeouts(settings.session_timeout_ms),
        ),
        build,
    )  # fmt: skip
    try:
        await engine.run()
    finally:
        tidying.cancel()
        while cleanups:
            what, cleanup = cleanups.pop()
            try:
                await asyncio.wait_for(cleanup(), 5)
            except Exception:
                log.exception("cleanup_failed", extra={"part": what})


async def ensure_policy(
    text: str | None, follower: ControlFollower, appender: Appender, topics: Topics, clock: Clock
) -> None:
    """Put the file on the control topic where no policy is there yet; the newest there rules in any case."""
    newest = follower.controls.newest_policy()
    if newest is None:
        if text is None:
            raise AbsenceError(
                f"no policy rules yet on {topics.session_control.name}: give the first worker a file (--policy policy.yaml)"
            )
        control = Control(
            -1, 0, ControlType.POLICY, "policy", reason="first worker's file", by="worker",
            policy_text=text, policy_version=version_of(text),
        )  # fmt: skip
        key, value, headers = encode_control(control, clock.now())
        appender.append(topics.session_control.name, 0, key, value, headers)
        await appender.settled(appender.mark())
        while follower.controls.newest_policy() is None:
            await clock.sleep(20)
    elif text is not None and version_of(text) != newest.version:
        log.warning(
            "policy_differs",
            extra={"file": version_of(text), "ruling": newest.version, "hint": "session-monitor policy apply FILE"},
        )


async def _start_api(
    settings: WorkerSettings, name: str, metrics: WorkerMetrics, cleanups: list[tuple[str, Callable[[], Awaitable[None]]]]
) -> Any:
    if not settings.api_enabled:
        return None
    from monitor.worker.api import Api

    api = Api(metrics, host=settings.api_host, port=settings.api_port, token=settings.api_token, name=name)
    await api.start()
    cleanups.append(("api", api.stop))
    return api


def read_policy(path: Path) -> str:
    """The text of a policy file. Raises AbsenceError where it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AbsenceError(f"policy file {path} can't be read ({error}): name a YAML file in UTF-8") from error
