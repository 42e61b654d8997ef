"""What a step of the decisions leaves behind: commands, lifecycle records, refusals and tombstones."""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from monitor.core.commands import Command
from monitor.core.events import Event
from monitor.core.lifecycle import Lifecycle


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


class Notice(StrEnum):
    """Things worth counting that change nothing."""

    OPENED_IMPLICITLY = "opened_implicitly"
    LATE_ACTIVITY = "late_activity"
    REAUTHENTICATION_IGNORED = "reauthentication_ignored"
    GAP = "gap"


Effect: TypeAlias = Command | Lifecycle | Refusal | Forgotten
