"""The zombie defence: what somebody else wrote where only the owner writes is read, and put right.

Acknowledgements tell every offset at which we wrote. A hole between two of them is another's record: a worker
that was stopped, lost its partitions, woke and sent what it had buffered. Its decisions are ours (same log, same ids);
but compaction keeps the last record of a key, and the last may now be the weaker one. So the owner writes its own again.
"""

from collections.abc import AsyncIterator

from monitor.core.commands import CommandType, strength
from monitor.core.partition import Partition
from monitor.core.session import End, Session, State
from monitor.wire.bad_record import BadRecord
from monitor.wire.commands import CommandRecord, KeyKind, decode_command, read_key
from monitor.worker.facts import Fact
from monitor.worker.ports import Appended, Reader, Record
from monitor.worker.state import POSITION_PREFIX


class Witness:
    """Knows every offset that this worker wrote on the topics of its partitions."""

    def __init__(self) -> None:
        """Nothing is watched yet."""
        self._next: dict[tuple[str, int], int] = {}
        self.holes: list[tuple[str, int, int, int]] = []
        """(topic, partition, start, end) of records that others wrote and nobody has read yet."""

    def watch(self, topic: str, partition: int, end: int) -> None:
        """From this offset on, everything that is not ours is another's."""
        self._next[topic, partition] = end

    def forget(self, partition: int) -> None:
        """The partition is another's now."""
        for place in [place for place in self._next if place[1] == partition]:
            del self._next[place]
        self.holes = [hole for hole in self.holes if hole[1] != partition]

    def acknowledged(self, appended: Appended) -> None:
        """Take in where our records stand."""
        place = (appended.topic, appended.partition)
        expected = self._next.get(place)
        if expected is None:
            return
        if appended.base_offset > expected:
            self.holes.append((*place, expected, appended.base_offset))
        self._next[place] = max(expected, appended.base_offset + appended.count)


async def strangers(reader: Reader, topic: str, partition: int, start: int, end: int) -> AsyncIterator[Record]:
    """The records of a hole."""
    async for records in reader.read(topic, partition, start, end):
        for record in records:
            yield record


def fact_in(record: Record) -> Fact | None:
    """The ending command in a record of the commands topic, if it is one."""
    try:
        kind, _ = read_key(record.key)
        if kind is not KeyKind.SESSION or record.value is None:
            return None
        command = decode_command(record.value)
    except BadRecord:
        return None
    if command.known_reason is None or command.known_type not in {CommandType.EXPIRE, CommandType.REVOKE}:
        return None
    return Fact(command.session_id, command.epoch, end_of(command))


def judge_command(partition: Partition, record: Record) -> tuple[list[str], list[str]]:
    """What a stranger's record on the commands topic asks for: (sessions to restate, sessions to bury)."""
    try:
        kind, session_id = read_key(record.key)
    except BadRecord:
        return [], []
    if kind is not KeyKind.SESSION:
        return [], []
    session = partition.sessions.get(session_id)
    if session is None:
        return [], [session_id] if record.value is not None else []
    if record.value is None:
        return [session_id], []
    try:
        command = decode_command(record.value)
    except BadRecord:
        return [session_id], []
    if command.known_type is None or command.known_reason is None:
        return [], []
    theirs, ours = strength(command.epoch, command.known_type), _strength_of(session)
    if ours is not None and theirs < ours:
        return [session_id], []
    if session.state is State.LIVE and command.epoch == session.epoch and command.known_type is not CommandType.REINSTATE:
        # Gateways obey it already: what has ended stays ended.
        partition.settle(session, end_of(command))
    return [], []


def judge_state(partition: Partition, record: Record, committed: int) -> tuple[Session | None, bytes | None]:
    """What a stranger's changelog record asks for: (a session to write again, a key to bury)."""
    key = record.key or b""
    if key.startswith(POSITION_PREFIX):
        stale = record.value is not None and key != POSITION_PREFIX + str(committed).encode()
        return None, key if stale else None
    session = partition.sessions.get(key.decode("utf-8", "replace"))
    if session is None:
        return None, key if record.value is not None else None
    return session, None


def _strength_of(session: Session) -> tuple[int, int] | None:
    if session.end is not None:
        return strength(session.epoch, session.end.type)
    return strength(session.epoch, CommandType.REINSTATE) if session.lifted is not None else None


def end_of(command: CommandRecord) -> End:
    """How an epoch ended, as its command says. Type and reason must be known."""
    kind, reason = command.known_type, command.known_reason
    if kind is None or reason is None:
        raise ValueError(command.type, command.reason)
    return End(
        kind, reason, int(command.effective_at), int(command.cutoff), int(command.forget_after), command.src.offset,
        int(command.due), command.limit_ms, command.rule, command.policy, command.control_id,
    )  # fmt: skip

