"""Bulk recovery: from the changelog, the commands and the committed offset to a partition, exactly.

Order of truth: the committed offset names the partition record to start from; sessions may be ahead of it
(their `applied_offset` says by how much); commands decided at or after it are facts that the replay meets.
"""

import asyncio
import logging
from itertools import islice
from typing import Final

import msgspec

from monitor.core.commands import CommandType, strength
from monitor.core.errors import InvariantError
from monitor.core.partition import Partition, Position
from monitor.core.session import Dirty, Session, State
from monitor.core.standing import ControlLog
from monitor.wire.bad_record import BadRecord
from monitor.wire.commands import decode_command
from monitor.wire.topics import Topics
from monitor.worker.facts import Fact, Facts
from monitor.worker.ports import Reader
from monitor.worker.state import (
    POSITION_PREFIX,
    TOUCH_PREFIX,
    Restorer,
    applied_offset_of,
    apply_touches,
    decode_position,
)
from monitor.worker.touches import RECOVERED
from monitor.worker.witness import end_of

log = logging.getLogger(__name__)

SLICE: Final = 2000
"""Sessions restored between two turns of the event loop."""


class Changelog(msgspec.Struct):
    """What one partition of the changelog says: the last value of each key."""

    sessions: dict[bytes, bytes]
    positions: dict[int, bytes]
    end: int
    touches: dict[bytes, bytes] = {}
    """Records of touches by key, as they were written."""
    weaker: set[bytes] = set()
    """Keys whose last record is not the one that got furthest: to be written again."""


class Ledger(msgspec.Struct):
    """What one partition of the commands topic says."""

    strongest: dict[bytes, Fact]
    weakened: list[tuple[bytes, bytes]]
    """Keys whose last record is not their strongest, with the strongest: to be written again."""
    end: int


class Recovered(msgspec.Struct):
    """A partition ready to replay from its position."""

    partition: Partition
    facts: Facts
    weakened: list[tuple[bytes, bytes]]
    stale_positions: list[int]
    """Partition records of other offsets: to be given their tombstones."""
    orphans: list[bytes]
    """Keys of commands whose session was forgotten, but not yet their record."""
    changelog_end: int
    commands_end: int


async def read_changelog(reader: Reader, topics: Topics, partition: int) -> Changelog:
    """Read one partition of the changelog whole."""
    start, end = await reader.bounds(topics.changelog.name, partition)
    sessions: dict[bytes, bytes] = {}
    positions: dict[int, bytes] = {}
    touches: dict[bytes, bytes] = {}
    weaker: set[bytes] = set()
    async for records in reader.read(topics.changelog.name, partition, start, end):
        for record in records:
            key, value = record.key, record.value
            if key is None:
                continue
            if value is not None and key[:1] != b"~":
                held = sessions.setdefault(key, value)
                if held is not value:
                    if applied_offset_of(value) >= applied_offset_of(held):
                        sessions[key] = value
                        weaker.discard(key)
                    else:
                        weaker.add(key)
            elif key.startswith(POSITION_PREFIX):
                number = int(key[len(POSITION_PREFIX) :])
                if value is None:
                    positions.pop(number, None)
                else:
                    positions[number] = value
            elif key.startswith(TOUCH_PREFIX):
                if value is None:
                    touches.pop(key, None)
                else:
                    touches[key] = value
            elif value is None:
                sessions.pop(key, None)
            else:
                sessions[key] = value  # of a later version than this: what can't be read stops the partition
    return Changelog(sessions, positions, end, touches, weaker)


async def read_ledger(reader: Reader, topics: Topics, partition: int) -> Ledger:
    """Read one partition of the commands topic whole: of each key the strongest record, not the last.

    A key may have lived twice, and of [end, tombstone, end of the second life] compaction keeps the last, which may be the weaker
    one. It works while we read: we may have seen the first before it was removed, and not the tombstone. So where the last record of
    a key is not its strongest, everything is read once more; the key for which that is so again was written by a zombie.
    """
    ledger = await _read_ledger(reader, topics, partition)
    settled: set[bytes] = set()
    while doubted := {key for key, _ in ledger.weakened} - settled:
        log.info("ledger_doubted", extra={"partition": partition, "sessions": len(doubted)})
        settled |= doubted
        ledger = await _read_ledger(reader, topics, partition)
    return ledger


async def _read_ledger(reader: Reader, topics: Topics, partition: int) -> Ledger:
    start, end = await reader.bounds(topics.session_commands.name, partition)
    strongest: dict[bytes, tuple[tuple[int, int], bytes, Fact | None]] = {}
    last: dict[bytes, bytes] = {}
    async for records in reader.read(topics.session_commands.name, partition, start, end):
        for record in records:
            key, value = record.key, record.value
            if key is None or key.startswith(b"~"):
                continue
            if value is None:
                strongest.pop(key, None)
                last.pop(key, None)
                continue
            try:
                command = decode_command(value)
            except BadRecord as bad:
                log.warning("stray_record", extra={"topic": topics.session_commands.name, "offset": record.offset, "reason": bad.detail})
                continue
            kind = command.known_type
            if kind is None or command.known_reason is None:
                raise InvariantError(
                    f"a newer monitor wrote the command of session {command.session_id!r}: upgrade this worker"
                )
            rank = strength(command.epoch, kind)
            last[key] = value
            held = strongest.get(key)
            if held is None or rank > held[0]:
                fact = None
                if kind in {CommandType.EXPIRE, CommandType.REVOKE}:
                    fact = Fact(command.session_id, command.epoch, end_of(command))
                strongest[key] = (rank, value, fact)
            elif rank == held[0]:
                strongest[key] = (rank, value, held[2])
    return Ledger(
        {key: fact for key, (_, _, fact) in strongest.items() if fact is not None},
        [(key, value) for key, (_, value, _) in strongest.items() if last[key] != value],
        end,
    )


def find_position(number: int, committed: int, changelog: Changelog) -> Position:
    """The partition record of exactly the committed offset. Raises InvariantError where there is none."""
    value = changelog.positions.get(committed)
    if value is None:
        known = ", ".join(map(str, sorted(changelog.positions))) or "none"
        raise InvariantError(
            f"partition {number}: offset {committed} is committed, but the changelog has no record of that position "
            f"(it has: {known}). State and offsets are of different histories; restore the changelog, or reset both."
        )
    return decode_position(value)


async def rebuild(
    number: int, position: Position, changelog: Changelog, ledger: Ledger, controls: ControlLog
) -> Recovered:
    """The partition as it stood right before `position.offset`, with the facts that the replay will meet."""
    partition = Partition(number, position, controls)
    restorer = Restorer(position, controls, partition.rows)
    outlived: list[bytes] = []
    """Keys of commands of an earlier life: their session was forgotten, and its id came back."""
    restored: dict[str, Session] = {}
    records = iter(changelog.sessions.items())
    while some := list(islice(records, SLICE)):
        restored.update(restorer.many(some))
        await asyncio.sleep(0)
    for value in changelog.touches.values():
        apply_touches(value, restored, RECOVERED)
        await asyncio.sleep(0)
    sessions = iter(restored.values())
    while adopted := list(islice(sessions, SLICE)):
        partition.adopt(adopted)
        await asyncio.sleep(0)
    for key in changelog.weaker:
        session = restored.get(key.decode())
        if session is not None:
            session.dirty = Dirty.CHANGED
            partition.dirty.append(session)
    for count, (key, fact) in enumerate(ledger.strongest.items()):
        if count % SLICE == SLICE - 1:
            await asyncio.sleep(0)
        session = restored.get(fact.session_id)
        if session is None or fact.offset >= position.offset - 1:
            continue
        if session.state is not State.LIVE or fact.epoch < session.epoch:
            continue
        if fact.offset > session.applied_offset and fact.epoch == session.epoch:
            partition.settle(session, fact.end)  # an older record of it stood last: what has ended stays ended
        else:
            outlived.append(key)
    facts = [fact for fact in ledger.strongest.values() if fact.offset >= position.offset - 1]
    orphans = [
        key
        for key, fact in ledger.strongest.items()
        if fact.offset < position.offset and key not in changelog.sessions and fact.end.forget_after <= position.log_time
    ]
    orphans += outlived
    return Recovered(
        partition, Facts(facts), ledger.weakened, [n for n in changelog.positions if n != position.offset], orphans,
        changelog.end, ledger.end,
    )  # fmt: skip

