"""`MemoryView`: a view that is told, not read from Kafka. For tests, and for programs that bring a log of their own."""

from typing import Final

import msgspec

from monitor.core.commands import Command, CommandType, Reauth
from monitor.core.controls import Control, ControlType, Target
from monitor.core.instants import DAY, NEVER, LogMillis, Millis
from monitor.core.reasons import MESSAGE, Reason
from monitor.gateway.changes import Change, Listener
from monitor.gateway.facts import Now
from monitor.gateway.in_force import ForceListener, InForce, count_commands
from monitor.gateway.view import Positions, View
from monitor.policy import compile_policy, version_of
from monitor.wire.codec import Record
from monitor.wire.commands import encode_command, encode_watermark
from monitor.wire.controls import encode_control


class _Stored(msgspec.Struct):
    offset: int
    timestamp: LogMillis
    key: bytes | None
    value: bytes | None


class MemoryView:
    """The same surface as `Follower`: `view`, `ready`, `positions`, `subscribe` ...; what happens is told by methods.

    Everything goes through the records of the wire, so a test by this twin is a test of the view. Instants are in ms.
    """

    def __init__(self, partitions: int = 1, *, policy: str | None = None) -> None:
        """`policy` is a policy's text, if there is to be one from the start. Raises PolicyError."""
        self.view: Final = View(partitions)
        self.ready = True
        self.last_error = ""
        self._ends = [0] * partitions
        self._control_end = 0
        self._listeners: list[Listener] = []
        self._force_listeners: list[ForceListener] = []
        self._now = Now(0, -NEVER)
        """The latest instants that were told."""
        if policy is not None:
            self.rule(policy)

    def start(self) -> None:
        """Nothing to be done."""

    def stop(self) -> None:
        """Nothing to be done."""

    def wait_ready(self, seconds: float) -> bool:
        """It is."""
        return self.ready

    @property
    def positions(self) -> Positions:
        """Up to where everything is in force."""
        return self.view.applied

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with what has changed, from the thread that told."""
        self._listeners.append(listener)

    def when_in_force(self, listener: ForceListener) -> None:
        """Call `listener` with each thing that is told, from the thread that tells: in force at the latest instant that was told."""
        self._force_listeners.append(listener)

    def expire(
        self, session_id: str, at: Millis, *, epoch: int = 0, reason: Reason = Reason.IDLE_TIMEOUT, cutoff: Millis | None = None,
        reauth: Reauth | None = None, rule: str | None = None,
    ) -> None:  # fmt: skip
        """End a session by a limit."""
        self._command(CommandType.EXPIRE, session_id, at, epoch, reason, cutoff, reauth or Reauth(allowed=True), rule)

    def revoke(
        self, session_id: str, at: Millis, *, epoch: int = 0, reason: Reason = Reason.ADMIN_REVOKED
    ) -> None:
        """End a session for good."""
        self._command(CommandType.REVOKE, session_id, at, epoch, reason, None, Reauth(allowed=False), None)

    def reinstate(self, session_id: str, at: Millis, *, epoch: int, cutoff: Millis | None = None) -> None:
        """Let a session live again, in a new epoch."""
        reason = Reason.IDLE_TIMEOUT
        self._command(CommandType.REINSTATE, session_id, at, epoch, reason, cutoff, Reauth(allowed=True), None)

    def warn(self, session_id: str, at: Millis, *, epoch: int = 0, reason: Reason = Reason.IDLE_TIMEOUT) -> None:
        """Warn of a session's end at `at`."""
        self._command(CommandType.WARN, session_id, at, epoch, reason, None, Reauth(allowed=True), None)

    def forget(self, session_id: str) -> None:
        """Write the session's tombstone."""
        self._append(session_id, Record(session_id.encode(), None, []), self._now.wall)

    def lock(self, target: Target, at: LogMillis, *, id_: str = "lock-1", expires: Millis = NEVER) -> None:
        """Refuse whoever is meant, until unlocked or until `expires`."""
        self._control(Control(0, at, ControlType.LOCK, id_, target, "told", "memory", expires=expires))

    def unlock(self, at: LogMillis, *, id_: str = "lock-1") -> None:
        """Lift a lock."""
        self._control(Control(0, at, ControlType.UNLOCK, id_, Target(), "told", "memory"))

    def cut_off(self, target: Target, at: LogMillis, *, id_: str = "revocation-1", before: Millis | None = None) -> None:
        """Revoke whoever is meant and authenticated before."""
        self._control(Control(0, at, ControlType.REVOKE, id_, target, "told", "memory", before=before))

    def rule(self, text: str, at: LogMillis = 0) -> None:
        """Let another policy rule. Raises PolicyError where the text is none."""
        version = version_of(text)
        self._control(
            Control(0, at, ControlType.POLICY, "policy", Target(), "told", "memory", policy_text=text, policy_version=version)
        )

    def watermark(self, log_time: LogMillis, monotonic: Millis, *, controls_to: int = -1) -> None:
        """Every partition is at `log_time`, as known at the instant `monotonic`."""
        for partition in range(len(self._ends)):
            record = encode_watermark(partition, log_time, log_time, controls_to, log_time)
            self._append_to(partition, record, log_time, monotonic)

    def _command(
        self, kind: CommandType, session_id: str, at: Millis, epoch: int, reason: Reason, cutoff: Millis | None,
        reauth: Reauth, rule: str | None,
    ) -> None:  # fmt: skip
        until = at if cutoff is None else cutoff
        command = Command(
            type=kind, session_id=session_id, epoch=epoch, reason=reason, effective_at=at, cutoff=until, limit_ms=None,
            rule=rule, policy="", subject=None, classification=None, reauth=reauth, forget_after=at + DAY, partition=0,
            offset=0, log_time=at, due=at, message=MESSAGE,
        )  # fmt: skip
        self._append(session_id, encode_command(command, at), at)

    def _append(self, session_id: str, record: Record, at: Millis) -> None:
        self._append_to(self.view.partition_of(session_id), record, at, -NEVER)

    def _append_to(self, partition: int, record: Record, at: Millis, monotonic: Millis) -> None:
        stored = _Stored(self._ends[partition], at, record.key, record.value)
        self._ends[partition] += 1
        changes: list[Change] = []
        self._pass(at, monotonic)
        self.view.take_commands(partition, [stored], Now(0, monotonic), changes)
        self._tell(changes, stored)

    def _control(self, control: Control) -> None:
        record = encode_control(control, control.appended)
        stored = _Stored(self._control_end, control.appended, record.key, record.value)
        if control.type is ControlType.POLICY:
            compile_policy(control.policy_text)
        self._control_end += 1
        changes: list[Change] = []
        self._pass(control.appended, -NEVER)
        self.view.take_controls([stored], changes)
        self._tell(changes)

    def _pass(self, wall: Millis, monotonic: Millis) -> None:
        self._now = Now(max(wall, self._now.wall), max(monotonic, self._now.monotonic))

    def _tell(self, changes: list[Change], *commands: _Stored) -> None:
        for listener in self._listeners if changes else ():
            listener(changes)
        told = InForce(self.view.applied, self._now, count_commands(commands))
        for force_listener in self._force_listeners:
            force_listener(told)
