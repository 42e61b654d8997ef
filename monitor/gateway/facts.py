"""What a request says of its session: all that a decision is made of, besides the view."""

from enum import StrEnum
from typing import Final

import msgspec

from monitor.core.events import Principal
from monitor.core.instants import SECOND, Millis

WHOLE_SECOND: Final[Millis] = SECOND - 1
"""From the start of a second to its end."""


class Posture(StrEnum):
    """What a gateway does with a request while its view is stale."""

    STRICT = "strict"
    """Refuse: 503."""
    BEST_EFFORT = "best_effort"
    """Serve, and mark it."""


class WithoutSession(StrEnum):
    """What becomes of a request that names no session."""

    ADMIT = "admit"
    REFUSE = "refuse"
    """400."""
    CHALLENGE = "challenge"
    """401: log in."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """The facts of one request, as far as they are known and verified. None means: not known.

    An adapter fills in what it can vouch for (a verified token, its own route table) and nothing else: an unknown
    fact meets no rule, lock or cut-off, a wrong one meets the wrong ones.
    """

    session_id: str | None = None
    subject: str | None = None
    principal: Principal | None = None
    roles: tuple[str, ...] | None = None
    """`()`: it is known that there are none."""
    tenant: str | None = None
    client_ip: str | None = None
    classification: str | None = None
    workload: str | None = None
    route: str | None = None
    auth_time: Millis | None = None
    """When the principal last authenticated; of a whole second, its first millisecond."""
    whole_second: bool = False
    """`auth_time` was told in whole seconds: it may lie anywhere in its second."""
    acr: str | None = None
    posture: Posture | None = None
    """Said by the route or by a claim; None: it goes by the classification."""
    without_session: WithoutSession | None = None
    """Said by the route; None: as the gateway is set up."""

    @property
    def auth_seconds(self) -> int | float | None:
        """`auth_time` as an access event carries it: as it was told, to the millisecond."""
        return None if self.auth_time is None else in_seconds(self.auth_time, whole=self.whole_second)

    @property
    def latest_auth_time(self) -> Millis | None:
        """The last instant at which the authentication may have been: what counts against an expiry."""
        if self.auth_time is None or not self.whole_second:
            return self.auth_time
        return self.auth_time + WHOLE_SECOND


class Now(msgspec.Struct, frozen=True, gc=False):
    """The present, read once for each turn by whoever has clocks."""

    wall: Millis
    """Since 1970: what an `auth_time` is compared with."""
    monotonic: Millis
    """Since whenever, never set back: what the age of the view is counted by."""


def in_seconds(instant: Millis, *, whole: bool) -> int | float:
    """An instant as a JWT has it; `whole`: a whole number."""
    return instant // SECOND if whole else instant / SECOND
