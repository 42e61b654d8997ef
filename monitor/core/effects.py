"""What a step of the decisions leaves behind: commands, lifecycle records, refusals and tombstones."""

from collections.abc import Iterator
from enum import StrEnum
from typing import TypeAlias

import msgspec

from monitor.core.commands import Command
from monitor.core.controls import Control
from monitor.core.errors import InvariantError
from monitor.core.events import Event
from monitor.core.instants import LogMillis
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.core.scribe import Scribe
from monitor.core.session import End, Session


class RefusalReason(StrEnum):
    """Why an event that could be understood was not applied."""

    SUBJECT_MISMATCH = "subject_mismatch"


class Refusal(msgspec.Struct, frozen=True):
    """An event that goes to dead letters whole; nothing of it was applied."""

    event: Event
    offset: int
    reason: RefusalReason
    detail: str


class Forgotten(msgspec.Struct, frozen=True):
    """A session that has left memory: its records want tombstones once `offset` is committed."""

    session_id: str
    offset: int


class Revoked(msgspec.Struct, frozen=True):
    """Sessions that one control has revoked at one place of the log: a command, and a lifecycle record, for each.

    They are not written out here, since whoever is revoked changes no more: both can be read off the session at any
    time, and the command of one differs from that of another only in whom it is about.
    """

    sessions: tuple[Session, ...]
    partition: int
    control: Control
    log_time: LogMillis
    """When they were reached."""

    def command(self, session: Session) -> Command:
        """The order about one of them."""
        return Scribe(self.partition, self.log_time).ending(session, _end(session))

    def told(self, session: Session) -> Lifecycle:
        """What became of one of them."""
        scribe, end = Scribe(self.partition, self.log_time), _end(session)
        return scribe.tell(
            session, LifecycleType.REVOKED, end.effective_at, end.offset, control=self.control,
            command=scribe.ending(session, end),
        )  # fmt: skip

    def each(self) -> Iterator[Command | Lifecycle]:
        """All of it, written out."""
        for session in self.sessions:
            yield self.command(session)
            yield self.told(session)


def _end(session: Session) -> End:
    end: End | None = session.end
    if end is None:
        raise InvariantError(f"session {session.session_id!r} was revoked, and has no end")
    return end


class Notice(StrEnum):
    """Things worth counting that change nothing."""

    OPENED_IMPLICITLY = "opened_implicitly"
    LATE_ACTIVITY = "late_activity"
    REAUTHENTICATION_IGNORED = "reauthentication_ignored"
    GAP = "gap"


Effect: TypeAlias = Command | Lifecycle | Revoked | Refusal | Forgotten
