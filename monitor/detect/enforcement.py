"""`Ledger`: which gateway has applied which commands, how long that took, and what is unapplied.

It is told of commands and receipts in the order of their topics, whichever topic comes first. See the README for what
counts.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from monitor.core.instants import SECOND, LogMillis, Millis
from monitor.detect.quantiles import quantile
from monitor.wire.receipts import Applied, Receipt, Refused, Stopped

SILENT_AFTER: Final[Millis] = 15 * SECOND
"""Three heartbeats."""


class GatewayState(StrEnum):
    """What is known of a gateway."""

    RUNNING = "running"
    SILENT = "silent"
    """No receipt for `SILENT_AFTER`, and no word that it has stopped."""
    STOPPED = "stopped"


class Ordered(msgspec.Struct, frozen=True):
    """A command in its place on session-commands."""

    partition: int
    offset: int
    appended: LogMillis
    session_id: str


class Standing(msgspec.Struct, frozen=True):
    """How one gateway stands."""

    gateway: str
    state: GatewayState
    last_seen: Millis
    """By the gateway's own clock."""
    positions: dict[int, int]
    control: int
    view_age: Millis | None
    refused: int
    """Sessions and commands, each counted once."""
    inflight_cut: int
    enforced: int
    """Commands of which is known how long they took."""
    p50: Millis | None
    p99: Millis | None
    unapplied: int
    oldest_unapplied: Ordered | None


class Waiting(msgspec.Struct, frozen=True):
    """Whether anything is awaited of one gateway."""

    gateway: str
    stopped: bool
    heard: Millis
    """The append time of its newest receipt where that was told, else its `at`."""
    unapplied: int
    oldest: Ordered | None
    since: Millis | None
    """Since when the oldest waits: it was appended, or later, when the gateway first told what it had applied."""


class _Commands:
    """Of one partition, in the order of their offsets."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.appended: list[LogMillis] = []
        self.session_ids: list[str] = []


class _Steps:
    """How far a gateway was on one partition, and since when. Both lists ascend."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.at: list[Millis] = []

    def take(self, position: int, at: Millis) -> None:
        if self.positions and position < self.positions[-1]:
            self.positions.clear()
            self.at.clear()
        if not self.positions or position > self.positions[-1]:
            self.positions.append(position)
            self.at.append(at)

    def when(self, offset: int) -> Millis | None:
        """Since when `offset` is applied; None: it isn't."""
        index = bisect_left(self.positions, offset)
        return self.at[index] if index < len(self.at) else None


class _Gateway:
    """What one gateway has said."""

    def __init__(self, first: Millis) -> None:
        self.first, self.last_seen, self.heard, self.stopped = first, first, first, False
        self.begun: Millis | None = None
        """The first word of what is applied, since it last began."""
        self.steps: dict[int, _Steps] = {}
        self.control = -1
        self.view_age: Millis | None = None
        self.refused: dict[tuple[str, str | None], int] = {}

    def take(self, receipt: Receipt, appended: LogMillis | None) -> None:
        if isinstance(receipt, Applied):
            if self.begun is None or self.stopped:
                # Of a name that comes back after its end: the time between is nobody's.
                self.begun = int(receipt.at)
            for partition, position in receipt.positions.items():
                self.steps.setdefault(partition, _Steps()).take(position, int(receipt.at))
            self.control, self.view_age = receipt.control, receipt.view_age_ms
        elif isinstance(receipt, Refused):
            name = receipt.session_id, receipt.command_id
            # Written again after an outage of the broker, it says the same.
            self.refused[name] = max(receipt.inflight_cut, self.refused.get(name, 0))
        self.last_seen, self.stopped = int(receipt.at), isinstance(receipt, Stopped)
        self.heard = self.last_seen if appended is None else appended

    def state(self, now: Millis) -> GatewayState:
        if self.stopped:
            return GatewayState.STOPPED
        return GatewayState.SILENT if now - self.last_seen > SILENT_AFTER else GatewayState.RUNNING

    def position(self, partition: int) -> int:
        steps = self.steps.get(partition)
        return -1 if steps is None else steps.positions[-1]


class Ledger:
    """Commands and receipts, held against each other. Memory grows with both: `forget` what is old."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._commands: dict[int, _Commands] = {}
        self._gateways: dict[str, _Gateway] = {}
        self._by_session: dict[str, list[Ordered]] | None = None
        """Made when it is first asked for."""

    @property
    def gateways(self) -> list[str]:
        """All that have said something, in order."""
        return sorted(self._gateways)

    def take_command(self, command: Ordered) -> None:
        """A command that was appended. One at or below an offset that is known already is passed over."""
        known = self._commands.setdefault(command.partition, _Commands())
        if not known.offsets or command.offset > known.offsets[-1]:
            known.offsets.append(command.offset)
            known.appended.append(command.appended)
            known.session_ids.append(command.session_id)
            if self._by_session is not None:
                self._by_session.setdefault(command.session_id, []).append(command)

    def take_receipt(self, receipt: Receipt, appended: LogMillis | None = None) -> None:
        """A receipt that was written, and when it was appended, where that is known."""
        gateway = self._gateways.get(receipt.gateway)
        if gateway is None:
            gateway = self._gateways[receipt.gateway] = _Gateway(int(receipt.at))
        gateway.take(receipt, appended)

    def forget(self, before: Millis) -> None:
        """Let go of commands that were appended before then, and of gateways that have said nothing since. O(what is held)."""
        for known in self._commands.values():
            # Append times ascend with the offsets.
            count = bisect_left(known.appended, before)
            self._forget_sessions(known.session_ids[:count])
            del known.offsets[:count], known.appended[:count], known.session_ids[:count]
        self._gateways = {name: one for name, one in self._gateways.items() if one.last_seen >= before}
        for gateway in self._gateways.values():
            for steps in gateway.steps.values():
                count = min(bisect_left(steps.at, before), len(steps.at) - 1)
                del steps.positions[:count], steps.at[:count]

    def lowest_position(self, partition: int) -> int:
        """The last offset that all gateways but the stopped have applied; -1: none, or there is no gateway."""
        return min((one.position(partition) for one in self._gateways.values() if not one.stopped), default=-1)

    def applied(self, command: Ordered) -> dict[str, Millis | None]:
        """How long each gateway took; None: it has not applied it. Left out are those that began after it, had gone silent before, or have stopped without it."""
        found: dict[str, Millis | None] = {}
        for name in self.gateways:
            gateway = self._gateways[name]
            if gateway.begun is None or gateway.begun > command.appended:
                continue
            steps = gateway.steps.get(command.partition)
            at = None if steps is None else steps.when(command.offset)
            if at is not None:
                found[name] = max(0, at - command.appended)
            elif not gateway.stopped and gateway.last_seen >= command.appended - SILENT_AFTER:
                found[name] = None
        return found

    def since(self, gateway: str, session_id: str, ended: LogMillis) -> Millis | None:
        """Since when, by its own clock, this gateway has the first command about the session in force that was appended at or after `ended`; None: it has not said so."""
        if self._by_session is None:
            self._by_session = self._index()
        told = self._gateways.get(gateway)
        command = next((one for one in self._by_session.get(session_id, ()) if one.appended >= ended), None)
        if told is None or command is None:
            return None
        steps = told.steps.get(command.partition)
        return None if steps is None else steps.when(command.offset)

    def waiting(self) -> Iterator[Waiting]:
        """What is awaited of each gateway. O(partitions) for each."""
        for name in self.gateways:
            gateway = self._gateways[name]
            unapplied, oldest = (0, None) if gateway.stopped else self._unapplied(gateway)
            begun = gateway.first if gateway.begun is None else gateway.begun
            yield Waiting(
                name, gateway.stopped, gateway.heard, unapplied, oldest, None if oldest is None else max(oldest.appended, begun)
            )  # fmt: skip

    def has_applied(self, gateway: str, command: Ordered) -> bool:
        """Whether this gateway has the command in force, also one that has been forgotten."""
        told = self._gateways.get(gateway)
        return told is not None and told.position(command.partition) >= command.offset

    def standings(self, now: Millis) -> Iterator[Standing]:
        """How each gateway stands at `now`. O(commands) for each."""
        for name in self.gateways:
            yield self._standing(name, self._gateways[name], now)

    def _standing(self, name: str, gateway: _Gateway, now: Millis) -> Standing:
        took = self._took(gateway)
        unapplied, oldest = (0, None) if gateway.stopped else self._unapplied(gateway)
        return Standing(
            name, gateway.state(now), gateway.last_seen, {number: steps.positions[-1] for number, steps in sorted(gateway.steps.items())},
            gateway.control, gateway.view_age, len(gateway.refused), sum(gateway.refused.values()), took.total(),
            quantile(took, 0.5), quantile(took, 0.99), unapplied, oldest,
        )  # fmt: skip

    def _forget_sessions(self, session_ids: list[str]) -> None:
        """Of each, the oldest command."""
        if self._by_session is not None:
            for session_id in session_ids:
                commands = self._by_session[session_id]
                del commands[0]
                if not commands:
                    del self._by_session[session_id]

    def _index(self) -> dict[str, list[Ordered]]:
        found: dict[str, list[Ordered]] = {}
        for partition, known in self._commands.items():
            for offset, appended, session_id in zip(known.offsets, known.appended, known.session_ids, strict=True):
                found.setdefault(session_id, []).append(Ordered(partition, offset, appended, session_id))
        return found

    def _took(self, gateway: _Gateway) -> Counter[Millis]:
        """How many commands took how long."""
        found: Counter[Millis] = Counter()
        if gateway.begun is None:
            return found
        for partition, steps in gateway.steps.items():
            known = self._commands.get(partition)
            if known is None:
                continue
            before = -1
            for position, at in zip(steps.positions, steps.at, strict=True):
                first, last = bisect_right(known.offsets, before), bisect_right(known.offsets, position)
                for index in range(first, last):
                    if known.appended[index] >= gateway.begun:
                        found[max(0, at - known.appended[index])] += 1
                before = position
        return found

    def _unapplied(self, gateway: _Gateway) -> tuple[int, Ordered | None]:
        count, oldest = 0, None
        for partition, known in self._commands.items():
            first = bisect_right(known.offsets, gateway.position(partition))
            if first == len(known.offsets):
                continue
            count += len(known.offsets) - first
            one = Ordered(partition, known.offsets[first], known.appended[first], known.session_ids[first])
            if oldest is None or (one.appended, partition) < (oldest.appended, oldest.partition):
                oldest = one
        return count, oldest
