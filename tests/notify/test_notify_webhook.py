"""A webhook's requests, taken by a real HTTP server."""

import hmac
import logging
import re
from pathlib import Path

import pytest

import monitor.notify
from monitor.core.errors import InputError
from monitor.notify.answer import Verdict
from monitor.notify.endpoint import Endpoint
from monitor.notify.receiver import idempotency_key
from monitor.notify.webhook import Webhook
from tests.notify.alerts import T, alert
from tests.notify.conftest import KEY


@pytest.fixture
def webhook(listening, secret_file):
    return Webhook("pager", Endpoint(f"{listening.url}/hooks/very-private?team=sec", timeout=500), secret_file, now=lambda: T + 5_999)


def test_the_body_is_the_alert_with_a_version(webhook, listening):
    assert webhook.deliver(alert(7, evidence={"seen": {"timeouts": 12}})).verdict is Verdict.TAKEN
    (post,) = listening.posts
    assert post.path == "/hooks/very-private?team=sec"
    assert post.headers["Content-Type"] == "application/json"
    assert post.said == {
        "version": 1, "fingerprint": f"{7:032x}", "alert": "timeout_churn", "state": "firing", "severity": "warning", "subject": "alice",
        "since": "2026-11-24T06:00:00.000Z", "updated": "2026-11-24T06:00:00.000Z", "summary": "alice timed out 12 times within the hour",
        "evidence": {"seen": {"timeouts": 12}},
    }  # fmt: skip


def test_a_receiver_can_check_the_signature_over_the_bytes_it_got(webhook, listening):
    webhook.deliver(alert(summary="größer"))
    (post,) = listening.posts
    seconds, signature = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", post.headers["X-Session-Monitor-Signature"]).groups()
    assert int(seconds) == T // 1000 + 5
    assert hmac.new(KEY, f"{seconds}.".encode() + post.body, "sha256").hexdigest() == signature
    assert hmac.new(KEY, f"{int(seconds) + 1}.".encode() + post.body, "sha256").hexdigest() != signature


def test_the_check_that_the_readme_shows_tells_ours_from_others(webhook, listening):
    readme = (Path(monitor.notify.__file__).parent / "README.md").read_text()
    (shown,) = re.findall(r"```python\n(def is_ours.*?)```", readme, re.DOTALL)
    exec(shown, said := {"hmac": hmac})
    webhook.deliver(alert())
    (post,) = listening.posts
    signature, seconds = post.headers["X-Session-Monitor-Signature"], T // 1000 + 5
    assert said["is_ours"](KEY, signature, post.body, seconds + 300)
    for wrong in (
        (b"another secret", signature, post.body, seconds), (KEY, signature, post.body + b" ", seconds), (KEY, signature, post.body, seconds + 301),
        (KEY, signature.replace("t=1", "t=2"), post.body, seconds),
    ):  # fmt: skip
        assert not said["is_ours"](*wrong)


def test_the_key_is_of_fingerprint_state_and_since_alone():
    one = idempotency_key(alert(1))
    assert one == idempotency_key(alert(1, updated=T + 99, summary="13 times", severity="critical"))
    assert len({one, idempotency_key(alert(2)), idempotency_key(alert(1, state="resolved")), idempotency_key(alert(1, since=T + 1))}) == 4
    assert one == "41f55812bcbff1199ecc58fe26ab63cc", "a receiver of yesterday must know it today"


def test_each_attempt_has_the_same_key(webhook, listening):
    listening.status = lambda number: 500 if number < 2 else 200
    assert [webhook.deliver(alert()).verdict for _ in range(3)] == [Verdict.AGAIN, Verdict.AGAIN, Verdict.TAKEN]
    assert {post.headers["Idempotency-Key"] for post in listening.posts} == {idempotency_key(alert())}


def test_a_changed_secret_is_used_at_once(webhook, listening, secret_file):
    secret_file.write_bytes(b"another one, and longer")
    webhook.deliver(alert())
    (post,) = listening.posts
    seconds, _, signature = post.headers["X-Session-Monitor-Signature"].removeprefix("t=").partition(",v1=")
    assert hmac.new(b"another one, and longer", f"{seconds}.".encode() + post.body, "sha256").hexdigest() == signature


def test_a_secret_that_is_gone_for_a_moment_is_waited_for(webhook, listening, secret_file):
    secret_file.unlink()
    answer = webhook.deliver(alert())
    assert (answer.verdict, listening.posts) == (Verdict.AGAIN, [])
    assert str(secret_file) in answer.detail


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [(None, 0, "can't be read"), (b"too short\n", 0o600, "16 to 1024 bytes"), (b"x" * 1025, 0o600, "16 to 1024 bytes"), (KEY, 0o644, "chmod 600")],
)
def test_a_secret_that_is_none_is_refused_at_once(tmp_path, content, mode, said):
    path = tmp_path / "other"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(InputError, match=said) as refused:
        Webhook("pager", Endpoint("http://localhost:1"), path)
    assert KEY.decode() not in str(refused.value)


def test_secrets_are_in_no_text(webhook, listening, caplog):
    caplog.set_level(logging.DEBUG)
    listening.status = 500
    answer = webhook.deliver(alert())
    said = f"{webhook!r} {webhook} {answer!r} {vars(webhook)} {caplog.text}"
    assert KEY.decode() not in said
    assert "very-private" not in said
    assert repr(webhook) == f"Webhook('pager', Endpoint({listening.url}))"


@pytest.mark.parametrize("name", ["", "Pager", "a b", "-a", "a" * 65, "ä"])
def test_a_name_that_could_not_name_a_group_is_refused(secret_file, name):
    with pytest.raises(InputError, match="can't be called"):
        Webhook(name, Endpoint("http://localhost:1"), secret_file)
