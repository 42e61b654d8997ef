"""Both sides held against each other: what the log calls for, and what stands on the other topics."""

from collections import Counter, defaultdict
from typing import Any

import msgspec

from monitor.core.controls import Control, ControlType
from monitor.core.instants import Millis
from monitor.verify.accounts import Accounts
from monitor.verify.commands import Commands, Order
from monitor.verify.log import CREATE_TIME, Log, Stored
from monitor.verify.policies import policy_of
from monitor.verify.replay import REROUTED_HEADER, Due, Replay
from monitor.verify.report import Held, Report, Unjudged, Violation, Wrong
from monitor.wire.bad_record import BadRecord
from monitor.wire.controls import decode_control
from monitor.wire.times import format_time
from monitor.wire.topics import Topics


def verify(log: Log, topics: Topics, since: Millis | None = None, until: Millis | None = None) -> Report:
    """Judge access events appended from `since` on and before `until`, and what was decided by them.

    O(records); memory grows with the sessions that are alive at one time, the ends on session-lifecycle and the
    commands of one partition. Raises PolicyError where session-control holds a policy that can't be used.
    """
    return _Judge(log, topics, since, until).report()


class _Judge:
    def __init__(self, log: Log, topics: Topics, since: Millis | None, until: Millis | None) -> None:
        self._log, self._since, self._until = log, since, until
        self._events, self._orders = topics.access_events.name, topics.session_commands.name
        self._letters_topic, self._lifecycle = topics.dead_letters.name, topics.session_lifecycle.name
        self._control = topics.session_control.name
        self._report = Report()
        self._rerouted: Counter[tuple[str, int]] = Counter()
        """(session, partition it came from) -> copies that came to their own."""
        self._strays: dict[tuple[str, int], list[int]] = defaultdict(list)
        self._controls, self._controls_end = self._read_controls()
        self._accounts = Accounts(log, self._lifecycle, self._letters_topic, self._events)

    def report(self) -> Report:
        for number in self._log.partitions(self._events):
            self._partition(number)
        for (name, number), offsets in self._strays.items():
            for offset in offsets[self._rerouted[name, number] :]:
                what = f"of {name!r}, written to the wrong partition: no copy of it came to its own"
                self._wrong(Wrong.NOT_REROUTED, what, self._events, number, offset, name)
        if self._accounts.unreadable:
            for record in self._accounts.unreadable:
                self._unjudged(f"offset {record.offset} is no record that this program knows", self._lifecycle, record.partition)
        by_partition = Counter(one.partition for one in self._report.violations if one.topic in {self._events, self._orders})
        self._report.partitions = [
            msgspec.structs.replace(one, violations=by_partition[one.partition]) for one in self._report.partitions
        ]
        return self._report

    def _partition(self, number: int) -> None:
        begin, end = self._log.bounds(self._events, number)
        commands = Commands(
            self._orders, number, self._log.bounds(self._orders, number)[0], self._log.read(self._orders, number)
        )
        self._report.unjudged += commands.unjudged
        cut = begin > 0 or self._since is not None or commands.first_controls_to is None
        letters = self._accounts.letters[number]
        replay = Replay(
            number, len(self._log.partitions(self._events)), self._controls, controls_end=self._controls_end,
            controls_to=None if cut else commands.first_controls_to, put_aside=letters.keys(),
            openings=self._accounts.openings[number] if cut else None,
        )  # fmt: skip
        settled, judged_to = self._replay(replay, commands.log_time, number)
        ends = replay.offsets[-1] + 1 if replay.offsets else end
        begins = replay.offsets[0] if replay.offsets else begin
        ids = Counter(order.said.id for order in commands.orders if begins - 1 <= order.said.src.offset < ends)
        self._report.partitions.append(
            Held(number, begins, ends, judged_to, replay.events, len(replay.opened), len(ids), ids.total() - len(ids))
        )
        self._report.violations += commands.violations
        self._report.violations += commands.contradictions({due.id for due in replay.model.due})
        if not replay.offsets:
            return
        if not replay.ruled:
            self._unjudged("session-control has no policy", self._control, 0, replay.events)
            return
        if replay.unknown:
            why = "sessions whose beginning lies before the first event that was read, or within its warm-up"
            self._unjudged(why, self._events, number, len(replay.unknown))
        self._expected(replay, commands, settled, number)
        self._called_for(replay, commands, number)
        self._put_aside(replay, letters, settled, number)

    def _replay(self, replay: Replay, log_time: Millis | None, number: int) -> tuple[int, Millis | None]:
        """Feed it the log; how many of its records are settled, and up to when."""
        if log_time is None:
            settled_at, why = -1, "no watermark: nothing is known to have been decided"
        else:
            settled_at, why = min(log_time, self._until or log_time), ""
        settled, count, over = None, 0, False
        for record in self._log.read(self._events, number, self._since):
            for name, said in record.headers:
                if name == REROUTED_HEADER and record.key is not None and said.isdigit():
                    self._rerouted[record.key.decode(errors="replace"), int(said)] += 1
            over = over or (self._until is not None and record.timestamp >= self._until)
            if over:
                continue  # but for copies of what was re-routed before
            if record.timestamp_type == CREATE_TIME:
                settled, why = 0, "its timestamps are not the broker's: decisions on it can't be repeated"
                break
            if settled is None and record.timestamp >= settled_at:
                settled = count
            replay.take(record)
            count += 1
        if why and (count or settled == 0):
            self._unjudged(why, self._events, number, max(1, count))
        return (count if settled is None else settled), (None if why else settled_at)

    def _expected(self, replay: Replay, commands: Commands, settled: int, number: int) -> None:
        """Everything that was due is there, and its end accounted for."""
        there: dict[str, Order] = {}
        for order in commands.orders:
            there.setdefault(order.said.id, order)
        orders = {order.said.session_id: order for order in commands.orders}
        unsure: Counter[str] = Counter()
        for due in replay.model.due:
            if due.place >= settled:
                continue
            found = there.get(due.id)
            if found is None:
                if why := self._removed(due, commands, orders.get(due.session_id), replay):
                    unsure[why] += 1
                    continue
                what = f"{due.type} ({due.reason}), effective at {format_time(max(0, due.effective_at))}, is not there"
                self._wrong(Wrong.MISSING, what, self._events, number, replay.offset_of(due.place), due.session_id, due.epoch)
                continue
            if int(found.said.cutoff) != due.cutoff:
                what = f"the cut-off is {format_time(int(found.said.cutoff))}, has to be {format_time(max(0, due.cutoff))}"
                self._report.violations.append(commands.violation(Wrong.WRONG_CUTOFF, what, found))
            self._ended(due, replay, number)
        for why, count in unsure.items():
            self._unjudged(why, self._orders, number, count)

    def _removed(self, due: Due, commands: Commands, last: Order | None, replay: Replay) -> str:
        """Why it may be missing and nothing be wrong; empty where there is no such reason."""
        if due.session_id in replay.unsure:
            return "whether a source had announced itself before the beginning is not known, and it may matter here"
        if due.log_time > commands.compacted_to:
            return ""
        if due.session_id in commands.buried or due.forget_after <= (commands.log_time or 0):
            return "the session was forgotten, and compaction removes what it was told"
        if last is not None and last.said.src.offset > replay.offset_of(due.place):
            return "a later command of the session is there, and compaction removes earlier ones"
        return ""

    def _ended(self, due: Due, replay: Replay, number: int) -> None:
        if due.type == "session.reinstate" or due.log_time <= self._accounts.ends_since:
            return
        place = replay.offset_of(due.place)
        ends = self._accounts.ends.get(due.id)
        if not ends:
            what = f"{due.type} ({due.reason}) has no record on session-lifecycle"
            self._wrong(Wrong.NO_LIFECYCLE, what, self._events, number, place, due.session_id, due.epoch)
            return
        for end in ends:
            if end.counted != due.counted:
                what = f"its end speaks of {end.counted} events, {due.counted} had come"
                self._wrong(Wrong.COUNTS, what, self._lifecycle, end.partition, end.offset, due.session_id, due.epoch)

    def _called_for(self, replay: Replay, commands: Commands, number: int) -> None:
        """Everything that is there was due."""
        due = {one.id for one in replay.model.due}
        seen: set[str] = set()
        last = replay.offsets[-1]
        for order in commands.orders:
            said = order.said
            since = replay.opened.get(said.session_id)
            if said.id in due or said.id in seen or not replay.offsets[0] - 1 <= said.src.offset <= last:
                continue
            seen.add(said.id)
            if since is None and said.session_id not in replay.unknown and replay.whole:
                since = -1  # of a session that never was
            if since is None or said.src.offset < since:
                continue
            if said.session_id in replay.unsure:
                why = "whether a source had announced itself before the beginning is not known, and it may matter here"
                self._unjudged(why, self._orders, number)
                continue
            what = f"{said.type} ({said.reason}), effective at {format_time(int(said.effective_at))}, was never due"
            self._report.violations.append(commands.violation(Wrong.NEVER_DUE, what, order))

    def _put_aside(self, replay: Replay, letters: dict[int, tuple[int, int]], settled: int, number: int) -> None:
        """Every record is applied, re-routed, or a dead letter."""
        end = replay.offsets[settled] if settled < len(replay.offsets) else replay.offsets[-1] + 1
        for offset, why in replay.refused.items():
            if offset in letters or offset >= end:
                continue
            if replay.times[offset] <= self._accounts.letters_since:
                self._unjudged("older than the dead letters that are still there", self._events, number)
                continue
            self._wrong(Wrong.NO_DEAD_LETTER, f"not in dead-letters ({why})", self._events, number, offset)
        for offset, (partition, place) in letters.items():
            if offset in replay.accepted:
                what = f"{self._events} {number}/{offset} was put aside, and says what can be applied"
                self._wrong(Wrong.NEEDLESS_DEAD_LETTER, what, self._letters_topic, partition, place)
        for offset, name in replay.strays.items():
            if offset < end:
                self._strays[name, number].append(offset)

    def _read_controls(self) -> tuple[list[tuple[int, dict[str, Any]]], int]:
        controls = []
        for record in self._log.read(self._control, 0):
            if record.value is None:
                continue
            try:
                controls.append((record.offset, _control(record)))
            except BadRecord:
                continue  # as the worker does: it obeys only what it can read
        return controls, self._log.bounds(self._control, 0)[1]

    def _wrong(
        self, wrong: Wrong, what: str, topic: str, partition: int, offset: int,
        session_id: str | None = None, epoch: int | None = None,
    ) -> None:  # fmt: skip
        self._report.violations.append(Violation(wrong, what, topic, partition, offset, session_id, epoch))

    def _unjudged(self, why: str, topic: str, partition: int, count: int = 1) -> None:
        self._report.unjudged.append(Unjudged(why, topic, partition, count))


def _control(record: Stored) -> dict[str, Any]:
    control: Control = decode_control(record.value, offset=record.offset, appended=record.timestamp)
    target = {name: value for name, value in msgspec.structs.asdict(control.target).items() if value not in {None, False}}
    said: dict[str, Any] = {
        "at": record.timestamp, "type": control.type.value, "id": control.id, "target": target, "reason": control.reason,
        "expires": control.expires,
    }  # fmt: skip
    if control.before is not None:
        said["before"] = control.before
    if control.type is ControlType.POLICY:
        said["policy"] = policy_of(control.policy_text)
    return said
