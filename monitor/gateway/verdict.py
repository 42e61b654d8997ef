"""The verdict on a request: admitted or refused, why, and what would help."""

from enum import StrEnum
from typing import Final

import msgspec

from monitor.core.commands import Reauth
from monitor.core.instants import Millis
from monitor.wire.problem import status_of


class Outcome(StrEnum):
    """What becomes of the request."""

    ADMIT = "admit"
    REFUSE = "refuse"


NO_REAUTH: Final = Reauth(allowed=False)


class Verdict(msgspec.Struct, frozen=True):
    """A decision about one request."""

    outcome: Outcome
    reason: str = ""
    """Of a refusal: a word of `core.reasons.Reason` or `wire.problem.Refusal`, or one of a newer monitor."""
    reauth: Reauth = NO_REAUTH
    effective_at: Millis | None = None
    """Since when it is refused: the deadline, or the instant of the revocation or lock."""
    rule: str | None = None
    """The rule whose limit was passed."""
    control_id: str = ""
    """The lock or revocation that refuses, where no command does."""
    commanded: bool = False
    """A command ended the session: `View.command_id` tells its id, for receipts."""
    stale: bool = False
    """The view was too old to be sure: served all the same (best effort), or refused for that alone."""
    retry_after: int | None = None
    """Seconds, of a refusal that will pass by itself."""

    @property
    def admitted(self) -> bool:
        """Whether the request may pass."""
        return self.outcome is Outcome.ADMIT

    @property
    def status(self) -> int:
        """The HTTP status: 200 where admitted, else by the table of `wire.problem`."""
        return 200 if self.admitted else status_of(self.reason, self.reauth)


ADMITTED: Final = Verdict(Outcome.ADMIT)
ADMITTED_STALE: Final = Verdict(Outcome.ADMIT, stale=True)
