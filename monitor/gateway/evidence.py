"""`Evidence`: what a request proves of its session, as the monitor is to learn it; and as an access event."""

import functools
import itertools
from typing import Any, Final
from uuid import uuid4

import msgspec

from monitor.core.events import EventType
from monitor.core.instants import SECOND, EventMillis
from monitor.gateway.enforcer import NOTHING_SEEN, Seen
from monitor.gateway.facts import Facts, in_seconds
from monitor.publish.draft import Draft, draft

REMEMBERED: Final = 20_000
"""Pieces that have been checked lately: some 10 MB."""
_INSTANCE: Final = uuid4().hex
_numbers: Final = itertools.count()
# Random ids would cost a system call each, and other threads the wait for it.
IN_FLIGHT: Final = Seen(kind="inflight")


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """That a session was used, is in use, or was authenticated anew. `facts` name a session."""

    type: EventType
    facts: Facts
    seen: Seen
    time: EventMillis


def in_flight(session_id: str, time: EventMillis) -> Evidence:
    """A request of the session still runs. It says nothing else: what it began with may be out of date by now."""
    return Evidence(EventType.ACTIVITY, Facts(session_id), IN_FLIGHT, time)


def without_authentication(facts: Facts, seen: Seen) -> tuple[Facts, Seen]:
    """The same request, silent about its token: a newer one has been seen, and two tokens in turn would be told anew each time."""
    silent = msgspec.structs.replace(facts, auth_time=None, whole_second=False, acr=None)
    return silent, seen if seen is NOTHING_SEEN else msgspec.structs.replace(seen, expires=None)


def to_draft(evidence: Evidence) -> Draft:
    """The event. Raises InputError for what an event can't hold. 4 us for what has been said lately, else 20."""
    said = _checked(evidence.type, evidence.facts, evidence.seen)
    return Draft(said.type, said.session_id, f"{_INSTANCE}-{next(_numbers):x}", said.kind, evidence.time, said.stated)


@functools.lru_cache(REMEMBERED)
def _checked(type_: EventType, facts: Facts, seen: Seen) -> Draft:
    said: dict[str, Any] = {
        "subject": facts.subject, "principal": facts.principal, "roles": facts.roles, "tenant": facts.tenant, "client_ip": facts.client_ip,
        "classification": facts.classification, "workload": facts.workload, "route": facts.route, "auth_time": facts.auth_seconds, "acr": facts.acr,
        "user_agent": seen.user_agent, "expires": None if seen.expires is None else in_seconds(seen.expires, whole=seen.expires % SECOND == 0),
        "kind": seen.kind,
    }  # fmt: skip
    # An empty text is as good as none.
    return draft(type_, facts.session_id or "", {name: value for name, value in said.items() if value != ""})
