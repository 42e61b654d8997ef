"""One detection process, put together: engine, detective, control follower. Wiring, as `worker.main` is for sessions."""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from monitor.core.errors import AbsenceError, MissingExtraError
from monitor.core.instants import Millis
from monitor.core.standing import ControlLog
from monitor.detect.pool import Pool
from monitor.policy import CompiledPolicy
from monitor.wire.silences import Silence
from monitor.wire.topics import Topics
from monitor.worker.clock import SystemClock
from monitor.worker.detecting import Detective, DetectiveSettings, Watching
from monitor.worker.follower import ControlFollower, compiled
from monitor.worker.main import loop_factory
from monitor.worker.memory import keep_large_apart, tidy_forever
from monitor.worker.silences import SilenceFollower

log = logging.getLogger(__name__)

Rules = Callable[[], CompiledPolicy]
"""The newest policy, at each call ..."""
Silences = Callable[[], tuple[Silence, ...]]
"""... and the silences; the same tuple as long as they are the same."""
Watches = Callable[[int, Rules, Silences, Pool], Watching]
"""Makes what a partition is watched with."""
STOP: float = 5.0


class DetectionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator chooses for one detection process."""

    connection: Any
    """A `monitor.broker.connection.Connection`."""
    app_id: str = "session-monitor"
    """Of the worker whose sessions are watched."""
    topic_prefix: str = ""
    partitions: int = 8
    start_from: str | None = None
    name: str = ""
    session_timeout_ms: Millis = 10_000
    checkpoint_every_ms: Millis = 700
    uvloop: bool = True


def run_detection(settings: DetectionSettings, watching: Watches) -> int:
    """Work until SIGTERM or SIGINT: exit code 0. The first failure is logged and gives 1.

    Raises AbsenceError and InputError for what was wrong before anything began.
    """
    try:
        import aiokafka  # noqa: F401
        import faust  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("worker", "detection") from error
    keep_large_apart()
    with asyncio.Runner(loop_factory=loop_factory(settings.uvloop)) as run:
        try:
            run.run(_work(settings, watching))
        except (AbsenceError, KeyboardInterrupt):
            raise
        except Exception as error:
            log.critical("detection_stopped", exc_info=error, extra={"error": str(error)})
            return 1
    return 0


async def _work(settings: DetectionSettings, watching: Watches) -> None:
    from monitor.worker.engine_app import Engine, Ports
    from monitor.worker.settings import EngineSettings, timeouts

    topics = Topics(settings.topic_prefix, settings.partitions, settings.app_id)
    cleanups: list[Callable[[], Awaitable[None]]] = []

    async def build(ports: Ports) -> Detective:
        follower = ControlFollower(topics.session_control.name, ports.reader, ControlLog(compiled))
        await follower.start()
        cleanups.append(follower.stop)
        silences = SilenceFollower(topics.session_alerts.name, ports.reader)
        await silences.start()
        cleanups.append(silences.stop)
        rules = _rules(follower, topics)
        rules()
        pool = Pool()
        told = DetectiveSettings(start_from=settings.start_from, checkpoint_every=settings.checkpoint_every_ms)
        detective = Detective(
            told, topics, ports.appender, ports.reader, ports.offsets, SystemClock(),
            lambda number: watching(number, rules, lambda: silences.standing, pool), pool.leave,
        )
        await detective.start(follower.watch(), silences.watch())
        return detective

    engine = Engine(
        EngineSettings(
            app_id=topics.detection_id, topic=topics.session_lifecycle.name, table="state", connection=settings.connection,
            client_id=settings.name or f"{socket.gethostname()}-{os.getpid()}", **timeouts(settings.session_timeout_ms),
        )
    , build)  # fmt: skip
    tidying = asyncio.create_task(tidy_forever(), name="tidying")
    try:
        await engine.run()
    finally:
        tidying.cancel()
        for cleanup in reversed(cleanups):
            await asyncio.wait_for(cleanup(), STOP)


def _rules(follower: ControlFollower, topics: Topics) -> Rules:
    def rules() -> CompiledPolicy:
        newest = follower.controls.newest_policy()
        if not isinstance(newest, CompiledPolicy):
            raise AbsenceError(
                f"no policy rules yet on {topics.session_control.name}: start a worker with one first (worker --policy policy.yaml)"
            )
        return newest

    return rules
