"""The whole decision path without a broker: bytes in, commands out, kill and restore at will.

The Driver holds the log of one partition, its control log and its changelog in memory, and runs the worker's own
intake, partition, state codec and recovery on them. Nothing sleeps: time is the append times you give.
"""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import orjson

from monitor.core.commands import Command, CommandType, strength
from monitor.core.controls import Control
from monitor.core.effects import Effect, Forgotten, Revoked
from monitor.core.events import Event, Tick
from monitor.core.instants import LogMillis
from monitor.core.lifecycle import Lifecycle
from monitor.core.partition import Partition, Position
from monitor.core.session import Dirty, End, Session
from monitor.core.standing import ControlLog
from monitor.policy import compile_policy, version_of
from monitor.wire.controls import decode_control
from monitor.wire.events import encode_tick
from monitor.worker.facts import Fact, Facts
from monitor.worker.intake import Blocked, Intake
from monitor.worker.ports import Headers, Record
from monitor.worker.recovery import Changelog, Ledger, rebuild
from monitor.worker.state import decode_position, encode_position, encode_session, encode_touches

_T = TypeVar("_T")


class Stored(msgspec.Struct):
    """One record of the log."""

    offset: int
    timestamp: LogMillis
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that was put aside."""

    offset: int
    value: bytes | None
    reason: str
    detail: str


class Driver:
    """One partition in virtual time.

    `append`, `tick` and `control` write; what was decided so far stands in `commands` (warnings included),
    `lifecycle`, `dead_letters` and `rerouted`, which survive `restart` as the topics would: a replay's copies come
    again. Raises what the worker would stop at (InvariantError), and InputError for a bad policy or control.
    """

    def __init__(self, policy: str, *, partition: int = 0, partitions: int = 1, now: LogMillis = 0) -> None:
        """`policy` is the text that rules from the start; `now` the log time at which the log begins."""
        self.commands: list[Command] = []
        self.lifecycle: list[Lifecycle] = []
        self.dead_letters: list[DeadLetter] = []
        self.rerouted: list[tuple[int, bytes | None]] = []
        self.log: list[Stored] = []
        self.changelog = Changelog({}, {}, 0)
        self.committed = 0
        self._number, self._partitions = partition, partitions
        self._controls = ControlLog(_compiled)
        self._forgotten: list[Forgotten] = []
        self._snapshots: dict[int, tuple[dict[bytes, bytes], dict[bytes, bytes]]] = {0: ({}, {})}
        self._last = now
        self.policy(policy, at=now)
        position = Position(0, controls_to=0)
        self.changelog.positions[0] = encode_position(position)
        self._adopt(Partition(partition, position, self._controls), Facts())

    # --- writing -------------------------------------------------------------------------------------

    def append(
        self, event: Mapping[str, Any] | bytes | None, at: LogMillis, *, key: str | bytes | None = None,
        headers: Headers = (),
    ) -> int:  # fmt: skip
        """Write one record with append time `at` and apply it; its offset. A mapping is written as JSON."""
        if isinstance(event, Mapping):
            session_id = event.get("session_id")
            key = session_id if key is None and isinstance(session_id, str) else key
            event = orjson.dumps(event)
        key = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
        record = Stored(len(self.log), at, key, event, tuple(headers))
        self.log.append(record)
        self._last = max(self._last, at)
        self._take([record])
        return record.offset

    def append_all(self, records: Sequence[tuple[bytes | None, bytes | None, LogMillis]]) -> None:
        """Write many records (key, value, append time) as one fetch: what a worker sees under load."""
        fetch = [Stored(len(self.log) + place, at, key, value) for place, (key, value, at) in enumerate(records)]
        self.log.extend(fetch)
        self._take(fetch)

    def tick(self, at: LogMillis, controls_to: int | None = None) -> int:
        """Write a tick; by default it lets every control so far take effect."""
        reach = self._controls.read_to if controls_to is None else controls_to
        return self.append(encode_tick(Tick("driver", reach)), at, key=b"~tick")

    def control(self, control: Mapping[str, Any], at: LogMillis | None = None) -> int:
        """Write a control record; its offset. It takes effect at the next tick that reaches it."""
        offset = self._controls.read_to + 1
        value = orjson.dumps(control)
        self._controls.add(decode_control(value, offset=offset, appended=self._last if at is None else at))
        return offset

    def policy(self, text: str, at: LogMillis | None = None) -> int:
        """Write a `control.policy`; its offset."""
        said = {"policy_text": text, "policy_version": version_of(text), "by": "driver", "reason": "test"}
        return self.control({"type": "control.policy", "id": "policy", **said}, at)

    # --- durability ----------------------------------------------------------------------------------

    def checkpoint(self) -> int:
        """Make the state durable as the worker does, and commit; the committed offset."""
        partition = self.partition
        self._sweep()
        dirty, position = partition.dirty[:], partition.position()
        partition.dirty.clear()
        self._write(dirty)
        self.changelog.positions[position.offset] = encode_position(position)
        self.committed = position.offset
        self._snapshots[position.offset] = (dict(self.changelog.sessions), dict(self.changelog.touches))
        for gone in self._forgotten:
            if gone.session_id not in partition.sessions:
                self.changelog.sessions.pop(gone.session_id.encode(), None)
        self._forgotten.clear()
        return self.committed

    def write_ahead(self) -> None:
        """Write the dirty sessions, but die before the commit: what `restart` then finds is ahead."""
        self._write(self.partition.dirty)
        self.partition.dirty.clear()

    def restart(self, committed: int | None = None) -> None:
        """Kill the owner and start another from what is durable; it replays the log from the committed offset.

        `committed` names an earlier checkpoint: then the changelog is the one of that moment.
        """
        offset = self.committed if committed is None else committed
        position = decode_position(self.changelog.positions[offset])
        changelog = self.changelog
        if committed is not None:
            sessions, touches = self._snapshots[offset]
            changelog = Changelog(dict(sessions), dict(changelog.positions), 0, dict(touches))
        strongest: dict[bytes, Fact] = {}
        ranks: dict[bytes, tuple[int, int]] = {}
        for command in self.commands:
            if command.type is CommandType.WARN:
                continue
            key, rank = command.session_id.encode(), strength(command.epoch, command.type)
            if rank > ranks.get(key, (-1, 0)):
                ranks[key] = rank
                strongest.pop(key, None)
                if command.type is not CommandType.REINSTATE:
                    strongest[key] = Fact(command.session_id, command.epoch, _end_of(command))
        ledger = Ledger(strongest, [], 0)
        recovered = _at_once(rebuild(self._number, position, changelog, ledger, self._controls))
        self._forgotten.clear()
        self._adopt(recovered.partition, recovered.facts)
        self._take(self.log[offset:])

    # --- reading -------------------------------------------------------------------------------------

    @property
    def watermark(self) -> LogMillis:
        """Every deadline up to this instant has been decided."""
        self._sweep()
        return self.partition.watermark()

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The sessions in memory: look, don't touch."""
        self._sweep()
        return self.partition.sessions

    # --- Outlet --------------------------------------------------------------------------------------

    def effect(self, effect: Effect) -> None:
        """Collect what was decided."""
        if isinstance(effect, Command):
            self.commands.append(effect)
        elif isinstance(effect, Lifecycle):
            self.lifecycle.append(effect)
        elif isinstance(effect, Revoked):
            for one in effect.each():
                self.effect(one)
        elif isinstance(effect, Forgotten):
            self._forgotten.append(effect)

    def dead_letter(self, record: Record, reason: str, detail: str) -> None:
        """Collect a dead letter."""
        self.dead_letters.append(DeadLetter(record.offset, record.value, str(reason), detail))

    def reroute(self, record: Record, event: Event, partition: int) -> None:
        """Collect a re-routed record."""
        self.rerouted.append((partition, record.value))

    # --- inside --------------------------------------------------------------------------------------

    def _write(self, dirty: Sequence[Session]) -> None:
        """What a checkpoint writes: what was only touched in one record, the rest whole."""
        touched = [session for session in dirty if session.dirty == Dirty.TOUCHED]
        for session in dirty:
            if session.dirty != Dirty.TOUCHED:
                self.changelog.sessions[session.session_id.encode()] = encode_session(session)
            session.dirty = Dirty.NOTHING
        if touched:
            self.changelog.touches[str(len(self.changelog.touches)).encode()] = encode_touches(touched)

    def _adopt(self, partition: Partition, facts: Facts) -> None:
        self.partition = partition
        self._intake = Intake(partition, self, self._partitions, facts)

    def _take(self, records: Sequence[Stored]) -> None:
        place = 0
        while place < len(records):
            place = self._intake.take(records, place)
            self._sweep()
            if self._intake.blocked not in {None, Blocked.SWEEP}:
                raise RuntimeError(f"offset {records[place].offset} can't be applied: {self._intake.blocked.value}")

    def _sweep(self) -> None:
        while not self.partition.sweep(1000):
            pass
        for effect in self.partition.effects:
            self.effect(effect)
        self.partition.effects.clear()


def _at_once(work: Coroutine[Any, Any, _T]) -> _T:
    """Run what only gives turns away (`sleep(0)`) and never waits: an event loop would cost ten times as much."""
    try:
        while True:
            work.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result


def _compiled(control: Control) -> Any:
    return compile_policy(control.policy_text)


def _end_of(command: Command) -> End:
    return End(
        command.type, command.reason, command.effective_at, command.cutoff, command.forget_after, command.offset,
        command.due, command.limit_ms, command.rule, command.policy, command.control_id,
    )  # fmt: skip
