"""What a request asks, read for every adapter alike."""

from monitor.gateway import MemoryView, Now
from monitor.gateway.enforcer import Enforcer
from monitor.gateway.identity import parse_sources
from monitor.gateway.question import Questions, refusal_of, unusable
from monitor.gateway.refusals import TokenFault, TokenRefused
from tests.gateway.asking import COOKIE, SESSION, WITH_COOKIE, fresh, pairs
from tests.gateway.signing import NOW, said, signed, verifier
from tests.gateway.worlds import T


def questions(view: MemoryView | None = None, sources: str = "claim:sid,cookie:session", **more) -> Questions:
    enforcer = Enforcer(view or fresh(), lambda: Now(NOW, 0))
    return Questions(enforcer, parse_sources(sources), **more)


async def test_facts_come_from_the_cookie_and_from_the_token() -> None:
    one = questions(verifier=verifier())
    headers = pairs(WITH_COOKIE | {"User-Agent": "curl/8"})
    anonymous = await one.read(headers, "/a", "192.0.2.1")
    assert (anonymous.facts.session_id, anonymous.facts.client_ip, anonymous.facts.subject) == (SESSION, "192.0.2.1", None)
    assert anonymous.seen.user_agent == "curl/8"
    known = await one.read([*headers, (b"authorization", f"Bearer {signed()}".encode())], "/a")
    assert (known.facts.session_id, known.facts.subject, known.facts.roles) == ("s-81f2", "alice@example.com", ("a", "b"))
    assert known.facts.auth_time == said()["auth_time"] * 1000
    assert known.seen.expires == said()["exp"] * 1000


async def test_without_a_verifier_no_token_is_looked_at() -> None:
    question = await questions(sources="cookie:session").read([*pairs(WITH_COOKIE), (b"authorization", b"Bearer x")], "/")
    assert question.turned_away is None
    assert question.facts.session_id == SESSION


async def test_a_bad_token_is_a_verdict_and_no_exception() -> None:
    one = questions(verifier=verifier())
    for shown in (b"Bearer x", b"Bearer ", b"bearer " + b"\xff", b"Bearer " + signed(said(exp=1)).encode()):
        question = await one.read([(b"authorization", shown)], "/")
        verdict = one.decide(question)
        assert (verdict.status, verdict.reason) == (401, "token_invalid"), shown
        reply = refusal_of(question, verdict, (), "GET", None)
        assert 'error="invalid_token"' in dict(reply.headers)["WWW-Authenticate"]


def test_a_token_that_could_not_be_judged_is_no_fault_of_the_client() -> None:
    one = questions()
    verdict = one.decide(one.told((), "/", None, TokenRefused(TokenFault.KEYS_UNAVAILABLE)))
    assert (verdict.status, verdict.retry_after) == (503, 5)


def test_an_answer_says_what_was_wrong() -> None:
    one = questions()
    for question in (unusable("it is odd"), one.told(pairs({"Cookie": "session=a; session=b"}), "/", None, None)):
        verdict = one.decide(question)
        assert verdict.status == 400
        assert question.detail.encode() in refusal_of(question, verdict, (), "GET", None).body


def test_a_decision_is_by_the_view() -> None:
    view = fresh()
    view.expire(SESSION, T)
    one = questions(view)
    assert one.decide(one.told(pairs(WITH_COOKIE), "/", None, None)).reason == "idle_timeout"
    assert one.decide(one.told(pairs({"Cookie": f"session={COOKIE}x"}), "/", None, None)).admitted
