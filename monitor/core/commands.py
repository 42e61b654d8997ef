"""Commands: orders to gateways, with ids that are functions of the decision alone."""

from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b

import msgspec
import orjson

from monitor.core.instants import LogMillis, Millis
from monitor.core.reasons import Reason


class CommandType(StrEnum):
    """The orders, and the one advice, of DESIGN section 4.2."""

    EXPIRE = "session.expire"
    REVOKE = "session.revoke"
    REINSTATE = "session.reinstate"
    WARN = "session.warn"


class Reauth(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether, and how, re-authentication brings the session back."""

    allowed: bool
    max_age: int | None = None
    """Seconds, as in RFC 9470."""
    acr_values: tuple[str, ...] = ()


class Command(msgspec.Struct, frozen=True):
    """One decision about one (session, epoch)."""

    type: CommandType
    session_id: str
    epoch: int
    reason: Reason
    effective_at: Millis
    cutoff: Millis
    limit_ms: Millis | None
    rule: str | None
    policy: str
    subject: str | None
    classification: str | None
    reauth: Reauth
    forget_after: Millis
    partition: int
    offset: int
    """The offset at which it was decided; a strike before record o counts as o - 1."""
    log_time: LogMillis
    due: LogMillis
    """The log time from which it could have been decided: what the due-to-publish figure starts from."""
    control_id: str = ""
    message: str = ""
    lead_ms: Millis | None = None
    """Of a warning only: how long before the deadline it was due."""

    @property
    def id(self) -> str:
        """32 hex digits: BLAKE2b-128 of the decision (DESIGN section 4.2)."""
        return command_id(self.session_id, self.epoch, self.type, self.reason, self.effective_at, self.control_id)


@lru_cache(maxsize=1024)  # the command and what is told of it name it, one right after the other
def command_id(
    session_id: str, epoch: int, command: CommandType, reason: Reason, effective_at: Millis, control_id: str
) -> str:
    """The id of a decision: the same decision has the same id, whoever makes it and whenever."""
    return decision_id(orjson.dumps(session_id), epoch, decision(command, reason, effective_at, control_id))


def decision(command: CommandType, reason: Reason, effective_at: Millis, control_id: str) -> bytes:
    """What an id is made of but for the session and its epoch: the rest of the canonical array."""
    return b"," + orjson.dumps([command.value, reason.value, effective_at, control_id])[1:]


def decision_id(session_id: bytes, epoch: int, rest: bytes) -> str:
    """The id of a decision about a session, whose id is given as JSON, with the `rest` from `decision`."""
    return blake2b(b"[%b,%d%b" % (session_id, epoch, rest), digest_size=16).hexdigest()


STRENGTH = {CommandType.REINSTATE: 0, CommandType.EXPIRE: 1, CommandType.REVOKE: 2}


def strength(epoch: int, command: CommandType) -> tuple[int, int]:
    """The order in which commands of one session outrank one another: epoch first, then type."""
    return epoch, STRENGTH[command]
