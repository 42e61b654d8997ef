"""Thresholds of the nine detectors, as the policy's `detect:` says them. The defaults are quiet on healthy traffic.

All durations are milliseconds. What a detector is told not to look at (`exempt`) it does not count either: neither as a finding nor in a cohort.
"""

from enum import StrEnum
from typing import Final

import msgspec

from monitor.core.instants import DAY, HOUR, MINUTE, SECOND, Millis
from monitor.core.when import When


class Detector(StrEnum):
    """The alerts of DESIGN section 8, by the names under which the policy and the topic know them."""

    LONG_SESSION = "long_session"
    TIMEOUT_CHURN = "timeout_churn"
    CAP_EVASION = "cap_evasion"
    CONCURRENT_SESSIONS = "concurrent_sessions"
    SUBJECT_MISMATCH = "subject_mismatch"
    SESSION_MOVED = "session_moved"
    KEEPALIVE_ONLY = "keepalive_only"
    UNENFORCED = "unenforced"
    UNACKNOWLEDGED = "unacknowledged"


class Severity(StrEnum):
    """How urgent an alert is, the mildest first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Act(StrEnum):
    """What an alert does by itself when it fires. It may end what it speaks of, or shorten it; never lengthen."""

    NOTHING = "nothing"
    RISK = "risk"
    """Revoke the sessions it names with reason `risk`: they have to re-authenticate under new ids."""
    LOCK = "lock"
    """Lock the subject for `act_for`."""


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What every detector is told."""

    enabled: bool = True
    severity: Severity = Severity.WARNING
    hold: Millis = 0
    """How long it must be seen without a break before it fires."""
    resolve_after: Millis = 5 * MINUTE
    """How long it must not have been seen before it is over."""
    exempt: tuple[When, ...] = ()
    """Sessions that meet any of these are not looked at. What is not known of a session meets none."""
    act: Act = Act.NOTHING
    act_for: Millis = HOUR


class LongSession(Common, frozen=True, kw_only=True):
    """A live session older than `factor` times the `quantile` of its cohort's ended ones, or than its rule's `abnormal_after`."""

    quantile: float = 0.99
    factor: float = 3.0
    minimum: int = 200
    """Ended sessions that a cohort needs before it says anything; with fewer, a wider cohort is asked."""
    known_for: Millis = DAY
    """How long ago the first of them must have ended: before, those that have ended are the short ones."""
    at_least: Millis = HOUR
    """No younger session is long, whatever its cohort says."""
    fades: Millis = 7 * DAY
    """Half-life of what a cohort knows."""


class TimeoutChurn(Common, frozen=True, kw_only=True):
    """Timeouts of one principal within `window`: `count` of them, and `factor` times what its cohort has at its `quantile`."""

    window: Millis = HOUR
    count: int = 10
    factor: float = 4.0
    minimum: int = 50
    """Principals that a cohort needs before its rate counts; with fewer, `count` alone does."""


class CapEvasion(Common, frozen=True, kw_only=True):
    """Sessions of one principal and workload with no more than `gap` between them, together older than their absolute limit times `factor`."""

    gap: Millis = 5 * MINUTE
    factor: float = 1.0
    parts: int = 2
    """So many sessions at the least."""


class ConcurrentSessions(Common, frozen=True, kw_only=True):
    """More live sessions of one subject than the rule's `concurrent`."""


class SubjectMismatch(Common, frozen=True, kw_only=True):
    """An event names another subject or tenant than its session has: `count` of them within `window`."""

    severity: Severity = Severity.CRITICAL
    window: Millis = HOUR
    count: int = 1
    resolve_after: Millis = HOUR


class SessionMoved(Common, frozen=True, kw_only=True):
    """One session from so many networks, or so many user agents, within `window`."""

    window: Millis = 10 * MINUTE
    networks: int = 3
    user_agents: int = 3
    prefix_v4: int = 16
    """Bits of an IPv4 address that make a network ..."""
    prefix_v6: int = 48
    """... and of an IPv6 address."""


class KeepaliveOnly(Common, frozen=True, kw_only=True):
    """A session that has been held open for `after` by keep-alives alone."""

    severity: Severity = Severity.INFO
    after: Millis = HOUR
    count: int = 3
    """Keep-alives at the least."""


class Unenforced(Common, frozen=True, kw_only=True):
    """Activity on an ended session that a gateway let pass: after its receipt for the command, or more than `past` after the cut-off."""

    severity: Severity = Severity.CRITICAL
    past: Millis = 30 * SECOND
    count: int = 1
    window: Millis = 10 * MINUTE


class Unacknowledged(Common, frozen=True, kw_only=True):
    """A command that a running gateway has not applied within `within`, or a gateway that has been silent for `silent`."""

    severity: Severity = Severity.CRITICAL
    within: Millis = 10 * SECOND
    silent: Millis = 30 * SECOND
    resolve_after: Millis = 0


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    """How many alerts of one kind may begin before they become one with a count."""

    per_subject: int = 5
    per_alert: int = 50
    """Over all subjects."""
    window: Millis = 10 * MINUTE


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of `detect:`."""

    long_session: LongSession = LongSession()
    timeout_churn: TimeoutChurn = TimeoutChurn()
    cap_evasion: CapEvasion = CapEvasion()
    concurrent_sessions: ConcurrentSessions = ConcurrentSessions()
    subject_mismatch: SubjectMismatch = SubjectMismatch()
    session_moved: SessionMoved = SessionMoved()
    keepalive_only: KeepaliveOnly = KeepaliveOnly()
    unenforced: Unenforced = Unenforced()
    unacknowledged: Unacknowledged = Unacknowledged()
    storm: Storm = Storm()

    def of(self, detector: Detector) -> Common:
        """What one detector is told."""
        told: Common = getattr(self, detector.value)
        return told


DEFAULTS: Final = Settings()
