"""From the event to the client: what the monitor decides is what each of the five gateways answers."""

import time
from contextlib import ExitStack

import pytest

from monitor.broker.apache import ApacheKafka
from monitor.broker.embedded import EmbeddedBroker
from monitor.core.errors import AbsenceError, MissingExtraError
from tests.gateway.worlds import following, reason, until
from tests.gateways.edge import Answered
from tests.gateways.world import SECONDS, Whole

pytestmark = [pytest.mark.gateways, pytest.mark.slow, pytest.mark.timeout(300)]

POLICY = """
version: 1
timing: {lateness: 2s, outage_grace: 3s}
defaults: {idle: 4s, absolute: 1h}
"""
STALE = ("--max-view-age", "10s", "--route", "/open/* posture=best-effort")
BROKERS = [pytest.param(EmbeddedBroker, marks=pytest.mark.embedded, id="embedded"), pytest.param(ApacheKafka, marks=pytest.mark.kafka, id="kafka")]


@pytest.fixture(params=BROKERS)
def whole(request, tmp_path):
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(request.param(**({"heap": "512m", "short_lived": True} if request.param is ApacheKafka else {})))
        except (AbsenceError, MissingExtraError) as error:
            pytest.skip(str(error))
        yield stack.enter_context(Whole(broker, POLICY, tmp_path, *STALE))


class Client:
    """A session of one subject at each gateway."""

    def __init__(self, whole: Whole, role: str, subject: str) -> None:
        self._whole, self._role, self.subject = whole, role, subject

    def sids(self) -> list[str]:
        return [self.sid(gateway) for gateway in self._whole.gateways]

    def sid(self, gateway) -> str:
        return f"{self._role}-{gateway.name}"

    def ask(self, auth_time: int, path: str = "/v1/chats") -> dict[str, Answered]:
        """What each gateway answers to a token of this age."""
        return {
            gateway.name: self._whole.ask(gateway, self._whole.issuer.bearer(self.sid(gateway), self.subject, auth_time), path)
            for gateway in self._whole.gateways
        }

    def get(self, status: int, auth_time: int, path: str = "/v1/chats") -> dict[str, Answered]:
        """The answers, once all of them have this status."""
        answers = {}

        def alike() -> bool:
            answers.update(self.ask(auth_time, path))
            return {one.status for one in answers.values()} == {status}

        until(alike, SECONDS)
        return answers


def test_what_the_monitor_decides_is_what_a_client_gets(whole: Whole) -> None:
    idle, mallory, eve, unseen = (Client(whole, role, role) for role in ("idle", "mallory", "eve", "unseen"))
    start = int(time.time()) - 5
    # A live session passes, and the service is told which it is. Nobody tells the monitor of it but the sidecar.
    for client in (idle, mallory):
        for answered, sid in zip(client.get(200, start).values(), client.sids(), strict=True):
            assert answered.json["headers"]["x-session-id"] == [sid]

    with following(whole.world) as view:

        def known(client: Client, why: str) -> None:
            until(lambda: {reason(view, sid) for sid in client.sids()} == {why}, SECONDS)

        # Nothing but the monitor acts now: nobody asks, until it has said that they are over.
        known(idle, "idle_timeout")
        for name, answered in idle.get(401, start).items():
            expired(name, answered)

        # Who has authenticated again passes at once, and is reinstated for whoever else follows; an old token does not come in.
        again = int(time.time())
        assert statuses(idle.ask(again)) == {200}
        known(idle, "")
        assert statuses(idle.ask(start)) == {401}

        # A session that was revoked is over for good, whoever authenticates again; its principal may begin another.
        whole.run("revoke", "--subject", "mallory", "--reason", "left the company", "--by", "test")
        known(mallory, "admin_revoked")
        later = int(time.time()) + 1
        for answered in mallory.get(401, later).values():
            assert answered.json["reason"] == "admin_revoked"
            assert 'error="invalid_token"' in answered.headers["WWW-Authenticate"]
        assert statuses(mallory.ask(start)) == {401}
        assert statuses(Client(whole, "another", "mallory").ask(later)) == {200}

    # Who is locked out is refused under a session id that nobody has seen before.
    whole.run("lock", "--subject", "eve", "--reason", "stolen device", "--by", "test")
    for answered in eve.get(403, later).values():
        assert (answered.json["reason"], answered.all("WWW-Authenticate")) == ("locked", [])

    # The broker is gone: soon nothing is known of what is strict, what is best effort is served, and who has ended has ended.
    assert statuses(unseen.ask(later)) == {200}
    whole.broker.kill()
    for answered in unseen.get(503, later).values():
        assert (answered.all("Retry-After"), answered.all("Cache-Control")) == (["5"], ["no-store"])
    for answered in unseen.ask(later, "/open/help").values():
        assert (answered.status, answered.json["headers"].get("session-monitor-view")) == (200, ["stale"])
    assert statuses(mallory.ask(later, "/open/help")) == {401}
    assert statuses(eve.ask(later, "/open/help")) == {403}

    # The sidecar is gone: nobody passes, with the status that the gateway's README promises.
    whole.sidecar.kill()
    through = whole.service.asked
    gone = {name: answered.status for name, answered in unseen.ask(later, "/open/help").items()}
    assert gone == {gateway.name: gateway.documented("the sidecar is gone") for gateway in whole.gateways}
    assert whole.service.asked == through
    # Tokens are credentials: the sidecar writes none of them.
    said = whole.sidecar.said(tail=1_000_000)
    assert "eyJ" not in said
    # Kafka's client says of a connection that was reset where it was.
    assert [line for line in said.splitlines() if "Traceback" in line and "library_message" not in line] == []


def expired(name: str, answered: Answered) -> None:
    """As the requirement has it."""
    assert answered.headers.get_content_type() == "application/problem+json"
    assert answered.all("Cache-Control") == ["no-store"]
    (challenge,) = answered.all("WWW-Authenticate")
    assert challenge.startswith('Bearer error="insufficient_user_authentication"')
    problem = answered.json
    assert (problem["title"], problem["reason"]) == ("Session Expired: Please Reauthenticate", "idle_timeout")
    assert problem["session_id"] == f"idle-{name}"


def statuses(answers: dict[str, Answered]) -> set[int]:
    return {answered.status for answered in answers.values()}
