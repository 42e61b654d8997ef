"""The view: what a gateway knows of ended sessions, locks, cut-offs and the policy, and how old that is.

Pure: records go in as they were read, with the present; no I/O, no clock. One thread feeds it, any number may decide
by it: what they see at once is replaced at once.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from monitor.core.controls import Control, ControlType
from monitor.core.errors import InputError
from monitor.core.instants import NEVER, LogMillis, Millis
from monitor.core.plan import Timing
from monitor.gateway.changes import Change, ChangeKind
from monitor.gateway.commanded import Commanded, Kind
from monitor.gateway.controls import ControlIndex
from monitor.gateway.facts import Now
from monitor.gateway.orders import OrderReader
from monitor.policy import CompiledPolicy, compile_policy
from monitor.policy.longest import LongestAbsolute
from monitor.wire.bad_record import BadRecord
from monitor.wire.commands import KeyKind, decode_command, decode_watermark, read_key
from monitor.wire.controls import POLICY_KEY, decode_control
from monitor.wire.partitioner import partition_for

NO_MARK: Final[Millis] = -NEVER
"""The monotonic instant of a watermark that has never come."""
_SPECIAL: Final = ord("~")


class StoredRecord(Protocol):
    """A record as it stands on a topic."""

    offset: int
    timestamp: LogMillis
    key: bytes | None
    value: bytes | None


class Positions(msgspec.Struct, frozen=True):
    """Up to where everything is in force: what a receipt says."""

    commands: dict[int, int]
    """Partition of session-commands -> the last offset applied; -1: none."""
    control: int


class View:
    """Merges `session-commands` and `session-control`. Records at or below a position that was applied are passed over."""

    def __init__(self, partitions: int, *, loaded: bool = True) -> None:
        """`partitions` of session-commands. Until it is loaded (`finish_loading`) nobody is admitted by it."""
        self.loaded = loaded
        self.commanded = Commanded()
        self.controls = ControlIndex()
        self.policy: CompiledPolicy | None = None
        """The newest; None before the first."""
        self.absolute: LongestAbsolute | None = None
        self.shortest_absolute: Millis = NEVER
        """No session has a shorter absolute limit: below it nothing need be looked up."""
        self.timing = Timing()
        self.positions = [-1] * partitions
        """The last offset applied, partition by partition."""
        self.control = -1
        """The last offset of session-control applied."""
        self.oldest: Millis = NO_MARK
        """The monotonic instant at which the partition that has waited longest last advanced."""
        self.behind = False
        """Some partition is ruled by controls that have not been read."""
        self.refused = 0
        """Records that were no control, warning or watermark: passed over."""
        self.last_refused = ""
        self._orders = OrderReader(self.commanded)
        self._standing: dict[str, Control] = {}
        self._read_before = [-1] * partitions
        self._log_times: list[LogMillis] = [-1] * partitions
        self._advanced: list[Millis] = [NO_MARK] * partitions
        self._controls_to = [-1] * partitions
        # A header may hold what is no Unicode: that is nobody's id, and must not end in an exception.
        self._partition_of = lru_cache(maxsize=4096)(lambda name: partition_for(name.encode(errors="surrogatepass"), partitions))

    @property
    def not_understood(self) -> int:
        """Commands of an unknown type, or that can't be read: their sessions are refused."""
        return self._orders.not_understood

    @property
    def locks(self) -> list[Control]:
        """The locks as they stand, those that have expired by now too, in order."""
        # Copied at once: another thread may be feeding.
        return [control for control in list(self._standing.values()) if control.type is ControlType.LOCK]

    # -- what is read -----------------------------------------------------------------------------------

    def take_commands(
        self, partition: int, records: Iterable[StoredRecord], now: Now, changes: list[Change] | None = None, *, news: bool = True
    ) -> None:  # fmt: skip
        """Apply records of one partition, in the order of their offsets. Never raises for what stands in them.

        `news`: nothing stands behind them, so a watermark among them is of `now`; else it is as old as its record.
        `changes` receives what has changed, for those who hold something open.
        """
        position, read_before = self.positions[partition], self._read_before[partition]
        merge, read = self.commanded.merge, self._orders.read
        for record in records:
            if record.offset <= position:
                continue
            position = record.offset
            key, value = record.key, record.value
            if not key or key[0] == _SPECIAL:
                self._take_special(partition, record, now, news, changes)
                continue
            try:
                session_id = key.decode()
            except UnicodeDecodeError:
                self._refuse("a key of session-commands is not UTF-8")
                continue
            if value is None:
                # Of a log that is read again a tombstone may be older than the end that is known.
                if position > read_before and self.commanded.drop(session_id) and changes is not None:
                    changes.append(Change(ChangeKind.FORGOTTEN, session_id))
                continue
            order = read(value)
            if order is not None and merge(session_id, *order) and changes is not None:
                changes.append(self._told(session_id))
        self.positions[partition] = position

    def take_controls(self, records: Iterable[StoredRecord], changes: list[Change] | None = None) -> None:
        """Apply records of session-control, in the order of their offsets.

        As in the worker, what is no control (or a policy that does not compile here) is passed over, and counted.
        """
        touched = False
        for record in records:
            if record.offset <= self.control:
                continue
            self.control = record.offset
            touched |= self._take_control(record, changes)
        if touched:
            self._index()
            if changes is not None:
                changes.append(Change(ChangeKind.CONTROLS))
        self._look_behind()

    def read_to(self, partition: int, offset: int) -> None:
        """Everything up to `offset` (inclusive) has been applied, though compaction left nothing there."""
        self.positions[partition] = max(self.positions[partition], offset)

    def control_read_to(self, offset: int) -> None:
        """Everything of session-control up to `offset` has been applied."""
        self.control = max(self.control, offset)
        self._look_behind()

    def start_over(self, partition: int, offset: int = 0) -> None:
        """The log of this partition is another than it was from `offset` on: what is read of it counts anew.

        What is known stays, and no tombstone forgets it until what had been read before is passed: nobody is admitted
        meanwhile.
        """
        self._read_before[partition] = max(self._read_before[partition], self.positions[partition])
        self.positions[partition] = min(self.positions[partition], offset - 1)

    def start_controls_over(self, offset: int = 0) -> None:
        """As `start_over`, for session-control."""
        self.control = min(self.control, offset - 1)
        self._look_behind()

    def finish_loading(self) -> None:
        """All that stood on the topics has been applied: from now on there are verdicts."""
        self.loaded = True
        self.oldest = min(self._advanced)
        self._index()

    # -- what is asked ----------------------------------------------------------------------------------

    @property
    def applied(self) -> Positions:
        """Up to where everything is in force here; nowhere, before it is loaded."""
        return Positions(dict(enumerate(self.positions)), self.control) if self.loaded else Positions({}, -1)

    def command_id(self, session_id: str) -> str | None:
        """The id of the command that ended a session (`Verdict.commanded`), for receipts; None where it isn't understood."""
        return self.commanded.command_id(session_id)

    def partition_of(self, session_id: str) -> int:
        """The partition that speaks of a session. Remembered; else 2 us for 16 characters."""
        return self._partition_of(session_id)

    def log_time(self, session_id: str | None) -> LogMillis:
        """The log time of the session's partition; where there is no session, the earliest of all; -1: none yet."""
        return min(self._log_times) if session_id is None else self._log_times[self.partition_of(session_id)]

    def age(self, partition: int, monotonic: Millis) -> Millis:
        """How long ago the partition's log time last advanced; more than a century: never."""
        return monotonic - self._advanced[partition]

    def stale(self, session_id: str | None, monotonic: Millis, max_age: Millis) -> bool:
        """Whether too little is known of the session's present state; without a session, of any partition's."""
        if self.loaded and not self.behind and monotonic - self.oldest <= max_age:
            return False
        if session_id is None or not self.loaded:
            return True
        partition = self.partition_of(session_id)
        return self._controls_to[partition] > self.control or self.age(partition, monotonic) > max_age

    # -- inside -----------------------------------------------------------------------------------------

    def _take_special(
        self, partition: int, record: StoredRecord, now: Now, news: bool, changes: list[Change] | None
    ) -> None:
        if record.value is None:
            return
        try:
            kind, name = read_key(record.key)
            if kind is KeyKind.WATERMARK and name == str(partition):
                age = 0 if news else max(0, now.wall - record.timestamp)
                self._mark(partition, record.value, now.monotonic - age)
            elif kind is KeyKind.WARNING and changes is not None:
                self._warn(partition, name, record.value, changes)
        except BadRecord as error:
            self._refuse(str(error))

    def _mark(self, partition: int, value: bytes, at: Millis) -> None:
        mark = decode_watermark(value)
        self._controls_to[partition] = max(self._controls_to[partition], mark.controls_to)
        if mark.log_time > self._log_times[partition]:
            self._log_times[partition] = int(mark.log_time)
            self._advanced[partition] = max(self._advanced[partition], at)
            if self.loaded:
                self.oldest = min(self._advanced)
        self._look_behind()

    def _warn(self, partition: int, session_id: str, value: bytes, changes: list[Change]) -> None:
        """Pass a warning on, unless its deadline or its epoch has gone by."""
        said = decode_command(value)
        known = self.commanded.entry(session_id)
        ended = known is not None and (
            said.epoch < known.epoch or (said.epoch == known.epoch and known.shared.kind is not Kind.REINSTATE)
        )
        if not ended and said.effective_at > self._log_times[partition]:
            changes.append(Change(ChangeKind.WARNED, session_id, said.reason, int(said.effective_at)))

    def _told(self, session_id: str) -> Change:
        entry = self.commanded.entry(session_id)
        if entry is None:
            return Change(ChangeKind.FORGOTTEN, session_id)
        kind = ChangeKind.REINSTATED if entry.shared.kind is Kind.REINSTATE else ChangeKind.ENDED
        return Change(kind, session_id, entry.shared.reason, -1 if entry.effective_at is None else entry.effective_at)

    def _take_control(self, record: StoredRecord, changes: list[Change] | None) -> bool:
        """Whether locks or revocations changed."""
        if record.value is None:
            # Taken back: after compaction nothing would be there either.
            return self._standing.pop((record.key or b"").decode(errors="replace"), None) is not None
        try:
            control = decode_control(record.value, offset=record.offset, appended=record.timestamp)
            if control.type is ControlType.POLICY:
                self._rule(compile_policy(control.policy_text, name=f"{POLICY_KEY.decode()}@{control.offset}"))
                if changes is not None:
                    changes.append(Change(ChangeKind.POLICY))
                return False
        except InputError as error:
            self._refuse(f"session-control@{record.offset}: {error}")
            return False
        if control.type is ControlType.UNLOCK:
            return self._standing.pop(control.id, None) is not None
        self._standing[control.id] = control
        return True

    def _index(self) -> None:
        """Index what may still stand somewhere. Log time only grows: what has run out comes back with a longer lifetime alone."""
        if self.loaded:
            earliest, lifetime = min(self._log_times), self.timing.credential_lifetime
            self.controls = ControlIndex(
                control
                for control in self._standing.values()
                if earliest <= (control.expires if control.type is ControlType.LOCK else control.appended + lifetime)
            )

    def _rule(self, policy: CompiledPolicy) -> None:
        # What is looked up comes before the bound that leads there.
        self.absolute, self.timing, self.policy = LongestAbsolute(policy), policy.timing, policy
        self.shortest_absolute = self.absolute.shortest
        self._index()

    def _look_behind(self) -> None:
        self.behind = max(self._controls_to, default=-1) > self.control

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self.last_refused = why
