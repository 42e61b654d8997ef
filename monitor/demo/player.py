"""Plays a schedule of acts into Kafka, in real time."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from monitor.core.errors import MonitorError
from monitor.core.events import EventType
from monitor.core.instants import Millis
from monitor.demo.traffic import Act

STOP_SECONDS: Final = 0.5


class Stage(Protocol):
    """Where events go: `monitor.publish.Publisher` is one. Each verb takes the session's id, and fields by name."""

    @property
    def opened(self) -> Callable[..., None]:
        """A session began."""

    @property
    def activity(self) -> Callable[..., None]:
        """It was used."""

    @property
    def reauthenticated(self) -> Callable[..., None]:
        """Its principal proved again who it is."""

    @property
    def closed(self) -> Callable[..., None]:
        """It ended by itself."""


class Player:
    """A thread that publishes each act when its time has come, and those that are late at once.

    `stop` is idempotent and returns within half a second. Where publishing fails it ends, and `failure` says why.
    """

    def __init__(self, acts: Iterable[Act], stage: Stage) -> None:
        """Nothing is published before `start`."""
        self.failure: MonitorError | None = None
        self.played = 0
        """Events handed to the stage so far."""
        self._acts = acts
        self._stage = stage
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play, name="session-monitor-demo", daemon=True)

    def start(self) -> None:
        """Begin with the schedule; its offset 0 is now."""
        self._thread.start()

    def stop(self) -> None:
        """Publish nothing more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _play(self) -> None:
        begun = _now()
        try:
            for act in self._acts:
                if self._stopping.wait(max(0, begun + act.offset - _now()) / 1000):
                    return
                perform(act, self._stage)
                self.played += 1
        except MonitorError as error:
            if not self._stopping.is_set():
                self.failure = error


def perform(act: Act, stage: Stage) -> None:
    """One act, now. The SDK's word for the wire's `activity` is `kind`."""
    said = dict(act.event)
    type_, session_id = EventType(str(said.pop("type"))), str(said.pop("session_id"))
    if "activity" in said:
        said["kind"] = said.pop("activity")
    verb = {
        EventType.OPENED: stage.opened,
        EventType.ACTIVITY: stage.activity,
        EventType.REAUTHENTICATED: stage.reauthenticated,
        EventType.CLOSED: stage.closed,
    }[type_]
    verb(session_id, **said)


def _now() -> Millis:
    return time.monotonic_ns() // 1_000_000
