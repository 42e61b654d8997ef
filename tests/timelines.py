"""The requirements as timelines, to be played in virtual time and on a real broker alike.

Limits are seconds. `SLACK` is how late a command may become visible in a world with real clocks.
"""

from collections.abc import Callable
from typing import Final

from monitor.testing import Timeline

POLICY: Final = """
version: 1
classifications: [public, internal, confidential, restricted]
timing: {lateness: 2s, tick: 50ms, credential_lifetime: 24h}
defaults: {idle: 6s, absolute: 60s, warn_before: [2s]}
rules:
  - name: short-lived
    when: {workload: [batch]}
    absolute: 7s
  - name: restricted-data
    when: {classification: restricted}
    idle: 3s
    reauth: {acr_values: [aal2]}
  - name: privileged
    when: {roles: [admin]}
    idle: 4s
"""

STRICTER: Final = POLICY.replace("idle: 6s", "idle: 4s")

KNOWN: Final = {"classification": "internal", "roles": ["analyst"], "workload": "console"}
"""Attributes that match no rule: what is not known matches every rule in its strictest reading."""

TIMELINES: dict[str, Callable[[], Timeline]] = {}


def timeline(build: Callable[[], Timeline]) -> Callable[[], Timeline]:
    """Put a requirement on the list under its name."""
    TIMELINES[build.__name__] = build
    return build


@timeline
def idle() -> Timeline:
    """Six seconds after the last activity, two more for lateness; the deadline is what the command speaks of."""
    t = Timeline(POLICY)
    t.at("0s").open("s1", subject="alice", **KNOWN)
    t.at("2s").activity("s1")
    t.at("3s").activity("s1", activity="keepalive")
    t.expect.between("6s", "7s").warn("s1", effective_at="8s", reason="idle_timeout")
    t.expect.between("10s", "11s").expire("s1", "idle_timeout", effective_at="8s", rule="defaults", epoch=0)
    return t


@timeline
def absolute() -> Timeline:
    """Activity does not move the absolute deadline."""
    t = Timeline(POLICY)
    t.at("0s").open("s1", subject="alice", classification="internal", roles=["analyst"], workload="batch")
    for second in range(1, 10):
        t.at(f"{second}s").activity("s1")
    t.expect.between("7s", "8s").expire("s1", "absolute_timeout", effective_at="7s", rule="short-lived")
    return t


@timeline
def in_tandem() -> Timeline:
    """Two sessions of one principal, one idle, one too old: each ends for its own reason."""
    t = Timeline(POLICY)
    t.at("0s").open("idle", subject="alice", classification="internal", roles=["analyst"], workload="batch")
    t.at("0s").open("busy", subject="alice", classification="internal", roles=["analyst"], workload="batch")
    for second in range(1, 8):
        t.at(f"{second}s").activity("busy")
    # Idle at 6 s would strike at 8 s; the absolute limit strikes at 7 s and comes first for both.
    t.expect.between("7s", "8s").expire("idle", "absolute_timeout", effective_at="7s")
    t.expect.between("7s", "8s").expire("busy", "absolute_timeout", effective_at="7s")
    t.at("0s").open("early", subject="alice", classification="restricted", roles=["analyst"], workload="batch")
    t.expect.between("5s", "6s").expire("early", "idle_timeout", effective_at="3s", rule="restricted-data")
    return t


@timeline
def reauthentication() -> Timeline:
    """A newer authentication brings an expired session back under its id, in the next epoch."""
    t = Timeline(POLICY)
    t.at("0s").open("s1", subject="alice", **KNOWN)
    t.expect.between("8s", "9s").expire("s1", "idle_timeout", effective_at="6s", epoch=0)
    t.at("10s").reauthenticate("s1", auth_time="9900ms")
    t.expect.between("10s", "11s").reinstate("s1", effective_at="9900ms", epoch=1)
    t.expect.between("18s", "19s").expire("s1", "idle_timeout", effective_at="16s", epoch=1)
    return t


@timeline
def step_up() -> Timeline:
    """Where the plan asks for a stronger authentication, a weaker one does not count."""
    t = Timeline(POLICY)
    t.at("0s").open("s1", subject="alice", classification="restricted", roles=["analyst"], workload="console")
    t.expect.between("5s", "6s").expire("s1", "idle_timeout", effective_at="3s")
    t.at("6500ms").reauthenticate("s1", auth_time="6400ms", acr="aal1")
    t.at("7500ms").reauthenticate("s1", auth_time="7400ms", acr="aal2")
    t.expect.between("7500ms", "8500ms").reinstate("s1", effective_at="7400ms", epoch=1)
    t.expect.between("12s", "14s").expire("s1", "idle_timeout", epoch=1)
    return t


@timeline
def revoke_session() -> Timeline:
    """A revoked session is final."""
    t = Timeline(POLICY)
    t.at("0s").open("s1", subject="alice", **KNOWN)
    t.at("0s").open("s2", subject="alice", **KNOWN)
    t.at("2s").revoke(session_id="s1")
    t.expect.between("2s", "3s").revoke("s1", reason="admin_revoked")
    t.at("4s").reauthenticate("s1", auth_time="3900ms")
    t.expect.between("8s", "9s").expire("s2", "idle_timeout")
    return t


@timeline
def revoke_subject() -> Timeline:
    """Every session of a subject, and nobody else's."""
    t = Timeline(POLICY)
    t.at("0s").open("a1", subject="alice", **KNOWN)
    t.at("0s").open("a2", subject="alice", **KNOWN)
    t.at("0s").open("b1", subject="bob", **KNOWN)
    t.at("1s").revoke(subject="alice")
    t.expect.between("1s", "2s").revoke("a1", reason="admin_revoked")
    t.expect.between("1s", "2s").revoke("a2", reason="admin_revoked")
    t.expect.between("8s", "9s").expire("b1", "idle_timeout")
    return t


@timeline
def revoke_role() -> Timeline:
    """Every session that has the role."""
    t = Timeline(POLICY)
    t.at("0s").open("a1", subject="alice", classification="internal", roles=["analyst"], workload="console")
    t.at("0s").open("o1", subject="olga", classification="internal", roles=["operator", "analyst"], workload="console")
    t.at("1s").revoke(role="operator")
    t.expect.between("1s", "2s").revoke("o1", reason="admin_revoked")
    t.expect.between("8s", "9s").expire("a1", "idle_timeout")
    return t


@timeline
def lock_meets_later_session() -> Timeline:
    """A lock ends what lives and refuses what is yet to come, until it is lifted."""
    t = Timeline(POLICY)
    t.at("0s").open("a1", subject="alice", **KNOWN)
    t.at("1s").lock("lock-1", subject="alice")
    t.expect.between("1s", "2s").expire("a1", "locked")
    t.at("3s").open("a2", subject="alice", **KNOWN)
    t.expect.between("3s", "4s").expire("a2", "locked")
    t.at("5s").unlock("lock-1")
    t.at("6s").open("a3", subject="alice", **KNOWN)
    t.expect.between("14s", "15s").expire("a3", "idle_timeout", effective_at="12s")
    return t


@timeline
def classification_raised() -> Timeline:
    """Touching more sensitive data shortens the limit at once, and it never falls again."""
    t = Timeline(POLICY)
    t.at("0s").open("s1", subject="alice", **KNOWN)
    t.at("2s").activity("s1", classification="restricted")
    t.at("3s").activity("s1", classification="public")
    t.expect.between("8s", "9s").expire("s1", "idle_timeout", effective_at="6s", rule="restricted-data")
    return t


@timeline
def policy_applied_live() -> Timeline:
    """A new policy rules the sessions that live already."""
    t = Timeline(POLICY)
    t.at("0s").open("s1", subject="alice", **KNOWN)
    t.at("2s").policy(STRICTER)
    t.expect.between("6s", "7s").expire("s1", "idle_timeout", effective_at="4s", rule="defaults")
    return t


@timeline
def closed() -> Timeline:
    """A session that closes itself is refused from then on."""
    t = Timeline(POLICY)
    t.at("0s").open("s1", subject="alice", **KNOWN)
    t.at("2s").close("s1")
    t.at("3s").activity("s1")
    t.expect.between("2s", "3s").expire("s1", "closed", effective_at="2s")
    return t
