"""Which gateways have applied a command, told with the command: it is held back until all have, or for `WAIT`."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeAlias

from monitor.broker.tail import TailRecord
from monitor.broker.tail import tail as tail_topic
from monitor.cli.enforced import place_of, receipt_in
from monitor.cli.output import hint, printable
from monitor.cli.settings import Installation
from monitor.core.errors import AbsenceError
from monitor.core.instants import HOUR, SECOND, Millis
from monitor.detect.enforcement import SILENT_AFTER, Ledger
from monitor.wire.commands import CommandRecord

WAIT: Final[Millis] = 3 * SECOND
KEPT: Final[Millis] = HOUR
"""Of commands that are older it is not looked up who has applied them: receipts come every second."""
NAMED: Final = 4
"""Gateways that are named in a line; of more only how many."""
_READY: Final = 15.0

Told: TypeAlias = Mapping[str, Millis | None]
"""Gateway -> how long it took; None: it has not applied the command."""


class Acknowledgements:
    """Follows the receipts in a thread of its own while it is entered."""

    def __init__(self, installation: Installation) -> None:
        """Nothing is read before it is entered."""
        self._ledger, self._lock = Ledger(), threading.Lock()
        self._topic, self._connection = installation.topics.enforcement_receipts.name, installation.connection
        self._caught_up, self._stopping = threading.Event(), threading.Event()
        self._failure: AbsenceError | None = None
        self._thread = threading.Thread(target=self._follow, name="commands-receipts", daemon=True)

    def __enter__(self) -> Self:
        """Read what has been told so far. Raises AbsenceError."""
        self._thread.start()
        self._caught_up.wait(_READY)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Read no more."""
        self._stopping.set()
        self._thread.join(2)

    def of(self, record: TailRecord) -> Told:
        """Which gateways have applied this command by now, as far as they have said so."""
        with self._lock:
            return self._ledger.applied(place_of(record))

    def _follow(self) -> None:
        since = _wall() - KEPT - SILENT_AFTER
        try:
            with contextlib.closing(tail_topic(self._connection, self._topic, since=since)) as records:
                pauses = 0
                for record in records:
                    if record is None:
                        # The first comes before anything has been read.
                        pauses += 1
                        if pauses > 1:
                            self._caught_up.set()
                        with self._lock:
                            self._ledger.forget(_wall() - KEPT - SILENT_AFTER)
                    elif (receipt := receipt_in(record)) is not None:
                        with self._lock:
                            self._ledger.take_receipt(receipt)
                    if self._stopping.is_set():
                        return
        except AbsenceError as error:
            self._failure = error
            if self._caught_up.is_set():
                hint(f"receipts are no longer read: {error}")
        finally:
            self._caught_up.set()


class Answered(NamedTuple):
    """A command, and who has applied it."""

    record: TailRecord
    command: CommandRecord
    told: Told | None
    """None: it was not asked."""


def answered(
    commands: Iterable[tuple[TailRecord, CommandRecord] | None], acknowledgements: Acknowledgements
) -> Iterator[Answered]:
    """Each command in order, once all gateways have applied it or `WAIT` after it came; at the end the rest at once.

    None among the commands: nothing came for a moment.
    """
    held: deque[tuple[TailRecord, CommandRecord, float]] = deque()
    for one in commands:
        if one is not None:
            held.append((*one, time.monotonic() + WAIT / SECOND))
        while held:
            record, command, until = held[0]
            told = acknowledgements.of(record)
            if None in told.values() and time.monotonic() < until:
                break
            held.popleft()
            yield Answered(record, command, told)
    for record, command, _ in held:
        yield Answered(record, command, acknowledgements.of(record))


def told_line(told: Told) -> str:
    """Who has applied a command, as the end of its line."""
    took = {name: millis for name, millis in told.items() if millis is not None}
    missing = [name for name in told if name not in took]
    if not told:
        return "no gateway tells"
    if len(took) > NAMED:
        said = [f"applied by {len(took)} gateways within {max(took.values())}ms"]
    else:
        said = [f"applied by {', '.join(f'{printable(name)} +{millis}ms' for name, millis in took.items())}"] if took else []
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        said.append(f"not yet by {', '.join(map(printable, missing[:NAMED]))}{more}")
    return "; ".join(said)


def _wall() -> Millis:
    return time.time_ns() // 1_000_000
