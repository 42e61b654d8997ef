"""Each rule of a decision, at its boundary."""

import pytest

from monitor.core.commands import Reauth
from monitor.core.controls import Target
from monitor.core.events import Principal
from monitor.core.instants import DAY, HOUR, MINUTE, SECOND
from monitor.core.reasons import Reason
from monitor.gateway import Facts, MemoryView, Now, Posture, Settings, WithoutSession, check

T = 1_795_500_000_000
POLICY = """
version: 1
classifications: [public, internal, restricted]
timing: {lateness: 2s, credential_lifetime: 1h}
defaults: {idle: 30m, absolute: 12h}
rules:
  - {name: secret, when: {classification: restricted}, idle: 10m, absolute: 4h, reauth: {acr_values: [aal2], max_age: 5m}}
  - {name: at-least, when: {classification: {at_least: internal}}, absolute: 8h}
  - {name: trial, when: {tenant: acme}, absolute: 1h, enforce: observe}
exceptions:
  - {name: migration, when: {subject: [svc-*]}, absolute: 24h, until: 2026-11-24, reason: r, approved_by: a}
"""
UNTIL = 1_795_478_400_000
"""2026-11-24, 00:00 UTC."""
NOW, DEFAULTS = Now(T, 0), Settings()


@pytest.fixture
def told() -> MemoryView:
    view = MemoryView(4, policy=POLICY)
    view.watermark(T, 0)
    return view


def reason(told: MemoryView, now: Now = NOW, settings: Settings = DEFAULTS, **facts) -> str:
    """What a request for s-1 is refused for; "" where it is admitted."""
    return check(told.view, Facts(**({"session_id": "s-1"} | facts)), now, settings).reason


# -- ended sessions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth_time", "whole", "admitted"),
    [
        (None, False, False), (T - 1, False, False), (T, False, False), (T + 1, False, True),
        (T - 1000, True, False), (T - 999, True, False), (T - 998, True, True), (T, True, True),
    ],
)  # fmt: skip
def test_an_expired_session_is_admitted_from_after_its_cutoff(told, auth_time, whole, admitted) -> None:
    told.expire("s-1", T)
    assert (reason(told, auth_time=auth_time, whole_second=whole) == "") is admitted


def test_the_cutoff_counts_and_not_the_deadline(told) -> None:
    told.expire("s-1", T, cutoff=T - HOUR, reason=Reason.ABSOLUTE_TIMEOUT)
    assert reason(told, auth_time=T - HOUR) == "absolute_timeout"
    assert reason(told, auth_time=T - HOUR + 1) == ""


@pytest.mark.parametrize(("acr", "admitted"), [(None, False), ("aal1", False), ("aal2", True), ("aal3", True)])
def test_a_new_authentication_must_be_as_strong_as_asked(told, acr, admitted) -> None:
    told.expire("s-1", T, reauth=Reauth(allowed=True, acr_values=("aal3", "aal2")))
    assert (reason(told, auth_time=T + 1, acr=acr) == "") is admitted


def test_from_a_revocation_nothing_brings_back(told) -> None:
    told.revoke("s-1", T)
    verdict = check(told.view, Facts(session_id="s-1", auth_time=T + 1), NOW)
    assert (verdict.reason, verdict.status, verdict.effective_at) == ("admin_revoked", 401, T)
    assert not verdict.reauth.allowed
    assert check(told.view, Facts(session_id="s-2"), NOW).admitted


def test_only_a_later_epoch_reinstates(told) -> None:
    told.expire("s-1", T, epoch=3)
    told.reinstate("s-1", T + 5, epoch=2, cutoff=T)
    assert reason(told) == "idle_timeout"
    told.reinstate("s-1", T + 5, epoch=3, cutoff=T)
    assert reason(told) == "idle_timeout"
    told.reinstate("s-1", T + 5, epoch=4, cutoff=T)
    assert reason(told) == ""


def test_a_live_session_refuses_what_was_authenticated_before_its_end(told) -> None:
    told.expire("s-1", T)
    told.reinstate("s-1", T + 5, epoch=1, cutoff=T)
    assert [reason(told, auth_time=at) for at in (T - 1, T, T + 1, None)] == ["idle_timeout", "idle_timeout", "", ""]


def test_within_an_epoch_a_revocation_outranks_an_expiry(told) -> None:
    told.revoke("s-1", T)
    told.expire("s-1", T)
    assert reason(told, auth_time=T + 1) == "admin_revoked"
    told.forget("s-1")
    assert reason(told, auth_time=T + 1) == ""


def test_an_authentication_in_the_future_is_none(told) -> None:
    told.expire("s-1", T - 10)
    assert reason(told, auth_time=T + 2 * SECOND) == ""
    assert reason(told, auth_time=T + 2 * SECOND + 1) == "idle_timeout"


# -- locks and cut-offs -----------------------------------------------------------------------------------

EVERYTHING = {
    "session_id": "s-1", "subject": "alice", "role": "admin", "tenant": "acme", "classification": "restricted",
    "workload": "batch", "client_ip": "10.0.0.1",
}  # fmt: skip
FULL = {name: value for name, value in EVERYTHING.items() if name != "role"} | {"roles": ("admin", "ops"), "auth_time": T - 10}


@pytest.mark.parametrize("member", EVERYTHING)
@pytest.mark.parametrize("order", ["lock", "cut_off"])
def test_every_member_of_a_target_meets_and_an_unknown_fact_does_not(told, member, order) -> None:
    getattr(told, order)(Target(**{member: EVERYTHING[member]}), T)
    known = "roles" if member == "role" else member
    assert reason(told, **FULL) in ("locked", "admin_revoked")
    assert reason(told, **(FULL | {known: None}), settings=Settings(without_session=WithoutSession.ADMIT)) == ""
    other = ("ops",) if member == "role" else "other"
    assert reason(told, **(FULL | {known: other})) == ""


def test_all_members_of_a_target_must_match(told) -> None:
    told.lock(Target(subject="alice", tenant="acme"), T)
    assert reason(told, subject="alice", tenant="acme") == "locked"
    assert reason(told, subject="alice", tenant="other") == reason(told, tenant="acme") == ""


def test_a_lock_meets_new_session_ids_until_it_is_lifted(told) -> None:
    told.lock(Target(subject="alice"), T)
    verdict = check(told.view, Facts(session_id="never-seen", subject="alice"), NOW)
    assert (verdict.reason, verdict.status, verdict.control_id) == ("locked", 403, "lock-1")
    told.unlock(T + 1)
    assert reason(told, subject="alice") == ""


@pytest.mark.parametrize(("log_time", "refused"), [(T - 1, True), (T, True), (T + 1, False)])
def test_a_lock_expires_in_log_time(told, log_time, refused) -> None:
    told = MemoryView()
    told.lock(Target(all=True), 0, expires=T)
    told.watermark(log_time, 0)
    assert (reason(told, Now(T + DAY, 0), classification="x", posture=Posture.BEST_EFFORT) == "locked") is refused


@pytest.mark.parametrize(
    ("auth_time", "whole", "refused"),
    [(None, False, False), (T - 1, False, True), (T, False, False), (T - 500, True, True), (T, True, False)],
)
def test_a_cutoff_meets_who_authenticated_before_it_and_of_a_second_its_start_counts(told, auth_time, whole, refused) -> None:
    told.cut_off(Target(subject="alice"), T)
    assert (reason(told, subject="alice", auth_time=auth_time, whole_second=whole) == "admin_revoked") is refused


def test_a_cutoff_may_lie_before_its_record_but_not_after_it(told) -> None:
    told.cut_off(Target(subject="alice"), T, before=T - HOUR)
    assert [reason(told, subject="alice", auth_time=at) for at in (T - HOUR - 1, T - HOUR)] == ["admin_revoked", ""]
    told.cut_off(Target(subject="bob"), T, id_="later", before=T + HOUR)
    assert [reason(told, subject="bob", auth_time=at) for at in (T - 1, T)] == ["admin_revoked", ""]


def test_of_several_cutoffs_each_counts_for_itself(told) -> None:
    told.cut_off(Target(subject="alice"), T - HOUR, id_="early")
    told.cut_off(Target(subject="alice", tenant="acme"), T, id_="late")
    assert reason(told, subject="alice", tenant="other", auth_time=T - HOUR - 1) == "admin_revoked"
    assert reason(told, subject="alice", tenant="other", auth_time=T - HOUR) == ""
    verdict = check(told.view, Facts(session_id="s-1", subject="alice", tenant="acme", auth_time=0), NOW)
    assert (verdict.control_id, verdict.effective_at) == ("late", T)


def test_a_cutoff_stands_for_the_credential_lifetime(told) -> None:
    told.cut_off(Target(subject="alice"), T - HOUR)
    old = {"subject": "alice", "auth_time": T - HOUR - 1}
    assert reason(told, **old) == "admin_revoked"
    told.watermark(T + 1, 0)
    assert reason(told, **old) == ""
    told.lock(Target(subject="nobody"), T)  # what has run out is left out of the index now
    assert reason(told, **old) == ""
    told.rule(POLICY.replace("credential_lifetime: 1h", "credential_lifetime: 2h"))
    assert reason(told, **old) == "admin_revoked"


# -- the absolute limit -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "limit", "rule"),
    [
        ({"subject": "alice"}, 12 * HOUR, "defaults"),
        ({"subject": "alice", "classification": "odd"}, 12 * HOUR, "defaults"),
        ({"subject": "alice", "classification": "public", "tenant": "acme"}, 12 * HOUR, "defaults"),
        ({"subject": "alice", "classification": "internal"}, 8 * HOUR, "at-least"),
        ({"subject": "alice", "classification": "restricted", "principal": Principal.USER}, 4 * HOUR, "secret"),
    ],
)
def test_the_absolute_limit_is_the_longest_that_the_facts_allow(told, facts, limit, rule) -> None:
    assert reason(told, **facts, auth_time=T - limit + 1) == ""
    verdict = check(told.view, Facts(session_id="s-1", **facts, auth_time=T - limit), NOW)
    assert (verdict.reason, verdict.rule, verdict.effective_at, verdict.status) == ("absolute_timeout", rule, T, 401)
    assert reason(told, **facts, auth_time=T - limit - 999, whole_second=True) == "absolute_timeout"
    assert reason(told, **facts, auth_time=T - limit - 998, whole_second=True) == ""


def test_who_may_come_under_an_exception_has_its_limit_while_it_lasts(told) -> None:
    for subject in ("svc-1", None):
        assert reason(told, Now(UNTIL - 1, 0), subject=subject, auth_time=UNTIL - 13 * HOUR) == ""
        assert reason(told, Now(UNTIL, 0), subject=subject, auth_time=UNTIL - 13 * HOUR) == "absolute_timeout"
    assert reason(told, Now(UNTIL - 1, 0), subject="alice", auth_time=UNTIL - 13 * HOUR) == "absolute_timeout"


def test_the_answer_asks_for_what_the_sessions_plan_asks(told) -> None:
    verdict = check(told.view, Facts(session_id="s-1", classification="restricted", auth_time=T - DAY), NOW)
    assert verdict.reauth == Reauth(allowed=True, max_age=300, acr_values=("aal2",))


def test_without_a_policy_or_an_auth_time_there_is_no_absolute_limit(told) -> None:
    bare = MemoryView()
    bare.watermark(T, 0)
    assert reason(bare, auth_time=0) == reason(told, auth_time=None) == ""


# -- posture ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classification", "posture", "strict"),
    [
        ("public", None, False), ("internal", None, False), ("restricted", None, True), (None, None, True), ("odd", None, True),
        ("public", Posture.STRICT, True), ("restricted", Posture.BEST_EFFORT, False),
    ],
)  # fmt: skip
def test_a_stale_view_refuses_where_it_is_strict_and_serves_where_it_is_not(told, classification, posture, strict) -> None:
    facts = Facts(session_id="s-1", classification=classification, posture=posture)
    fresh, stale = check(told.view, facts, Now(T, MINUTE)), check(told.view, facts, Now(T, MINUTE + 1))
    assert (fresh.admitted, fresh.stale) == (True, False)
    assert (stale.admitted, stale.stale, stale.status) == (not strict, True, 503 if strict else 200)
    assert (stale.retry_after == 5) is strict


def test_what_is_known_is_refused_for_what_it_is_however_old_the_view(told) -> None:
    told.expire("s-1", T)
    assert reason(told, Now(T, DAY)) == "idle_timeout"


def test_only_the_sessions_own_partition_counts(told) -> None:
    view = told.view
    own = view.partition_of("s-1")
    other = next(name for n in range(20) if view.partition_of(name := f"x-{n}") not in (own, (own - 1) % 4))
    told.watermark(T + 1, 10)
    view._advanced[own], view._advanced[own - 1] = -MINUTE, -2 * MINUTE
    view.oldest = -2 * MINUTE
    assert [reason(told, Now(T, at)) for at in (0, 1)] == ["", "view_stale"]
    assert reason(told, Now(T, 11), session_id=other) == ""
    assert reason(told, Now(T, 11), session_id=None, settings=Settings(without_session=WithoutSession.ADMIT)) == "view_stale"


def test_a_watermark_that_does_not_advance_is_no_news(told) -> None:
    told.watermark(T, 10 * MINUTE)
    assert reason(told, Now(T, MINUTE + 1)) == "view_stale"
    told.watermark(T + 1, 10 * MINUTE)
    assert reason(told, Now(T, 11 * MINUTE)) == ""


def test_who_has_not_read_the_controls_that_rule_is_stale(told) -> None:
    told.watermark(T + 1, 0, controls_to=1)
    assert reason(told) == "view_stale"
    assert reason(told, classification="public") == ""
    told.lock(Target(subject="nobody"), T)
    assert reason(told) == ""


def test_a_session_id_that_is_no_unicode_is_decided_like_any_other(told) -> None:
    assert reason(told, session_id="s-\udcff") == ""
    assert reason(told, Now(T, DAY), session_id="s-\udcff") == "view_stale"


def test_before_the_first_watermark_a_view_is_stale() -> None:
    assert reason(MemoryView(policy=POLICY)) == "view_stale"


# -- no session -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "status"), [("admit", 200), ("refuse", 400), ("challenge", 401)])
def test_a_request_without_a_session_is_treated_as_configured(told, how, status) -> None:
    settings = Settings(without_session=WithoutSession(how))
    assert check(told.view, Facts(), NOW, settings).status == status
    # What the route says counts more.
    for other, expected in (("admit", 200), ("refuse", 400), ("challenge", 401)):
        assert check(told.view, Facts(without_session=WithoutSession(other)), NOW, settings).status == expected
    told.lock(Target(client_ip="10.0.0.1"), T)
    assert check(told.view, Facts(client_ip="10.0.0.1"), NOW, settings).status == 403
    assert check(told.view, Facts(client_ip="10.0.0.1", without_session=WithoutSession.ADMIT), NOW, settings).status == 403
