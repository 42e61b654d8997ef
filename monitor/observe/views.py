"""Sessions and partitions as the sessions API shows them: what a worker writes, and the command line reads."""

from typing import Protocol

import msgspec

from monitor.core.commands import CommandType
from monitor.core.events import ACTIVITY_KINDS, ActivityKind
from monitor.core.instants import NEVER, LogMillis, Millis
from monitor.core.partition import Partition
from monitor.core.plan import Because, Limit, LimitKind
from monitor.core.session import Session, State
from monitor.wire.times import Instant


class OwnedSessions(Protocol):
    """One partition under a worker's hand."""

    @property
    def partition(self) -> Partition:
        """Its decisions."""

    @property
    def committed(self) -> int:
        """The offset that is committed."""

    @property
    def end_offset(self) -> int:
        """The log's end at the last fetch."""

    @property
    def backlog(self) -> int:
        """Records fetched and not applied."""

    @property
    def paused(self) -> bool:
        """Whether its fetching is paused."""


class LimitView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of a session's two limits. Without a deadline: `none`."""

    rule: str
    limit_ms: int | None = None
    deadline: Instant | None = None
    left_ms: int | None = None
    """Of a live session: the deadline minus log time; negative while the strike waits for a grace."""


class EndView(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the epoch ended."""

    type: str
    reason: str
    effective_at: Instant
    cutoff: Instant
    forget_after: Instant
    rule: str | None = None
    limit_ms: int | None = None
    control_id: str = ""


class SessionRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One session in a list."""

    session_id: str
    partition: int
    state: str
    """`live`, `expired` or `revoked`."""
    epoch: int
    log_time: Instant
    """The clock that `left_ms` goes by."""
    opened_at: Instant
    started_at: Instant
    last_activity: Instant
    idle: LimitView
    absolute: LimitView
    subject: str | None = None
    principal: str | None = None
    roles: tuple[str, ...] = ()
    classification: str | None = None
    workload: str | None = None
    route: str | None = None
    tenant: str | None = None
    client_ip: str | None = None
    next: str | None = None
    """Of a live session: which of its limits comes first."""
    end: EndView | None = None


class SessionDetail(SessionRow, frozen=True, omit_defaults=True):
    """One session, with why its limits are what they are."""

    user_agent: str | None = None
    source: str | None = None
    policy: str = ""
    chain: tuple[Because, ...] = ()
    activity: dict[str, int] = {}
    """Events by kind, in all epochs."""
    counts: tuple[str, ...] = ()
    """The kinds that reset the idle clock."""
    warn_before_ms: tuple[int, ...] = ()
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    concurrent: int | None = None
    credential_expires: Instant | None = None
    cutoff: Instant | None = None
    """The highest cut-off of all ended epochs."""
    applied_offset: int = -1


class SessionPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Some sessions, and how to ask for those after them. An empty page with a cursor is no end."""

    sessions: list[SessionRow]
    cursor: str | None = None


class Matches(msgspec.Struct, frozen=True):
    """How many sessions of one worker a target meets."""

    live: int
    ended: int


class PartitionView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One partition of a worker."""

    partition: int
    owner: str
    offset: int
    committed: int
    end_offset: int
    lag_records: int
    backlog: int
    paused: bool
    sessions: int
    """Held in memory: live ones, and ended ones not forgotten yet."""
    timers: int
    controls_to: int
    swept: bool
    """Whether every session is up to date with the controls."""
    policy: str
    log_time: Instant | None = None
    """None: nothing has been applied yet."""
    behind_ms: int | None = None
    """The worker's clock minus log time."""
    decided_to: Instant | None = None
    """The last watermark."""


class PartitionList(msgspec.Struct, frozen=True):
    """The partitions of one worker."""

    partitions: list[PartitionView]


def row_of(session: Session, partition: int, log_time: LogMillis) -> SessionRow:
    """A session as it stands at this log time. 5 us."""
    return SessionRow(**_row(session, partition, log_time))  # type: ignore[arg-type]


def detail_of(session: Session, partition: int, log_time: LogMillis) -> SessionDetail:
    """A session with all there is to say of it."""
    plan = session.plan
    return SessionDetail(
        **_row(session, partition, log_time),  # type: ignore[arg-type]
        user_agent=session.attributes.user_agent,
        source=session.source,
        policy=plan.policy,
        chain=tuple(_finite(because) for because in plan.chain),
        activity={word: session.count(kind) for word, kind in ACTIVITY_KINDS.items()},
        counts=tuple(kind.name.lower() for kind in ActivityKind if kind & plan.counts),
        warn_before_ms=plan.warn_before,
        acr_values=plan.acr_values,
        max_age=plan.max_age,
        concurrent=plan.concurrent,
        credential_expires=Instant(session.expires) if session.expires else None,
        cutoff=Instant(session.cutoff) if session.cutoff else None,
        applied_offset=session.applied_offset,
    )


def partition_of(
    owned: OwnedSessions, owner: str, now: Millis, decided_to: LogMillis | None
) -> PartitionView:
    """A partition as it stands. O(1)."""
    partition = owned.partition
    log_time = partition.log_time
    return PartitionView(
        partition=partition.number,
        owner=owner,
        offset=partition.offset,
        committed=owned.committed,
        end_offset=owned.end_offset,
        lag_records=max(0, owned.end_offset - partition.offset),
        backlog=owned.backlog,
        paused=owned.paused,
        sessions=len(partition.sessions),
        timers=partition.timers.armed,
        controls_to=partition.controls_to,
        swept=partition.swept,
        policy=partition.standing.policy.version,
        log_time=Instant(log_time) if log_time else None,
        behind_ms=now - log_time if log_time else None,
        decided_to=None if decided_to is None else Instant(max(0, decided_to)),
    )


def _row(session: Session, partition: int, log_time: LogMillis) -> dict[str, object]:
    attributes, end = session.attributes, session.end
    live = session.state is State.LIVE
    idle, absolute = session.idle_deadline, session.absolute_deadline
    first = None
    if live and min(idle, absolute) < NEVER:
        first = (LimitKind.ABSOLUTE if absolute <= idle else LimitKind.IDLE).value
    return {
        "session_id": session.session_id,
        "partition": partition,
        "state": session.state.name.lower(),
        "epoch": session.epoch,
        "log_time": Instant(log_time),
        "opened_at": Instant(session.opened_at),
        "started_at": Instant(session.start),
        "last_activity": Instant(session.last_activity),
        "idle": _limit(session.plan.idle, idle, log_time, live=live),
        "absolute": _limit(session.absolute_limit, absolute, log_time, live=live),
        "subject": attributes.subject,
        "principal": None if attributes.principal is None else attributes.principal.value,
        "roles": attributes.roles,
        "classification": attributes.classification,
        "workload": attributes.workload,
        "route": attributes.route,
        "tenant": attributes.tenant,
        "client_ip": attributes.client_ip,
        "next": first,
        "end": None
        if live or end is None
        else EndView(
            CommandType(end.type).value, end.reason.value, Instant(end.effective_at), Instant(end.cutoff),
            Instant(end.forget_after), end.rule, end.limit_ms, end.control_id,
        ),
    }  # fmt: skip


def _limit(limit: Limit, deadline: Millis, log_time: LogMillis, *, live: bool) -> LimitView:
    if deadline >= NEVER:
        return LimitView(limit.rule)
    return LimitView(limit.rule, limit.ms, Instant(deadline), deadline - log_time if live else None)


def _finite(because: Because) -> Because:
    """`NEVER` is a number of ours: outside it is null."""
    if because.ms is None or because.ms < NEVER:
        return because
    return msgspec.structs.replace(because, ms=None)
