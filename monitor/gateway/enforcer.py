"""`Enforcer`: one gateway's decisions, and those who want to know of them. What every adapter stands on.

An adapter finds out the facts of a request, asks `decide`, and acts by the verdict. That the decision is counted, that the monitor
learns of the activity, and that a refusal is proven by a receipt is not its affair.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, runtime_checkable

import msgspec

from monitor.core.instants import Millis
from monitor.gateway.decide import DEFAULTS, Settings, check
from monitor.gateway.facts import Facts, Now
from monitor.gateway.metrics import GatewayMetrics
from monitor.gateway.verdict import Verdict
from monitor.gateway.view import View
from monitor.publish.draft import Kind


class Following(Protocol):
    """A view that is kept up: `Follower`, `MemoryView`."""

    @property
    def view(self) -> View:
        """What is known now; another object each time that it was loaded."""

    @property
    def ready(self) -> bool:
        """Whether it has been loaded."""

    @property
    def last_error(self) -> str:
        """Why it does not get on; empty where it does."""


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What a request tells besides its facts: of no weight for a decision, of interest to the monitor."""

    user_agent: str | None = None
    expires: Millis | None = None
    """When the credential ends by itself."""
    kind: Kind | None = None
    """Of the activity; None: `human` for a user, `agent` for a service."""


NOTHING_SEEN: Final = Seen()


class Witness(Protocol):
    """Somebody who wants to know of each decision. Called from the thread that decides: it must neither raise nor wait."""

    def admitted(self, facts: Facts, seen: Seen, now: Now) -> None:
        """The request passes."""

    def refused(self, facts: Facts, verdict: Verdict, seen: Seen, now: Now) -> None:
        """The request does not pass."""


@runtime_checkable
class CutWitness(Protocol):
    """A witness who also wants to know of running requests and open streams that were cut. As little may it raise or wait."""

    def cut(self, session_id: str, verdict: Verdict, inflight: int) -> None:
        """So many of the session have been cut."""


class Enforcer:
    """Decides by a view that somebody else starts and stops. Thread-safe where its witnesses are."""

    def __init__(
        self, following: Following, now: Callable[[], Now], *, settings: Settings = DEFAULTS, metrics: GatewayMetrics | None = None,
        witnesses: Sequence[Witness] = (),
    ) -> None:  # fmt: skip
        """`now` reads the clocks, once for each decision."""
        self.following, self.now, self.settings = following, now, settings
        self.metrics: Final = metrics or GatewayMetrics()
        self._witnesses = tuple(witnesses)
        self._cut_witnesses = tuple(witness for witness in self._witnesses if isinstance(witness, CutWitness))

    def decide(self, facts: Facts, seen: Seen = NOTHING_SEEN) -> Verdict:
        """The verdict on a request: counted and told."""
        now = self.now()
        verdict = check(self.following.view, facts, now, self.settings)
        self.metrics.decided(verdict)
        if verdict.admitted:
            for witness in self._witnesses:
                witness.admitted(facts, seen, now)
        else:
            for witness in self._witnesses:
                witness.refused(facts, verdict, seen, now)
        return verdict

    def look(self, facts: Facts) -> Verdict:
        """What `decide` would say, told to nobody."""
        return check(self.following.view, facts, self.now(), self.settings)

    def turned_away(self, verdict: Verdict) -> Verdict:
        """Count a request that did not get as far as a decision: a bad token, no usable session id."""
        self.metrics.decided(verdict)
        return verdict

    def cut(self, facts: Facts, verdict: Verdict, inflight: int) -> None:
        """Tell that so many requests of a session were cut while they ran."""
        self.metrics.cut(verdict, inflight)
        if facts.session_id is not None:
            for witness in self._cut_witnesses:
                witness.cut(facts.session_id, verdict, inflight)
