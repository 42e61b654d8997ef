"""The words for what was decided: commands and lifecycle records, built from a session as it stands."""

from collections.abc import Callable

from monitor.core.commands import Command, CommandType, Reauth
from monitor.core.controls import Control
from monitor.core.events import Event
from monitor.core.instants import NEVER, SECOND, LogMillis, Millis
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.core.plan import Limit, Plan
from monitor.core.reasons import MESSAGE, Reason
from monitor.core.session import End, Session


def asked_by(plan: Plan) -> Reauth:
    """What a re-authentication must bring under this plan."""
    max_age = plan.max_age if plan.max_age is not None else plan.idle.ms
    return Reauth(True, max_age // SECOND if max_age < NEVER else None, plan.acr_values)


class Scribe:
    """Finds the words for one partition, and hands them on in the order they are found."""

    def __init__(
        self, number: int, log_time: LogMillis = 0, write: Callable[[Command | Lifecycle], object] | None = None
    ) -> None:
        """`number` is the partition's; `write` takes what is found, which the caller has as well."""
        self.number = number
        self.log_time = log_time
        """The partition keeps it up to date."""
        self._write = write

    def order(
        self, session: Session, command: CommandType, reason: Reason, at: Millis, cutoff: Millis, offset: int,
        due: LogMillis, *, reauth: Reauth, forget_after: Millis, limit: Limit | None = None,
        control_id: str = "", lead: Millis | None = None,
    ) -> Command:  # fmt: skip
        """Order one thing of gateways, or warn them (`lead` before the deadline)."""
        order = Command(
            type=command, session_id=session.session_id, epoch=session.epoch, reason=reason, effective_at=at,
            cutoff=cutoff, limit_ms=None if limit is None else limit.ms, rule=None if limit is None else limit.rule,
            policy=session.plan.policy, subject=session.subject, classification=session.profile.classification,
            reauth=reauth, forget_after=forget_after,
            partition=self.number, offset=offset, log_time=max(self.log_time, due), due=due,
            control_id=control_id, lead_ms=lead,
            message=MESSAGE if lead is None else f"Session expires in {lead // SECOND} s",
        )  # fmt: skip
        if self._write is not None:
            self._write(order)
        return order

    def ending(self, session: Session, end: End) -> Command:
        """The order that ended this session, with the id it has always had."""
        limit = Limit(end.limit_ms, end.rule or "") if end.limit_ms is not None else None
        return self.order(
            session, end.type, end.reason, end.effective_at, end.cutoff, end.offset, end.due, limit=limit,
            control_id=end.control_id, forget_after=end.forget_after,
            reauth=self.reauth(session, allowed=allows_reauth(end.type, end.reason)),
        )  # fmt: skip

    @staticmethod
    def reauth(session: Session, *, allowed: bool) -> Reauth:
        """Whether, and how, re-authentication brings this session back."""
        return asked_by(session.plan) if allowed else Reauth(allowed=False)

    def tell(
        self, session: Session, told: LifecycleType, at: Millis, offset: int, *, reason: str | None = None,
        limit: Limit | None = None, command: Command | None = None, control: Control | None = None,
        event: Event | None = None, observe: bool = False, implicit: bool = False, deadline: Millis | None = None,
    ) -> Lifecycle:  # fmt: skip
        """Tell what became of a session."""
        if command is not None and limit is None and command.limit_ms is not None:
            limit = Limit(command.limit_ms, command.rule or "")
        lifecycle = Lifecycle(
            type=told, session_id=session.session_id, epoch=session.epoch, at=at, log_time=self.log_time,
            partition=self.number, offset=offset, attributes=session.attributes, started_at=session.start,
            opened_at=session.opened_at, last_activity=session.last_activity, counts=session.counted(),
            reason=reason if reason is not None else (command.reason if command is not None else None),
            rule=limit.rule if limit is not None else None, limit_ms=limit.ms if limit is not None else None,
            policy=session.plan.policy, command_id=command.id if command is not None else None,
            control_id=control.id if control is not None else None, observe=observe, implicit=implicit,
            source=event.source if event is not None else None,
            event_id=event.id if event is not None else None, deadline=deadline, chain=session.plan.chain,
        )  # fmt: skip
        if self._write is not None:
            self._write(lifecycle)
        return lifecycle


def allows_reauth(command: CommandType, reason: Reason) -> bool:
    """Whether re-authentication brings the session back by itself: not from a revocation, nor from a lock."""
    return command is CommandType.EXPIRE and reason is not Reason.LOCKED
