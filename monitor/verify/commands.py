"""What one partition of session-commands says, and what contradicts itself there."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

import msgspec

from monitor.core.instants import Millis
from monitor.verify.log import Stored
from monitor.verify.replay import command_id
from monitor.verify.report import Unjudged, Violation, Wrong
from monitor.wire.bad_record import BadRecord
from monitor.wire.commands import CommandRecord, KeyKind, decode_command, decode_watermark, read_key

ORDERS = {"session.reinstate": 0, "session.expire": 1, "session.revoke": 2}
"""Type -> strength within an epoch."""
LIMITS = ("idle_timeout", "absolute_timeout")


class Order(msgspec.Struct, frozen=True):
    """One record of an order, and the life of the session that it belongs to: tombstones part lives."""

    offset: int
    said: CommandRecord
    life: int


class Commands:
    """One partition, read from its beginning to its end."""

    def __init__(self, topic: str, partition: int, begin: int, records: Iterable[Stored]) -> None:
        """`begin` is its first offset."""
        self._topic, self._partition = topic, partition
        self.orders: list[Order] = []
        self.violations: list[Violation] = []
        self.unjudged: list[Unjudged] = []
        self.log_time: Millis | None = None
        """The last watermark's: everything before it was decided."""
        self.first_controls_to: int | None = None
        """What ruled when the partition was first owned, where that is still to be read."""
        self.compacted_to: Millis = -1
        """What was written up to here may have been removed by compaction."""
        self.buried: dict[str, int] = {}
        """Session -> the offset of its last tombstone."""
        self._lives: Counter[str] = Counter()
        self._decided_to: Millis = -1
        self._seen: set[str] = set()
        expected = 0
        for record in records:
            if record.offset > expected:
                self.compacted_to = record.timestamp
            expected = record.offset + 1
            self._take(record)
        if begin > 0 or self.compacted_to >= 0:
            self.first_controls_to = None

    def contradictions(self, due: Collection[str]) -> list[Violation]:
        """Two ids for one decision; a session whose last record is not its strongest. `due` are ids that have to be."""
        found = []
        ids: dict[tuple[str, int, str, int], dict[str, Order]] = defaultdict(dict)
        strongest: dict[tuple[str, int], Order] = {}
        last: dict[tuple[str, int], Order] = {}
        for order in self.orders:
            said = order.said
            ids[said.session_id, said.epoch, said.type, order.life].setdefault(said.id, order)
            life = said.session_id, order.life
            last[life] = order
            if _rank(order) >= _rank(strongest.get(life, order)):
                strongest[life] = order
        for (name, epoch, type_, _), those in ids.items():
            if len(those) > 1 and not those.keys() <= set(due):
                *_, second = those.values()
                what = f"{type_} of {name!r}, epoch {epoch}, has {len(those)} ids: {', '.join(those)}"
                found.append(self.violation(Wrong.TWO_IDS, what, second))
        for life, order in last.items():
            strong = strongest[life]
            if _rank(order) < _rank(strong):
                what = f"{order.said.type} of epoch {order.said.epoch} stands after {strong.said.type} of epoch {strong.said.epoch} at offset {strong.offset}"
                found.append(self.violation(Wrong.WEAKENED, what, order))
        return found

    def violation(self, wrong: Wrong, what: str, order: Order) -> Violation:
        """One about a record here."""
        return Violation(wrong, what, self._topic, self._partition, order.offset, order.said.session_id, order.said.epoch)

    def _take(self, record: Stored) -> None:
        try:
            kind, name = read_key(record.key)
            if kind is KeyKind.WATERMARK and record.value is not None:
                mark = decode_watermark(record.value)
                self._decided_to = max(self._decided_to, mark.decided_to)
                self.log_time = max(self.log_time or 0, mark.log_time)
                if self.first_controls_to is None and not self._seen:
                    self.first_controls_to = mark.controls_to
                return
            if kind is not KeyKind.SESSION:
                return
            if record.value is None:
                self._lives[name] += 1
                self.buried[name] = record.offset
                return
            said = decode_command(record.value)
        except BadRecord as bad:
            self._pass_over(record, str(bad))
            return
        if said.type not in ORDERS:
            self._pass_over(record, "a newer monitor wrote it")
            return
        order = Order(record.offset, said, self._lives[name])
        self.orders.append(order)
        self._check_id(order)
        if said.id not in self._seen:
            self._seen.add(said.id)
            self._check_watermark(order)

    def _check_id(self, order: Order) -> None:
        said = order.said
        right = command_id(said.session_id, said.epoch, said.type, said.reason, int(said.effective_at), said.control_id)
        if said.id != right:
            self.violations.append(self.violation(Wrong.WRONG_ID, f"id is {said.id}, its decision's is {right}", order))

    def _check_watermark(self, order: Order) -> None:
        """When one says T, every command for a deadline at or before T stands before it."""
        said = order.said
        if said.type != "session.expire" or said.reason not in LIMITS or said.effective_at > self._decided_to:
            return
        if said.log_time <= self.compacted_to:
            why = "stands after a watermark that speaks for it, but compaction may have removed its first record"
            self.unjudged.append(Unjudged(why, self._topic, self._partition))
            return
        late = self._decided_to - said.effective_at
        what = f"{said.reason} came after a watermark that had spoken for {late} ms more than its deadline"
        self.violations.append(self.violation(Wrong.WATERMARK, what, order))

    def _pass_over(self, record: Stored, why: str) -> None:
        why = f"offset {record.offset} is no command that this program knows: {why}"
        self.unjudged.append(Unjudged(why, self._topic, self._partition))


def _rank(order: Order) -> tuple[int, int]:
    return order.said.epoch, ORDERS[order.said.type]
