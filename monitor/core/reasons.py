"""Why a session ended: the closed list, with the text, the challenge and the standard name of each."""

from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec


class Reason(StrEnum):
    """The closed list of reasons that a command may carry."""

    IDLE_TIMEOUT = "idle_timeout"
    ABSOLUTE_TIMEOUT = "absolute_timeout"
    ADMIN_REVOKED = "admin_revoked"
    LOCKED = "locked"
    CONCURRENCY_LIMIT = "concurrency_limit"
    RISK = "risk"
    IDP_SIGNAL = "idp_signal"
    PARENT_ENDED = "parent_ended"
    LEASE_EXPIRED = "lease_expired"
    CLOSED = "closed"


ORDERABLE: Final = frozenset(Reason) - {Reason.IDLE_TIMEOUT, Reason.ABSOLUTE_TIMEOUT, Reason.CLOSED, Reason.LOCKED}
"""The reasons that a revocation may give for itself."""


class Challenge(StrEnum):
    """What a refused client is told to do (RFC 9470, RFC 6750)."""

    REAUTHENTICATE = "insufficient_user_authentication"
    NEW_SESSION = "invalid_token"
    FORBIDDEN = "forbidden"


class ReasonInfo(msgspec.Struct, frozen=True):
    """One row of the table of reasons."""

    text: str
    challenge: Challenge
    initiating_entity: str
    """CAEP 1.0 `initiating_entity`."""


MESSAGE: Final = "Session Expired: Please Reauthenticate"

REASONS: Final = MappingProxyType(
    {
        Reason.IDLE_TIMEOUT: ReasonInfo("no activity for longer than the idle limit", Challenge.REAUTHENTICATE, "policy"),
        Reason.ABSOLUTE_TIMEOUT: ReasonInfo("older than the absolute limit", Challenge.REAUTHENTICATE, "policy"),
        Reason.ADMIN_REVOKED: ReasonInfo("revoked by an administrator", Challenge.NEW_SESSION, "admin"),
        Reason.LOCKED: ReasonInfo("a lock is in force", Challenge.FORBIDDEN, "admin"),
        Reason.CONCURRENCY_LIMIT: ReasonInfo("too many sessions at once", Challenge.NEW_SESSION, "policy"),
        Reason.RISK: ReasonInfo("ended because of its risk", Challenge.NEW_SESSION, "system"),
        Reason.IDP_SIGNAL: ReasonInfo("ended by the identity provider", Challenge.NEW_SESSION, "system"),
        Reason.PARENT_ENDED: ReasonInfo("the session it depends on has ended", Challenge.NEW_SESSION, "system"),
        Reason.LEASE_EXPIRED: ReasonInfo("its lease was not renewed", Challenge.NEW_SESSION, "system"),
        Reason.CLOSED: ReasonInfo("closed by its principal", Challenge.REAUTHENTICATE, "user"),
    }
)
