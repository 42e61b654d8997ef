"""The standards that `policy check --against` knows: their clauses that bear on sessions, in our words.

Numbers from the texts themselves; a clause without a number asks for a limit, and its length is the
policy's. Editions: PCI DSS 4.0.1, ISO/IEC 27001:2022, SOC 2 trust services criteria (2017, points of focus
2022), GDPR, NIST SP 800-63B-4, FedRAMP Rev 5, HIPAA Security Rule, OWASP ASVS 5.0.
"""

from types import MappingProxyType
from typing import Final

from monitor.core.errors import InputError
from monitor.core.instants import HOUR, MINUTE, LogMillis
from monitor.policy.compiled import CompiledPolicy
from monitor.policy.compliance import (
    Clause,
    Judge,
    Question,
    Ruling,
    absolute_within,
    acr_asked,
    both,
    by_design,
    concurrent_within,
    idle_within,
    judge,
    limited,
    needs_people,
    presence_is_human,
    the_privileged,
    tighter_for_privileged,
    tighter_for_sensitive_data,
    users,
)
from monitor.policy.reader import meant

_REVOKED = "on leaving: see that the leaver process runs 'session-monitor lock' for the subject"
_LOGGED = "every change of a session is recorded with its cause; see that session-lifecycle is kept for as long as you must"
_WATCHED = (
    "detection reports abnormal sessions and timeouts; see that somebody receives and answers its alerts"
)
_ENDED = by_design("a session past either limit is ended, and only re-authentication starts it anew")
_LIMITED: Judge = both(limited("idle"), limited("absolute"))

STANDARDS: Final = MappingProxyType(
    {
        "pci": (
            Clause("8.2.5", "access of terminated users is revoked at once", needs_people(_REVOKED)),
            Clause("8.2.8", "user sessions idle for more than 15 minutes re-authenticate", idle_within(15 * MINUTE)),
            Clause("10.2.1", "audit logs are active", by_design("session-lifecycle records every session and every end")),
            Clause("10.5.1", "audit logs are kept for 12 months, 3 of them at hand", needs_people(_LOGGED)),
        ),
        "iso27001": (
            Clause("A.5.18", "access rights are removed when they end", needs_people(_REVOKED)),
            Clause("A.8.2", "privileged access is restricted", tighter_for_privileged),
            Clause("A.8.3", "access to information is restricted by its sensitivity", tighter_for_sensitive_data),
            Clause("A.8.5", "inactive sessions are ended, and how long they last is limited", _LIMITED),
            Clause("A.8.15", "activities are logged, and logs are kept", needs_people(_LOGGED)),
            Clause("A.8.16", "anomalous behaviour is monitored and acted on", needs_people(_WATCHED)),
        ),
        "soc2": (
            Clause("CC6.1", "logical access is restricted: sessions end", _LIMITED),
            Clause("CC6.2", "access is removed when it is no longer authorised", needs_people(_REVOKED)),
            Clause("CC6.3", "access follows roles and least privilege", tighter_for_privileged),
            Clause("CC6.6", "sessions from outside the boundary are protected", limited("idle")),
            Clause("CC7.2", "anomalies are monitored and evaluated", needs_people(_WATCHED)),
        ),
        "gdpr": (
            Clause(
                "Art. 5(1)(c)",
                "only the personal data that is needed",
                needs_people("subjects may be pseudonyms: see that services publish no more than they need"),
            ),
            Clause(
                "Art. 5(1)(e)",
                "personal data is kept no longer than needed",
                needs_people("see that the retention of session-lifecycle is justified and documented"),
            ),
            Clause("Art. 25", "protection by default: access is bounded unless said otherwise", _LIMITED),
            Clause("Art. 32(1)", "security appropriate to the risk of the data", tighter_for_sensitive_data),
            Clause("Art. 32(1)(b)", "confidentiality: unattended access ends", limited("idle")),
            Clause(
                "Art. 35",
                "an impact assessment where monitoring is likely to be a high risk",
                needs_people("assess the monitoring of people's sessions, and document it"),
            ),
        ),
        "nist-aal2": (
            Clause("2.2.3 overall", "re-authentication after 24 hours at the latest", absolute_within(24 * HOUR)),
            Clause("2.2.3 inactivity", "re-authentication after 1 hour of inactivity at the latest", idle_within(HOUR)),
            Clause("5.1.2", "an access token is no sign of presence", presence_is_human),
            Clause("5.2", "either timeout ends the session; re-authentication resets both", _ENDED),
            Clause("5.3", "session monitoring is part of the privacy risk assessment", needs_people("include it there")),
        ),
        "nist-aal3": (
            Clause("2.3.3 overall", "re-authentication after 12 hours at the latest", absolute_within(12 * HOUR)),
            Clause(
                "2.3.3 inactivity", "re-authentication after 15 minutes of inactivity at the latest", idle_within(15 * MINUTE)
            ),
            Clause("2.3.3 factors", "re-authentication is full AAL3", acr_asked("AAL3")),
            Clause("5.1.2", "an access token is no sign of presence", presence_is_human),
            Clause("5.2", "either timeout ends the session; re-authentication resets both", _ENDED),
            Clause("5.3", "session monitoring is part of the privacy risk assessment", needs_people("include it there")),
        ),
        "fedramp-high": (
            Clause("AC-2(5)", "users are logged out after 15 minutes of inactivity", idle_within(15 * MINUTE)),
            Clause("AC-10 privileged", "at most 3 privileged sessions at once", concurrent_within(3, the_privileged)),
            Clause("AC-10 other", "at most 2 non-privileged sessions at once", concurrent_within(2, users)),
            Clause("AC-11", "devices lock after 15 minutes", needs_people("devices are locked by their management")),
            Clause("AC-12", "sessions end on defined conditions", _LIMITED),
            Clause("IA-11", "re-authentication after 12 hours or 15 minutes of inactivity", both(
                absolute_within(12 * HOUR), idle_within(15 * MINUTE)
            )),
            Clause("SC-10 privileged", "privileged sessions end after 10 idle minutes", idle_within(10 * MINUTE, the_privileged)),
            Clause("SC-10 user", "user sessions end after 15 idle minutes", idle_within(15 * MINUTE)),
        ),
        "hipaa": (
            Clause("164.312(a)(2)(iii)", "sessions end after a predetermined time of inactivity", limited("idle")),
            Clause("164.312(b)", "activity is recorded and examined", needs_people(_LOGGED)),
        ),
        "asvs": (
            Clause("7.1.1", "limits and their reasons are documented", needs_people("document why these limits fit the risk")),
            Clause("7.1.2", "the limit on concurrent sessions is documented", needs_people("document it, or that there is none")),
            Clause("7.2.4", "a new session token at each authentication", needs_people("see that the application issues one")),
            Clause("7.3.1", "an inactivity timeout", limited("idle")),
            Clause("7.3.2", "an absolute maximum lifetime", limited("absolute")),
            Clause("7.4.1", "an ended session can't be used any more", by_design("gateways refuse ended sessions, with receipts")),
            Clause("7.4.2", "all sessions end when an account is disabled", needs_people(_REVOKED)),
            Clause("7.4.5", "administrators can end sessions", by_design("session-monitor revoke and lock")),
            Clause("7.5.2", "users see and end their own sessions", needs_people("offer it in the application")),
            Clause("7.5.3", "re-authentication before sensitive operations", tighter_for_sensitive_data),
            Clause("7.6.1", "lifetimes of relying party and identity provider agree", needs_people("compare them")),
        ),
    }
)  # fmt: skip


def against(
    policy: CompiledPolicy, standard: str, at: LogMillis, roles: tuple[str, ...] = ()
) -> tuple[Ruling, ...]:
    """How the policy stands to each clause of a standard at this instant. Raises InputError for an unknown one.

    `roles` are those that count as privileged; where none are named, the usual names that the policy speaks of.
    """
    clauses = STANDARDS.get(standard)
    if clauses is None:
        raise InputError(f"unknown standard {standard!r}{meant(standard, STANDARDS)}")
    return judge(clauses, standard, Question(policy, at, roles))
