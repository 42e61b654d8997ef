"""Decisions a second: `monitor.gateway.check` alone, on one core, without HTTP, token or broker."""

import gc
import time
from statistics import median
from typing import Final

import msgspec

from monitor.core.commands import Reauth
from monitor.core.controls import Target
from monitor.core.errors import InvariantError
from monitor.core.events import Principal
from monitor.core.instants import DAY, HOUR, Millis
from monitor.core.reasons import Reason
from monitor.gateway import Facts, MemoryView, Now, check
from monitor.gateway.commanded import Kind, Shared

HOW: Final = (
    "one process decides about requests with all facts known, in an order that mixes live and ended sessions; CPU seconds of"
    " that process, the median of several runs; every verdict is counted, so none was wrong"
)
POLICY: Final = """
version: 1
defaults: {idle: 30m, absolute: 12h}
rules:
  - {name: restricted-data, when: {classification: {at_least: restricted}}, idle: 10m, absolute: 4h}
  - {name: privileged, when: {roles: [admin, root]}, idle: 15m}
  - {name: unattended, when: {principal: service, workload: [batch]}, absolute: 24h}
"""
RUNS: Final = 7
_REQUESTS: Final = 4096
"""Distinct requests; a real one has just been parsed, so its facts are near."""
_NOW: Final[Millis] = 1_795_500_000_000
_TENTH: Final = 10
_STRIDE: Final = 7919
"""A prime: the requests are spread over the sessions, and one in ten belongs to an ended one."""


class Decided(msgspec.Struct, frozen=True):
    """What was measured."""

    per_second: float
    """Of CPU time; the median of the runs."""
    best: float
    worst: float
    refused_share: float
    ended_known: int


def measure(sessions: int, locks: int, decisions: int) -> Decided:
    """Decide `decisions` times in each run, about `sessions` of which a tenth has ended, under `locks` on other subjects."""
    told = _view(sessions, locks)
    view, now = told.view, Now(_NOW, 0)
    requests = [_request(n * _STRIDE % sessions) for n in range(_REQUESTS)]
    rounds = max(1, decisions // _REQUESTS)
    rates = []
    refused = 0
    for _ in range(RUNS):
        refused = 0
        gc.collect()
        began = time.process_time()
        for _ in range(rounds):
            for facts in requests:
                if check(view, facts, now).reason:
                    refused += 1
        rates.append(rounds * _REQUESTS / (time.process_time() - began))
    wanted = rounds * sum(1 for facts in requests if view.commanded.get(facts.session_id or "") is not None)
    if refused != wanted:
        raise InvariantError(f"{refused} requests were refused, {wanted} had to be: the figure would mean nothing")
    return Decided(median(rates), max(rates), min(rates), refused / (rounds * _REQUESTS), len(view.commanded))


def _view(sessions: int, locks: int) -> MemoryView:
    told = MemoryView(8, policy=POLICY)
    for number in range(locks):
        told.lock(Target(subject=f"locked-{number}@example.com"), _NOW - HOUR, id_=f"lock-{number}")
    commanded = told.view.commanded
    ending = commanded.number(Shared(Kind.EXPIRE, Reason.IDLE_TIMEOUT.value, "defaults", Reauth(allowed=True, max_age=1800)))
    for number in range(0, sessions, _TENTH):
        commanded.merge(_name(number), 0, ending, _NOW - number, _NOW - number)
    told.watermark(_NOW, 0, controls_to=locks)
    return told


def _request(number: int) -> Facts:
    return Facts(
        session_id=_name(number), subject=f"user-{number}@example.com", principal=Principal.USER, roles=("analyst",),
        tenant="acme", client_ip="10.0.0.1", classification="internal", workload="inference", route="/v1/models/fraud",
        auth_time=_NOW - DAY // 8 - number % HOUR, whole_second=True, acr="aal2",
    )  # fmt: skip


def _name(number: int) -> str:
    """As long as a hash in base64url."""
    return f"session-{number:035d}"
