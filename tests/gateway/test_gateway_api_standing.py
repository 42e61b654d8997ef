"""How a session stands: what is known of it, and what is not said because it is not known."""

import msgspec
import pytest

from monitor.core.commands import Reauth
from monitor.core.controls import Target
from monitor.core.instants import HOUR, MINUTE, SECOND
from monitor.core.reasons import Reason
from monitor.gateway import Facts, Now
from monitor.gateway.api.advice import Advice, Warned
from monitor.gateway.api.standing import Standings, State
from monitor.gateway.changes import Change, ChangeKind
from monitor.gateway.enforcer import Enforcer
from tests.gateway.asking import fresh
from tests.gateway.worlds import T

POLICY = "version: 1\ndefaults: {idle: 30m, absolute: 12h}\nrules: [{name: r, when: {roles: [admin]}, absolute: 1h}]\n"


def stand(view=None, now=None, warned=(), **facts):
    """What is said, by the wire's members."""
    advice = Advice()
    advice.take(warned)
    one = Standings(Enforcer(view or fresh(), lambda: now or Now(T, 0)), advice).of(Facts(**{"session_id": "s-1"} | facts)).standing
    return msgspec.to_builtins(one, builtin_types=[int], enc_hook=int)


def warning(at: int, session_id: str = "s-1") -> Change:
    return Change(ChangeKind.WARNED, session_id, "idle_timeout", at)


def test_of_a_session_of_which_nothing_is_known_nothing_else_is_said() -> None:
    assert stand() == {"session_id": "s-1", "state": "live"}
    assert stand(fresh(policy=POLICY)) == {"session_id": "s-1", "state": "live"}


def test_an_ended_session_tells_why_since_when_and_what_helps() -> None:
    view = fresh()
    view.expire("s-1", T - 5, reauth=Reauth(allowed=True, max_age=900, acr_values=("aal2",)))
    ended = {"session_id": "s-1", "state": "ended", "reason": "idle_timeout", "effective_at": T - 5}
    assert stand(view) == ended | {"reauth": {"allowed": True, "max_age": 900, "acr_values": ("aal2",)}}
    # This client has authenticated since, as it was asked to: it would pass.
    assert stand(view, auth_time=T - 4, acr="aal2")["state"] == "live"
    assert stand(view, auth_time=T - 4, acr="aal1")["state"] == "ended"
    view.revoke("s-1", T - 3)
    assert stand(view) == ended | {"reason": "admin_revoked", "effective_at": T - 3, "reauth": {"allowed": False}}


def test_a_lock_is_told_to_whom_it_meets() -> None:
    view = fresh()
    view.lock(Target(subject="alice"), T - 7)
    assert stand(view, subject="alice") == {
        "session_id": "s-1", "state": "locked", "reason": "locked", "effective_at": T - 7, "reauth": {"allowed": False},
    }  # fmt: skip
    assert stand(view)["state"] == "live"  # who the subject is, nobody has said


def test_a_revocation_of_everybody_ends_who_authenticated_before_it() -> None:
    view = fresh()
    view.cut_off(Target(all=True), T - 7)
    assert [stand(view, auth_time=T - ago)["state"] for ago in (8, 6)] == ["ended", "live"]


def test_a_stale_view_knows_nothing_but_who_has_ended() -> None:
    late = Now(T, MINUTE + 1)
    assert stand(now=late) == {"session_id": "s-1", "state": "unknown", "reason": "view_stale"}
    view = fresh()
    view.expire("s-1", T)
    assert stand(view, now=late)["state"] == "ended"


def test_the_last_warning_tells_when_it_ends() -> None:
    said = {"session_id": "s-1", "state": "live", "ends_at": T + 10, "ends_for": "idle_timeout", "time_left_ms": 10}
    assert stand(warned=[warning(T + 99), warning(T + 10), warning(T + 7, "s-2")]) == said
    # Once its deadline has passed it is no news: either the session ended, or it was used.
    assert [stand(warned=[warning(T + more)]).get("time_left_ms") for more in (-1, 0, 1)] == [None, None, 1]


@pytest.mark.parametrize(("roles", "limit"), [((), 12 * HOUR), (("admin",), HOUR), (None, 12 * HOUR)])
def test_the_absolute_limit_tells_when_it_ends_at_the_latest(roles, limit) -> None:
    view = fresh(policy=POLICY)

    def asked(age, **more):
        return stand(view, auth_time=T - age, roles=roles, **more)

    assert asked(5 * SECOND) == {"session_id": "s-1", "state": "live", "ends_by": T - 5 * SECOND + limit, "time_left_ms": limit - 5 * SECOND}
    assert asked(5 * SECOND, whole_second=True)["time_left_ms"] == limit - 5 * SECOND + 999
    assert asked(limit - 1)["time_left_ms"] == 1
    assert [asked(age)["state"] for age in (limit - 1, limit)] == ["live", "ended"]
    assert asked(limit)["reason"] == "absolute_timeout"


def test_of_two_ends_the_earlier_counts() -> None:
    view = fresh(policy=POLICY)
    for at in (T + MINUTE, T + 13 * HOUR):
        told = stand(view, auth_time=T, warned=[warning(at)])
        assert (told["ends_at"], told["ends_by"], told["time_left_ms"]) == (at, T + 12 * HOUR, min(at - T, 12 * HOUR))


@pytest.mark.parametrize("kind", [ChangeKind.ENDED, ChangeKind.REINSTATED, ChangeKind.FORGOTTEN])
def test_a_warning_does_not_outlive_its_epoch(kind) -> None:
    advice = Advice()
    advice.take([warning(T + 1), Change(kind, "s-1")])
    assert advice.of("s-1", T) is None


def test_warnings_are_kept_within_a_bound_the_last_ones_longest() -> None:
    advice = Advice(kept=2)
    advice.take([warning(T + 1, "a"), warning(T + 2, "b"), warning(T + 3, "a"), warning(T + 4, "c")])
    assert [advice.of(one, T) for one in "abc"] == [Warned(T + 3, "idle_timeout"), None, Warned(T + 4, "idle_timeout")]


def test_an_id_that_is_no_unicode_is_told_back_all_the_same() -> None:
    assert stand(session_id="\udce9") == {"session_id": "?", "state": "live"}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_one_of_the_states(reason) -> None:
    view = fresh()
    view.revoke("s-1", T, reason=reason)
    told = stand(view)
    assert (told["state"], told["reason"]) == (State.LOCKED if reason is Reason.LOCKED else State.ENDED, reason.value)
