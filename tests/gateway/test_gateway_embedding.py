"""What an application holds: how it is set up, its life, and tokens in threads."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from monitor.broker.connection import Connection
from monitor.core.errors import InputError
from monitor.gateway import Gateway, Now
from monitor.gateway.claims import ClaimRules
from monitor.gateway.follower import Follower
from monitor.gateway.jwks import parse_jwks
from monitor.gateway.tokens import TokenVerifier
from tests.gateway.asking import SESSION, WITH_COOKIE, fresh, pairs
from tests.gateway.serving import gateway
from tests.gateway.signing import AUDIENCE, ISSUER, NOW, RULES, ec, held, jwks, rsa, signed, verifier
from tests.gateway.worlds import T

ROOT = Path(__file__).parents[2]
NOWHERE = {"bootstrap_servers": "localhost:9"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"session_id": "cookie:a"}, "give one of bootstrap_servers, connection and view"),
        ({"session_id": "cookie:a", "connection": Connection(), **NOWHERE}, "give one of bootstrap_servers, connection and view"),
        (NOWHERE, "nothing says where session ids stand"),
        (NOWHERE | {"session_id": "claim:sid"}, "which only a verified token has"),
        (NOWHERE | {"session_id": "cookie:a", "audience": "x"}, "audience is given without issuer"),
        (NOWHERE | {"issuer": ISSUER}, "no audience is given"),
        (NOWHERE | {"issuer": ISSUER, "audience": "x", "tokens": RULES}, "issuer and audience must not be"),
        (NOWHERE | {"issuer": "http://id.example.com", "audience": "x"}, "is not https"),
        ({"session_id": "cookie:a", "granularity": 0, **NOWHERE}, "granularity is 0 ms; allowed are 100 to 60000"),
    ],
)
def test_what_can_not_be_used_is_named(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        Gateway(**settings)


def test_the_claims_that_are_looked_for_are_those_of_the_session_ids() -> None:
    by = {"session_id": "claim:act.sid,cookie:a", **NOWHERE}
    assert Gateway(issuer=ISSUER, audience="x", **by)._tokens.session_ids == ("act.sid",)
    assert Gateway(tokens=RULES, **by)._tokens.session_ids == ("act.sid",)
    assert Gateway(issuer=ISSUER, audience=["x", "y"], **NOWHERE)._tokens == ClaimRules(ISSUER, ("x", "y"))


def test_it_begins_once_and_ends_twice_and_begins_again() -> None:
    one = gateway()
    assert not one.ready
    for _ in range(2):
        one.start()
        threads = threading.active_count()
        one.start()
        assert (threading.active_count(), one.ready, one.wait_ready(0)) == (threads, True, True)
        one.stop()
        one.stop()
        assert not one.running


def test_many_threads_begin_it_once() -> None:
    one, began = gateway(), []
    begin = one._begin
    one._begin = lambda: began.append(1) or begin()
    threads = [threading.Thread(target=one.start) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert began == [1]
    one.stop()


def test_listeners_hear_of_changes_until_they_no_longer_want_to() -> None:
    view, heard = fresh(), []
    with gateway(view) as one:
        one.subscribe(heard.extend)
        view.expire("s-1", T)
        one.unsubscribe(heard.extend)
        view.expire("s-2", T)
    one.start()
    one.subscribe(heard.extend)
    view.expire("s-3", T)
    assert [change.session_id for change in heard] == ["s-1", "s-3"]
    one.stop()


def test_a_process_that_was_forked_begins_anew() -> None:
    """As pre-forking servers do with an application that was loaded before."""
    code = """
import os, sys, threading
from monitor.gateway import Gateway
one = Gateway(bootstrap_servers="localhost:9", session_id="cookie:a")
one.start()
pid = os.fork()
if pid == 0:
    ours = one.enforcer.following
    alone = threading.active_count() == 1 and not one.running
    one.start()
    names = {thread.name for thread in threading.enumerate()}
    os._exit(0 if alone and one.running and one.enforcer.following is not ours and {"gateway-follower", "session-monitor-gateway"} <= names else 1)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
one.stop()
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_it_follows_kafka_where_it_is_told_of_one() -> None:
    assert isinstance(Gateway(session_id="cookie:a", **NOWHERE).enforcer.following, Follower)


class TestTokensInThreads:
    """`question_now`: without an event loop."""

    def test_a_token_whose_key_is_at_hand(self) -> None:
        with gateway(session_id="claim:sid,cookie:session", verifier=verifier(), now=Now(NOW, 0)) as one:
            known = one.question_now([(b"authorization", f"Bearer {signed()}".encode())], "/")
            assert known.facts.session_id == "s-81f2"
            assert one.question_now(pairs(WITH_COOKIE), "/").facts.session_id == SESSION
            for shown in (b"Bearer x", b"Bearer \xff"):
                assert one.question_now([(b"authorization", shown)], "/").turned_away.status == 401

    def test_a_key_that_is_not_known_is_asked_for_in_the_background(self) -> None:
        keys = held(rsa())
        keys.coming = parse_jwks(jwks(rsa(), ec()))
        with gateway(session_id="claim:sid", verifier=TokenVerifier(RULES, keys), now=Now(NOW, 0)) as one:
            question = one.question_now([(b"authorization", f"Bearer {signed(key=ec(), alg='ES256')}".encode())], "/")
        assert (question.facts.subject, keys.renewed) == ("alice@example.com", 1)

    def test_an_issuer_that_can_not_be_reached_is_no_fault_of_the_client(self) -> None:
        rules = ClaimRules("http://localhost:9", (AUDIENCE,))
        with Gateway(session_id="claim:sid", view=fresh(), tokens=rules, now=lambda: Now(NOW, 0)) as one:
            question = one.question_now([(b"authorization", f"Bearer {signed()}".encode())], "/")
        assert question.turned_away.status == 503


@pytest.mark.oidc
def test_tokens_of_a_real_issuer_are_verified_in_threads(oidc) -> None:
    from tests.gateway.test_gateway_oidc import AUDIENCE as THEIRS
    from tests.gateway.test_gateway_oidc import good

    token = oidc.token(**good(oidc))
    with Gateway(view=fresh(), issuer=oidc.issuer, audience=THEIRS) as one:
        question = one.question_now([(b"authorization", f"Bearer {token}".encode())], "/")
    assert question.facts.session_id == "s-81f2"
