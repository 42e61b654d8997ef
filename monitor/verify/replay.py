"""One partition's log, decided once more."""

import heapq
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from json import dumps
from typing import Any

import msgspec

from monitor.core.events import SourceAlive, Tick
from monitor.core.instants import Millis
from monitor.verify import model
from monitor.verify.log import Stored
from monitor.verify.policies import CompiledPlans
from monitor.wire.bad_record import BadRecord
from monitor.wire.events import read_access_event, understand
from monitor.wire.partitioner import partition_for

REROUTED_HEADER = "session-monitor-rerouted"
"""Names the partition an event was first written to."""
LIMITS = ("absolute", "idle")
MOST_SOURCES = 256
"""Announced sources that a partition remembers."""
_INERT: dict[str, Any] = {"kind": "tick", "controls_to": -1}
"""What moves log time and does nothing else."""
_FIELDS = (
    "subject", "principal", "roles", "classification", "workload", "route", "tenant", "client_ip", "auth_time", "acr",
    "expires", "source",
)  # fmt: skip


def command_id(session_id: str, epoch: int, type_: str, reason: str, effective_at: Millis, control_id: str) -> str:
    """DESIGN section 4.2, written down a second time."""
    decision = dumps([session_id, epoch, type_, reason, effective_at, control_id], separators=(",", ":"), ensure_ascii=False)
    return blake2b(decision.encode(), digest_size=16).hexdigest()


class Due(msgspec.Struct, frozen=True):
    """A command that has to be there."""

    id: str
    type: str
    session_id: str
    epoch: int
    reason: str
    effective_at: Millis
    cutoff: Millis
    place: int
    """The record at which it was decided, counted from the first that was read; -1: before it."""
    log_time: Millis
    forget_after: Millis
    counted: int
    """Events of the session up to its end."""


class Attentive(model.Partition):
    """The model, which at each record looks only at sessions to whom something may happen by then.

    Each has one live entry in a heap, at an instant no later than the first of its moments; graces only defer those.
    """

    def __init__(self, policy: dict[str, Any], controls: Iterable[dict[str, Any]], plans: model.Plans) -> None:
        """`policy` rules from the start."""
        super().__init__(policy, controls, plans)
        self.due: list[Due] = []
        self._heap: list[tuple[Millis, str]] = []
        self._armed: dict[str, Millis] = {}
        self._came: list[str] = []

    def record(self, record: dict[str, Any]) -> None:
        """One record."""
        before = self.controls_to
        super().record(record)
        if record["kind"] == "event":
            self._arm(record["session_id"])
        elif self.controls_to != before:
            for name in list(self.sessions):
                self._arm(name)

    def near(self, to: int) -> Collection[model.Session]:
        """Those whose entry has come up."""
        while self._heap and self._heap[0][0] <= to:
            at, name = heapq.heappop(self._heap)
            if self._armed.get(name) == at:
                del self._armed[name]
                self._came.append(name)
        return [self.sessions[name] for name in self._came if name in self.sessions]

    def advance(self, to: int) -> None:
        """Everything due by then."""
        super().advance(to)
        for name in self._came:
            self._arm(name)
        self._came.clear()

    def source_alive(self, record: dict[str, Any]) -> None:
        """One source more than a partition remembers takes the place of the one that has been silent longest."""
        alive = self.alive
        if not record.get("final") and record["source"] not in alive and len(alive) >= MOST_SOURCES:
            del alive[min(alive, key=lambda name: (alive[name], name))]
        super().source_alive(record)

    def watermark(self) -> int:
        """Not asked for here: it would look at every session for every record."""
        return -1

    def command(self, s: model.Session, what: str, reason: Any, at: int, cutoff: int, *given: Any, **more: Any) -> None:
        """Keep with it what the judge needs."""
        super().command(s, what, reason, at, cutoff, *given, **more)
        said = self.commands.pop()
        self.due.append(
            Due(
                command_id(s.id, s.epoch, what, reason, at, said["control_id"]), what, s.id, s.epoch, reason, at, cutoff,
                self.offset, self.log_time, s.forget_after, s.counted,
            )
        )  # fmt: skip

    def _arm(self, name: str) -> None:
        session = self.sessions.get(name)
        if session is None:
            self._armed.pop(name, None)
            return
        at = self._soonest(session)
        if at < self._armed.get(name, model.NEVER):
            self._armed[name] = at
            heapq.heappush(self._heap, (at, name))

    def _soonest(self, s: model.Session) -> Millis:
        if s.ended:
            return int(s.forget_after)
        open_ = (at for kind, (at, _) in s.deadlines.items() if kind.removeprefix("observed_") not in s.observed or kind in LIMITS)
        instants = [s.plan["until"], *open_]
        for kind, limit in zip(LIMITS, (s.absolute[0], s.plan["idle"][0]), strict=True):
            deadline = s.deadlines[kind][0]
            below = min(limit, s.warned.get((kind, deadline), model.NEVER))
            instants += [deadline - lead for lead in s.plan["warn_before"] if lead < below]
        return int(min(instants))


class Replay:
    """Feed it the records of one partition of access-events, in order."""

    def __init__(
        self, partition: int, partitions: int, controls: Sequence[tuple[int, dict[str, Any]]], *,
        controls_to: int | None, controls_end: int, openings: dict[int, str] | None, put_aside: Collection[int],
    ) -> None:  # fmt: skip
        """`controls` are (offset, control); `controls_to` is what ruled from the first record on, None: that is not known.

        `openings` (offset -> session) are those of a log whose past is cut off; None: it is whole. `put_aside` are the
        offsets of its dead letters.
        """
        self.refused: dict[int, str] = {}
        """Offset of what has to be in dead-letters -> why."""
        self.strays: dict[int, str] = {}
        """Offset of what has to be re-routed -> its session."""
        self.opened: dict[str, int] = {}
        """Session -> the offset from which it is judged: its first opening."""
        self.unknown: set[str] = set()
        """Sessions whose beginning lies before the log's, or in its warm-up."""
        self.unsure: set[str] = set()
        """Sessions with a source of which it is not known whether it had announced itself before the log begins."""
        self.offsets: list[int] = []
        self.times: dict[int, Millis] = {}
        """Offset of what has to be in dead-letters -> when it was appended."""
        self.accepted: set[int] = set()
        """Offsets of dead letters that stand for events which can be applied."""
        self.whole = openings is None
        self.events = 0
        self._partition, self._partitions = partition, partitions
        self._places = [offset for offset, _ in controls]
        self._controls_end = controls_end
        self._openings, self._put_aside = openings, put_aside
        self._warm_from: Millis | None = None
        self._began: Millis | None = None
        self._heard: set[str] = set()
        said = [control for _, control in controls]
        first = next((control["policy"] for control in said if control["type"] == "control.policy"), None)
        self._ruled = first is not None
        self.model = Attentive(first or {"timing": {"outage_grace": 0, "lateness": 0}}, said, CompiledPlans())
        if controls_to is not None:
            self._let_rule(controls_to)

    @property
    def ruled(self) -> bool:
        """Whether there is a policy at all."""
        return self._ruled

    def offset_of(self, place: int) -> int:
        """Where the record stands that was `place` in order; before the first: right before it."""
        return self.offsets[place] if place >= 0 else (self.offsets[0] - 1 if self.offsets else -1)

    def take(self, record: Stored) -> None:
        """One record."""
        if self._began is None:
            self._began = record.timestamp
        self.offsets.append(record.offset)
        model_ = self.model
        letters, strays = len(model_.dead_letters), len(model_.strayed)
        said = self._said(record)
        model_.record(said)
        if said["kind"] == "event" and record.offset in self._put_aside and len(model_.dead_letters) == letters:
            self.accepted.add(record.offset)
        if len(model_.dead_letters) > letters:
            self.refused[record.offset] = f"session {said['session_id']!r} belongs to another subject or tenant"
        if len(model_.strayed) > strays:
            self.strays[record.offset] = said["session_id"]
        if record.offset in self.refused:
            self.times[record.offset] = record.timestamp

    def _said(self, record: Stored) -> dict[str, Any]:
        at = {"at": record.timestamp}
        try:
            said = read_access_event(record.value, record.headers)
            event = understand(said, record.key, record.timestamp)
        except BadRecord as bad:
            self.refused[record.offset] = str(bad)
            return _INERT | at
        if isinstance(event, Tick):
            return self._tick(record, event.controls_to)
        if isinstance(event, SourceAlive):
            self._heard.add(event.source)
            return {"kind": "alive", "source": event.source, "time": event.time, "final": event.final} | at
        self.events += 1
        name = event.session_id
        if not self._judged(record, name):
            return _INERT | at
        if self._openings is not None and event.source is not None and event.source not in self._heard:
            self.unsure.add(name)
        home = partition_for(name.encode(), self._partitions) == self._partition
        members = {word: value for word in _FIELDS if (value := getattr(event, word)) is not None}
        return members | at | {
            "kind": "event", "type": event.type.value, "session_id": name, "time": event.time, "activity": said.activity,
            "home": home or any(header == REROUTED_HEADER for header, _ in record.headers),
        }  # fmt: skip

    def _tick(self, record: Stored, controls_to: int) -> dict[str, Any]:
        if controls_to >= self._controls_end or record.offset in self._put_aside:
            self.refused[record.offset] = f"a tick of controls up to {controls_to}, where there were none"
            return _INERT | {"at": record.timestamp}
        place = bisect_right(self._places, controls_to) - 1
        if self._warm_from is None and self._openings is not None:
            # Whatever stood before the log's beginning stands from here on.
            self._let_rule(controls_to)
            grace = self.model.policy["timing"]["outage_grace"]
            self._warm_from = (self._began or 0) + grace if self._ruled_by(place) else model.NEVER
        return {"kind": "tick", "at": record.timestamp, "controls_to": place}

    def _let_rule(self, controls_to: int) -> None:
        self.model.tick({"controls_to": bisect_right(self._places, controls_to) - 1})

    def _ruled_by(self, place: int) -> bool:
        return any(control["type"] == "control.policy" for control in self.model.controls[: place + 1])

    def _judged(self, record: Stored, name: str) -> bool:
        """Whether the whole of this session's life is known here."""
        if self._openings is None or name in self.model.sessions:
            self.opened.setdefault(name, record.offset)
            return True
        warm = self._warm_from is not None and record.timestamp >= self._warm_from
        if warm and self._openings.get(record.offset) == name:
            self.opened.setdefault(name, record.offset)
            return True
        # A stray opens nothing here, whatever its past: if it is one, its home knows it.
        if name not in self.opened:
            self.unknown.add(name)
        return False
