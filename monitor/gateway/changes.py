"""What changed in a view: for those who hold something open for a session, and must let go of it."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeAlias

import msgspec

from monitor.core.instants import Millis


class ChangeKind(StrEnum):
    """What happened."""

    ENDED = "ended"
    REINSTATED = "reinstated"
    WARNED = "warned"
    """The session will end at `effective_at` unless something happens: advice, kept nowhere."""
    FORGOTTEN = "forgotten"
    CONTROLS = "controls"
    """Locks or revocations changed: any session may be met, so whatever is open is to be checked again."""
    POLICY = "policy"
    """Another policy rules: as `CONTROLS`."""


class Change(msgspec.Struct, frozen=True):
    """One change."""

    kind: ChangeKind
    session_id: str = ""
    """Empty: any session."""
    reason: str = ""
    effective_at: Millis = -1


Listener: TypeAlias = Callable[[Sequence[Change]], None]
"""Called with what has changed, in order, by the thread that feeds the view: it must neither raise nor wait."""
