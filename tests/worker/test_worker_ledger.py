"""What a new owner takes from the commands topic, while compaction works on it."""

from collections.abc import AsyncIterator, Callable

import msgspec

from monitor.core.commands import Command, CommandType, Reauth
from monitor.core.reasons import Reason
from monitor.wire.commands import encode_command
from monitor.wire.topics import Topics
from monitor.worker.recovery import Ledger, read_ledger

T = 1_795_500_000_000
KEY = b"s-1"
WEAK, STRONG, TOMB = (0, CommandType.EXPIRE), (3, CommandType.EXPIRE), None


class Stored(msgspec.Struct):
    offset: int
    value: bytes | None
    key: bytes = KEY
    timestamp: int = T
    headers: tuple = ()


class Log:
    """A partition, read one record at a time; `between` is called before each, and may do what compaction does."""

    def __init__(self, *written: tuple[int, CommandType] | None, between: Callable[["Log"], None] = lambda _: None) -> None:
        self.records = [Stored(n, None if one is None else value(*one)) for n, one in enumerate(written)]
        self.readings, self._between = 0, between

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, self.records[-1].offset + 1

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[list[Stored]]:
        self.readings += 1
        at = start
        while found := [one for one in self.records if at <= one.offset < end]:
            at = found[0].offset + 1
            yield found[:1]
            self._between(self)

    def keep(self, *offsets: int) -> None:
        self.records = [one for one in self.records if one.offset in offsets]


def value(epoch: int, type_: CommandType) -> bytes:
    command = Command(
        type=type_, session_id=KEY.decode(), epoch=epoch, reason=Reason.IDLE_TIMEOUT, effective_at=T, cutoff=T, limit_ms=60_000, rule="r",
        policy="p", subject=None, classification=None, reauth=Reauth(allowed=True), forget_after=T, partition=0, offset=epoch, log_time=T, due=T,
    )  # fmt: skip
    encoded = encode_command(command, T).value
    assert encoded is not None
    return encoded


async def read(log: Log) -> Ledger:
    return await read_ledger(log, Topics(), 0)


def epochs(ledger: Ledger) -> list[int]:
    return [fact.epoch for fact in ledger.strongest.values()]


async def test_what_stands_is_read_once() -> None:
    log = Log(WEAK, STRONG)
    ledger = await read(log)
    assert (epochs(ledger), ledger.weakened, log.readings) == ([3], [], 1)


async def test_what_a_zombie_wrote_last_is_written_over() -> None:
    log = Log(STRONG, WEAK)
    ledger = await read(log)
    assert (epochs(ledger), ledger.weakened) == ([3], [(KEY, value(*STRONG))])
    assert log.readings == 2


async def test_a_tombstone_between_two_lives_ends_the_first() -> None:
    log = Log(STRONG, TOMB, WEAK)
    ledger = await read(log)
    assert (epochs(ledger), ledger.weakened, log.readings) == ([0], [], 1)


async def test_compaction_at_work_does_not_bring_the_first_of_two_lives_back() -> None:
    # The end of the first life has been read when compaction removes it, with the tombstone behind it.
    log = Log(STRONG, TOMB, WEAK, between=lambda log: log.keep(2))
    ledger = await read(log)
    assert (epochs(ledger), ledger.weakened, log.readings) == ([0], [], 2)
