"""What a refused client is told."""

import orjson
import pytest

from monitor.core.commands import Reauth
from monitor.core.reasons import Challenge, Reason
from monitor.wire.problem import Refusal, challenge_for, refusal

YES, NO = Reauth(allowed=True, max_age=900, acr_values=("aal2", "aal3")), Reauth(allowed=False)


def test_where_reauthentication_helps_the_challenge_says_how() -> None:
    answer = refusal("idle_timeout", YES, session_id="s-1", effective_at=1_795_418_640_123, reauth_url="https://id.example/login")
    headers = dict(answer.headers)
    assert answer.status == 401
    assert headers["WWW-Authenticate"] == (
        'Bearer error="insufficient_user_authentication", error_description="More recent authentication is required", '
        'max_age="900", acr_values="aal2 aal3"'
    )
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Cache-Control"] == "no-store"
    assert orjson.loads(answer.body) == {
        "type": "urn:session-monitor:problem:reauthentication-required", "title": "Session Expired: Please Reauthenticate",
        "status": 401, "detail": "The session has ended: no activity for longer than the idle limit",
        "reason": "idle_timeout", "session_id": "s-1", "effective_at": "2026-11-23T07:24:00.123Z",
        "reauth_url": "https://id.example/login",
    }  # fmt: skip


def test_where_it_does_not_help_the_token_is_invalid() -> None:
    answer = refusal("admin_revoked", NO, resource_metadata="https://api.example/.well-known/oauth-protected-resource")
    assert answer.status == 401
    assert dict(answer.headers)["WWW-Authenticate"] == (
        'Bearer error="invalid_token", error_description="The session has ended", '
        'resource_metadata="https://api.example/.well-known/oauth-protected-resource"'
    )
    assert "session_id" not in orjson.loads(answer.body)


def test_a_lock_forbids() -> None:
    answer = refusal("locked", NO)
    assert answer.status == 403
    assert "WWW-Authenticate" not in dict(answer.headers)


@pytest.mark.parametrize("reason", [*Reason, "by_dice"])
@pytest.mark.parametrize("reauth", [YES, NO])
def test_every_reason_has_a_challenge_that_does_not_promise_too_much(reason: str, reauth: Reauth) -> None:
    challenge = challenge_for(reason, reauth)
    assert challenge is not Challenge.REAUTHENTICATE or reauth.allowed
    answer = refusal(reason, reauth)
    assert orjson.loads(answer.body)["reason"] == reason
    assert ("WWW-Authenticate" in dict(answer.headers)) is (answer.status == 401)


def test_a_policy_can_not_write_headers() -> None:
    answer = refusal("idle_timeout", Reauth(allowed=True, acr_values=('a"\r\nSet-Cookie: x=1', "ü\\")))
    challenge = dict(answer.headers)["WWW-Authenticate"]
    assert challenge.endswith('acr_values="aSet-Cookie: x=1 "')
    assert challenge.isascii()
    assert challenge.isprintable()


@pytest.mark.parametrize(
    ("reason", "status", "challenge"),
    [
        ("view_stale", 503, None), ("token_unjudged", 503, None), ("session_missing", 400, None), ("request_unusable", 400, None),
        ("login_required", 401, "Bearer"),
        ("token_invalid", 401, 'Bearer error="invalid_token", error_description="The token is not valid"'),
        ("command_unknown", 401, 'Bearer error="invalid_token", error_description="The session has ended"'),
    ],
)  # fmt: skip
def test_where_no_session_ended_the_table_says_what_to_answer_too(reason: str, status: int, challenge: str | None) -> None:
    answer = refusal(reason, NO, retry_after=5 if status == 503 else None)
    headers = dict(answer.headers)
    assert (answer.status, headers.get("WWW-Authenticate"), headers.get("Retry-After")) == (status, challenge, "5" if status == 503 else None)
    assert headers["Cache-Control"] == "no-store"
    assert orjson.loads(answer.body)["reason"] == reason
    assert {row.value for row in Refusal} == {
        "view_stale", "session_missing", "login_required", "request_unusable", "token_invalid", "token_unjudged", "command_unknown",
    }  # fmt: skip


def test_a_lock_that_was_lifted_asks_for_authentication() -> None:
    assert challenge_for("locked", YES) is Challenge.REAUTHENTICATE


def test_a_fault_may_be_described_more_closely() -> None:
    answer = refusal("token_invalid", NO, description='expired "yesterday"')
    assert dict(answer.headers)["WWW-Authenticate"] == 'Bearer error="invalid_token", error_description="expired yesterday"'
