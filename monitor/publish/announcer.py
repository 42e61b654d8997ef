"""`source.alive` every second, so that a silent source is told from a stuck one."""

import logging
import threading
from typing import Final, Protocol

from monitor.publish.errors import DeliveryError, PublisherClosed

log = logging.getLogger("monitor.publish")

EVERY_SECONDS: Final = 1.0


class Alive(Protocol):
    """`Publisher.alive`."""

    def __call__(self, *, timeout: float | None) -> None:
        """Announce, once."""


class Announcer:
    """A thread that announces until it is stopped. A round that can't be true is left out, not made up for.

    While the broker is away the rounds fail and the sessions of this source wait for it in the monitor: that is
    their purpose, so a failed round is worth a log line and no more. (The lost events themselves are reported.)
    """

    def __init__(self, alive: Alive) -> None:
        """Start. The first announcement goes out at once."""
        self._alive = alive
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="session-monitor-alive", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End within a round. Idempotent."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self._alive(timeout=EVERY_SECONDS)
            except PublisherClosed:
                return
            except DeliveryError as error:
                log.warning("source_alive_not_sent", extra={"error": str(error)})
            if self._stop.wait(EVERY_SECONDS):
                return
