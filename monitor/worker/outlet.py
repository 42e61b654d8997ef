"""From decisions to records: where each effect of one partition goes, and in which order.

Commands go to the partition of their events, so that one partition is one history. Commands are handed to the
appender in the order they were decided, and so is what is told of sessions; while many are brought up to date with
a control, what is told waits until the commands are out. All of it is durable before an offset is committed.
"""

import logging
from collections import deque
from typing import Final

from prometheus_client import Counter

from monitor.core.commands import Command, CommandType
from monitor.core.effects import Effect, Forgotten, Revoked
from monitor.core.events import Event
from monitor.core.instants import LogMillis
from monitor.core.lifecycle import Lifecycle
from monitor.core.reasons import Reason
from monitor.observe.metrics import WorkerMetrics
from monitor.wire.commands import CommandForm, encode_command, encode_watermark, warning_key
from monitor.wire.dead_letters import encode_dead_letter, encode_refused_dead_letter
from monitor.wire.events import with_time
from monitor.wire.lifecycle import encode_lifecycle
from monitor.wire.partitioner import partition_for
from monitor.wire.topics import Topics
from monitor.worker.intake import REROUTED_HEADER
from monitor.worker.ports import Appended, Appender, Clock, Headers, Record

log = logging.getLogger(__name__)

TOLD_LATER: Final = 20_000
"""Lifecycle records of a partition that may wait for commands: 12 MB. Those of many revoked together take no room."""
MOST_WARNED: Final = 100
"""Sources that are warned of, each once, while a partition is owned; the counter goes on."""


class LogOutlet:
    """Appends what one partition decides."""

    def __init__(self, number: int, topics: Topics, appender: Appender, clock: Clock, metrics: WorkerMetrics) -> None:
        """`number` is the partition's, here and on the commands topic."""
        self.forgotten: list[Forgotten] = []
        """Sessions whose records want tombstones once their offset is committed."""
        self._number = number
        self._topics = topics
        self._appender = appender
        self._clock = clock
        self._metrics = metrics
        self._dues: deque[tuple[LogMillis | None, int]] = deque()
        """Of what is on its way to the commands topic: when so many in a row were due; None: no command."""
        self._warned: set[str] = set()
        self._counted: dict[tuple[CommandType, Reason], Counter] = {}
        self._later: deque[Lifecycle | Revoked] = deque()
        self._told = 0
        """Of how many sessions of the first of them it is told already ..."""
        self._untold = 0
        """... and how many lifecycle records all of them are."""
        self._holding = False

    def effect(self, effect: Effect) -> None:
        """Append a command or a lifecycle record; keep a tombstone for after the commit."""
        if isinstance(effect, Command):
            key, value, headers = encode_command(effect, self._clock.now())
            self._command(key, value, headers, effect.due)
            self._count(effect)
        elif isinstance(effect, Lifecycle):
            self._tell_later(effect, 1)
        elif isinstance(effect, Revoked):
            self._revoke(effect)
            self._tell_later(effect, len(effect.sessions))
        elif isinstance(effect, Forgotten):
            self.forgotten.append(effect)

    def hold(self) -> None:
        """Let what is told of sessions wait, until `release`."""
        self._holding = True

    def release(self, most: int) -> bool:
        """Tell up to `most` of what waits; whether nothing waits any more, and nothing will."""
        for _ in range(min(most, self._untold)):
            self._tell()
        self._holding = bool(self._later)
        return not self._holding

    def dead_letter(self, record: Record, reason: str, detail: str) -> None:
        """Put a record aside as it came, with why and whence."""
        topic = self._topics.dead_letters
        source = self._topics.access_events.name
        key, value, headers = encode_dead_letter(record, reason, detail, source, self._number)
        refused = encode_refused_dead_letter(record, reason, source, self._number)
        partition = self._number % topic.partitions
        self._appender.append(topic.name, partition, key, value, headers, instead=refused)
        self._metrics.dead_letters.labels(reason).inc()

    def reroute(self, record: Record, event: Event, partition: int) -> None:
        """Write an event to the partition its session belongs to; it keeps its original append time."""
        value = with_time(record.value or b"", record.timestamp)
        headers = [*record.headers, (REROUTED_HEADER, str(self._number).encode())]
        self._appender.append(self._topics.access_events.name, partition, event.session_id.encode(), value, headers)
        source = event.source or "unknown"
        self._metrics.rerouted.labels(source).inc()
        if source not in self._warned and len(self._warned) < MOST_WARNED:
            self._warned.add(source)
            where = {"partition": self._number, "offset": record.offset, "belongs_to": partition}
            log.warning("event_rerouted", extra={"source": source, **where})

    def watermark(self, decided_to: LogMillis, log_time: LogMillis, controls_to: int, owner: str, api: str) -> None:
        """Say that every deadline up to `decided_to` stands before this record."""
        key, value, headers = encode_watermark(
            self._number, decided_to, log_time, controls_to, self._clock.now(), owner=owner, api=api
        )
        self._command(key, value, headers, None)

    def tombstone(self, session_id: str) -> None:
        """Let compaction forget a session's command and its warning."""
        self._command(session_id.encode(), None, (), None)
        self._command(warning_key(session_id), None, (), None)

    def again(self, key: bytes, value: bytes) -> None:
        """Write a command once more, so that compaction keeps it and not a weaker one."""
        self._command(key, value, (), None)

    def begin(self) -> None:
        """What was written during recovery is acknowledged: nothing of it is in flight any more."""
        self._dues.clear()

    def acknowledged(self, appended: Appended) -> None:
        """The broker has some of our commands: see how long each took from being due."""
        left = appended.count
        while left and self._dues:
            due, count = self._dues[0]
            taken = min(count, left)
            left -= taken
            if taken < count:
                self._dues[0] = due, count - taken
            else:
                self._dues.popleft()
            if due is not None and appended.timestamp > 0:
                self._metrics.due_to_publish.observe(max(0, appended.timestamp - due) / 1000, taken)

    def _revoke(self, revoked: Revoked) -> None:
        now, topic, number, append = self._clock.now(), self._topics.session_commands.name, self._number, self._appender.append
        forms: dict[tuple[str, str | None], CommandForm] = {}
        for session in revoked.sessions:
            differs = session.common.plan.policy, session.common.profile.classification
            form = forms.get(differs)
            if form is None:
                command = revoked.command(session)
                form = forms[differs] = CommandForm(command, now)
            append(topic, number, *form.fill(session.session_id, session.epoch, session.subject))
        self._under_way(command.due, len(revoked.sessions))
        self._count(command, len(revoked.sessions))

    def _tell_later(self, told: Lifecycle | Revoked, records: int) -> None:
        """Tell it after what waits already: at once, but where all is to wait and has not become too much."""
        self._later.append(told)
        self._untold += records
        while records and (not self._holding or len(self._later) > TOLD_LATER):
            self._tell()
            records -= 1

    def _tell(self) -> None:
        told = self._later[0]
        if isinstance(told, Revoked):
            lifecycle = told.told(told.sessions[self._told])
            self._told = (self._told + 1) % len(told.sessions)
        else:
            lifecycle = told
        if not self._told:
            self._later.popleft()
        self._untold -= 1
        key, value, headers = encode_lifecycle(lifecycle)
        topic = self._topics.session_lifecycle
        self._appender.append(topic.name, partition_for(key or b"", topic.partitions), key, value, headers)

    def _count(self, command: Command, many: int = 1) -> None:
        kind = command.type, command.reason
        counter = self._counted.get(kind)
        if counter is None:
            counter = self._counted[kind] = self._metrics.commands.labels(command.type.value, command.reason.value)
        counter.inc(many)

    def _command(
        self, key: bytes | None, value: bytes | None, headers: Headers, due: LogMillis | None
    ) -> None:
        self._appender.append(self._topics.session_commands.name, self._number, key, value, headers)
        self._under_way(due, 1)

    def _under_way(self, due: LogMillis | None, count: int) -> None:
        if self._dues and self._dues[-1][0] == due:
            count += self._dues.pop()[1]
        self._dues.append((due, count))
