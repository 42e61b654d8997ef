"""`Activity`: tells the monitor which sessions are used, by the requests that pass.

A request that is admitted is an activity of its session. An authentication newer than the last that was told here is
`session.reauthenticated`; so it is of a request that is refused, where that may bring its session back: the monitor then says so to
every gateway. Whatever else is refused is no evidence of use, and nothing is told of it; nor of a request without a session.
"""

import threading
from collections import OrderedDict
from typing import Final, Protocol

from monitor.core.events import EventType
from monitor.core.instants import Millis
from monitor.core.reasons import Reason
from monitor.gateway.commanded import Kind, packed_cutoff
from monitor.gateway.enforcer import Following, Seen
from monitor.gateway.evidence import Evidence, without_authentication
from monitor.gateway.facts import Facts, Now
from monitor.gateway.verdict import Verdict

REMEMBERED: Final = 50_000
"""Sessions whose last authentication is remembered; who has not been seen for longest is forgotten first."""


class Takes(Protocol):
    """`Dispatch`."""

    def put(self, evidence: Evidence) -> None:
        """Take it; neither raises nor waits."""


class Activity:
    """A witness of decisions, from any thread. A microsecond or two for each."""

    def __init__(self, following: Following, dispatch: Takes, *, remembered: int = REMEMBERED) -> None:
        """`following`: the view by which it is decided."""
        self._following, self._dispatch, self._limit = following, dispatch, remembered
        self._authenticated: OrderedDict[str, Millis] = OrderedDict()
        self._changing = threading.Lock()

    def admitted(self, facts: Facts, seen: Seen, now: Now) -> None:
        """The session is used."""
        session_id, auth_time = facts.session_id, facts.auth_time
        if session_id is None:
            return
        type_ = EventType.ACTIVITY
        if auth_time is not None:
            known = self._told(session_id, auth_time)
            if known is None:
                # It was never seen here, and passes though it has ended: by a newer authentication.
                type_ = EventType.REAUTHENTICATED if self._ended_before(session_id) is not None else type_
            elif auth_time > known:
                type_ = EventType.REAUTHENTICATED
            elif auth_time < known:
                facts, seen = without_authentication(facts, seen)
        self._dispatch.put(Evidence(type_, facts, seen, now.wall))

    def refused(self, facts: Facts, verdict: Verdict, seen: Seen, now: Now) -> None:
        """A newer authentication is told all the same, each once."""
        session_id, auth_time = facts.session_id, facts.latest_auth_time
        if session_id is None or auth_time is None or facts.auth_time is None or verdict.control_id:
            return
        known = self._authenticated.get(session_id)
        if verdict.commanded:
            # At or before the cut-off it would be taken for activity after the end: for a gateway that does not enforce.
            cutoff = self._ended_before(session_id) if verdict.reauth.allowed else None
            newer = cutoff is not None and auth_time > cutoff and (known is None or facts.auth_time > known)
        else:
            newer = verdict.reason == Reason.ABSOLUTE_TIMEOUT and known is not None and facts.auth_time > known
        if newer:
            self._told(session_id, facts.auth_time)
            self._dispatch.put(Evidence(EventType.REAUTHENTICATED, facts, seen, now.wall))

    def _told(self, session_id: str, auth_time: Millis) -> Millis | None:
        """What was told of the session before; from now on it is the newer of the two."""
        with self._changing:
            known = self._authenticated.get(session_id)
            if known is None or auth_time > known:
                self._authenticated[session_id] = auth_time
            self._authenticated.move_to_end(session_id)
            if len(self._authenticated) > self._limit:
                self._authenticated.popitem(last=False)
            return known

    def _ended_before(self, session_id: str) -> Millis | None:
        """The cut-off of a session that a command has ended; None: it lives, as far as is known."""
        commanded = self._following.view.commanded
        packed = commanded.get(session_id)
        if packed is None or commanded.shared(packed).kind is Kind.REINSTATE:
            return None
        return packed_cutoff(packed)
