"""`Receipts`: the proof that commands are in force at this gateway, written to `enforcement-receipts`.

What is applied is a state: told when it changes, at most every 200 ms, and every 5 s all the same; only the newest
counts, so an outage leaves nothing to be made up for. It is never ahead: what is told has come into force before. A
refusal is told once for each session and command; it waits for a broker that is away, and what has no room is counted.
No decision ever waits for any of this.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, Protocol

from monitor.core.errors import AbsenceError
from monitor.core.instants import SECOND, Millis
from monitor.gateway.enforcer import Following, Seen
from monitor.gateway.facts import Facts, Now
from monitor.gateway.in_force import ForceListener, InForce
from monitor.gateway.metrics import GatewayMetrics
from monitor.gateway.receipt_log import ReceiptWriter
from monitor.gateway.refused_once import RefusedOnce
from monitor.gateway.verdict import Verdict
from monitor.gateway.view import NO_MARK
from monitor.wire.receipts import Applied, Receipt, Refused, Stopped
from monitor.wire.times import Instant

log = logging.getLogger(__name__)

CHANGES: Final[Millis] = 200
"""A change is told so long after the one before at the earliest."""
HEARTBEAT: Final[Millis] = 5 * SECOND
ROOM: Final = 10_000
"""Refusals that wait at most: 2 MB."""
_AT_ONCE: Final = 500
_PAUSES: Final = (200, 500, SECOND, 2 * SECOND, 5 * SECOND)
_CLOSING: Final = 1.0
_STOP_WAIT: Final = 3.0


class ForceFollowing(Following, Protocol):
    """A view that tells what comes into force: `Follower`, `MemoryView`."""

    def when_in_force(self, listener: ForceListener) -> None:
        """Call `listener` each time that something has come into force."""


class Receipts:
    """A witness of decisions, with a thread that writes from `start` to `stop`."""

    def __init__(
        self, following: ForceFollowing, gateway: str, connect: Callable[[], ReceiptWriter], now: Callable[[], Now],
        metrics: GatewayMetrics,
    ) -> None:  # fmt: skip
        """`gateway` names this running instance, as the `source` of its events does; `connect` raises AbsenceError."""
        self.gateway = gateway
        self._following, self._connect, self._now, self._metrics = following, connect, now, metrics
        self._refused_once = RefusedOnce()
        self._refusals: deque[Refused] = deque()
        self._in_force: InForce | None = None
        self._told: InForce | None = None
        """What the newest receipt has told of ..."""
        self._applied_at = time.monotonic()
        """... and when; before there was anything to tell: when it was looked."""
        self._failures = 0
        self._woken, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        following.when_in_force(self._come_into_force)

    def start(self) -> None:
        """Begin to write; returns at once. A second call does nothing."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="gateway-receipts", daemon=True)
            self._thread.start()

    def stop(self, timeout: float = _STOP_WAIT) -> None:
        """Write what waits, and that the gateway has stopped, within `timeout` seconds; to a broker that is away nothing. Idempotent."""
        self._stopping.set()
        self._woken.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout)

    # -- what happens, in the threads in which it happens ------------------------------------------------

    def admitted(self, facts: Facts, seen: Seen, now: Now) -> None:
        """Nothing is to be proven."""

    def refused(self, facts: Facts, verdict: Verdict, seen: Seen, now: Now) -> None:
        """Tell it, where a command has ended the session and this is its first refusal by that command."""
        session_id = facts.session_id
        if session_id is not None:
            self._refuse(session_id, verdict, 0, now)

    def cut(self, session_id: str, verdict: Verdict, inflight: int) -> None:
        """Tell that so many streams and requests of a session that has ended were cut: always, also after a refusal."""
        self._refuse(session_id, verdict, inflight, self._now())

    def _refuse(self, session_id: str, verdict: Verdict, inflight: int, now: Now) -> None:
        view = self._following.view
        packed = view.commanded.get(session_id)
        if packed is None or not view.loaded:
            return
        if len(self._refusals) >= ROOM:
            # Not remembered as told: the next refusal of the session may find room.
            self._metrics.receipt_lost()
            return
        if not self._refused_once.first(session_id, packed) and not inflight:
            return
        command_id = view.command_id(session_id)
        if command_id is not None or verdict.commanded:
            self._refusals.append(Refused(self.gateway, session_id, Instant(now.wall), verdict.status, command_id, inflight))
            self._woken.set()

    def _come_into_force(self, told: InForce) -> None:
        self._in_force = told
        self._woken.set()

    # -- what is written, in a thread of its own ----------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                writer = self._connect()
                try:
                    self._write(writer)
                finally:
                    writer.close(_CLOSING)
            except AbsenceError as error:
                self._wait(str(error))
            except Exception as error:
                # Whatever it is: a gateway without receipts still refuses, and tries again.
                log.exception("gateway_receipts_failed")
                self._wait(f"{type(error).__name__}: {error}")

    def _wait(self, why: str) -> None:
        if not self._stopping.is_set():
            pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
            self._failures += 1
            log.warning("gateway_receipts_wait", extra={"error": why, "again_in_ms": pause, "refusals": len(self._refusals)})
            self._stopping.wait(pause / SECOND)

    def _write(self, writer: ReceiptWriter) -> None:
        """Write until stopped. Raises what ends the connection; what was not acknowledged by then is written again."""
        written = time.monotonic() - HEARTBEAT / SECOND
        while not self._stopping.is_set():
            self._woken.wait(max(0.0, self._applied_at + HEARTBEAT / SECOND - time.monotonic()))
            self._stopping.wait(max(0.0, written + CHANGES / SECOND - time.monotonic()))
            # Before it is looked what there is to tell: what comes after wakes again.
            self._woken.clear()
            self._write_all(writer)
            written = time.monotonic()
        self._write_all(writer)
        self._write_out(writer, [Stopped(self.gateway, Instant(self._now().wall))])

    def _write_all(self, writer: ReceiptWriter) -> None:
        in_force, began = self._in_force, time.monotonic()
        applied: list[Receipt] = []
        if in_force is not None and (in_force is not self._told or began >= self._applied_at + HEARTBEAT / SECOND):
            applied.append(self._applied(in_force))
        while True:
            refusals = list(islice(self._refusals, _AT_ONCE))
            self._write_out(writer, [*applied, *refusals])
            for _ in refusals:
                self._refusals.popleft()
            if applied or in_force is None:
                self._told, self._applied_at = in_force, began
            applied = []
            if len(refusals) < _AT_ONCE:
                return

    def _write_out(self, writer: ReceiptWriter, receipts: Sequence[Receipt]) -> None:
        if receipts:
            writer.write(receipts)
            self._failures = 0
            for receipt in receipts:
                self._metrics.receipt_written(str(type(receipt).__struct_config__.tag))

    def _applied(self, in_force: InForce) -> Applied:
        """What is in force, since when; where nothing has changed: that it still is."""
        now, oldest = self._now() if in_force is self._told else in_force.now, self._following.view.oldest
        age = None if oldest == NO_MARK else max(0, now.monotonic - oldest)
        return Applied(self.gateway, in_force.positions.commands, in_force.positions.control, Instant(now.wall), age)
