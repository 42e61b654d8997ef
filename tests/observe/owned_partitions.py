"""Partitions under a worker's hand, with real decisions and none of the worker."""

from types import SimpleNamespace

from monitor.core.controls import Control, ControlType
from monitor.core.events import Event, EventType
from monitor.core.instants import HOUR, MINUTE, NEVER
from monitor.core.partition import Partition, Position
from monitor.core.plan import Because, Limit, LimitKind, Plan, Timing
from monitor.core.standing import ControlLog

START = 1_795_500_000_000


class FixedPolicy:
    """30 minutes idle and 12 hours absolute; agents have no limit."""

    version = "9b1f04c2"
    timing = Timing()

    def rank(self, classification):
        return -1 if classification is None else 0

    def plan(self, attributes, at):
        if attributes.workload == "endless":
            return Plan(self.version, Limit(NEVER, "endless"), Limit(NEVER, "endless"))
        chain = (
            Because("defaults", LimitKind.IDLE, 30 * MINUTE, won=True, origin="defaults"),
            Because("defaults", LimitKind.ABSOLUTE, NEVER, origin="defaults"),
        )
        return Plan(self.version, Limit(30 * MINUTE, "defaults"), Limit(12 * HOUR, "defaults"), chain=chain)

    personal = False

    def period(self, at):
        return 0


def partition(number=0):
    controls = ControlLog(lambda control: FixedPolicy())
    controls.add(Control(0, START, ControlType.POLICY, "policy", policy_text="x", policy_version="9b1f04c2"))
    return Partition(number, Position(0, log_time=START, last_append=START, controls_to=0), controls)


def owned(number=0):
    return SimpleNamespace(
        partition=partition(number), committed=0, end_offset=0, backlog=0, paused=False,
        intake=SimpleNamespace(applied=0, hot=0, ticks=0), ticks=SimpleNamespace(appended_at=0),
    )  # fmt: skip


def open_session(one, session_id, at=0, type_=EventType.OPENED, **said):
    """Apply one event to an owned partition, `at` milliseconds after START."""
    now = START + at
    offset = one.partition.offset
    one.partition.begin(offset, now)
    one.partition.apply(Event(type_, session_id, now, now, **said), offset)
    one.partition.effects.clear()


def worker(*numbers, failed=None, recovering=()):
    """As `Host`, as far as health and API look at it."""
    failed = failed or SimpleNamespace(done=lambda: False, cancelled=lambda: False, exception=lambda: None)
    return SimpleNamespace(owned={n: owned(n) for n in numbers}, recovering=set(recovering), stopped={}, failed=failed)
