"""Evidence through an outage of a real broker: nobody waits, nothing is lost, and no promise was false."""

import json
import threading
import time

import pytest

from monitor.broker.administration import apply_topics
from monitor.core.events import EventType
from monitor.gateway import Facts
from monitor.gateway.dispatch import Dispatch, to_kafka
from monitor.gateway.enforcer import NOTHING_SEEN
from monitor.gateway.evidence import Evidence
from monitor.gateway.follower import present
from monitor.wire.topics import Topics
from tests.gateway.promises import broken_promises
from tests.gateway.worlds import until
from tests.kafka.plain import read_all
from tests.publish.worlds import broker_away

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

SESSIONS = 200
TOPICS = Topics("t-")


class Users(threading.Thread):
    """Use sessions, one after the other, until told to stop."""

    def __init__(self, dispatch: Dispatch) -> None:
        super().__init__()
        self._dispatch = dispatch
        self.enough = threading.Event()
        self.used: dict[str, int] = {}
        self.rounds = 0

    def run(self) -> None:
        while not self.enough.wait(0.05):
            for number in range(SESSIONS):
                at = present().wall
                self._dispatch.put(Evidence(EventType.ACTIVITY, Facts(f"s-{number}"), NOTHING_SEEN, at))
                self.used[f"s-{number}"] = at
            self.rounds += 1


@broker_away
def test_a_broker_that_is_killed_and_comes_back_has_everything(apache_kafka) -> None:
    broker = apache_kafka()
    apply_topics(broker.connection, TOPICS, replication=1)
    dispatch = Dispatch(to_kafka(broker.connection, TOPICS, "gw", 200), lambda: present().wall)
    users = Users(dispatch)
    dispatch.start()
    users.start()
    try:
        until(lambda: dispatch.figures.published > SESSIONS)
        broker.kill()
        before = users.rounds
        # More than can be on its way, so that it has to wait here.
        until(lambda: users.rounds > before + 60)
        broker.restart()
        told = dispatch.figures.published
        until(lambda: dispatch.figures.published > told + 2 * SESSIONS, 90)
    finally:
        users.enough.set()
        users.join()
        dispatch.stop(30)
    assert dispatch.figures.lost == 0
    records = read_all(broker.bootstrap_servers, TOPICS.access_events.name)
    times: dict[str, list[str]] = {}
    for record in records:
        said = json.loads(record.value)
        if said["type"] == "session.activity":
            times.setdefault(said["session_id"], []).append(said["time"])
    written = {name: max(some) for name, some in times.items()}
    assert written == {name: _text(at) for name, at in users.used.items()}
    assert broken_promises(records) == []


def _text(millis: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis / 1000)) + f".{millis % 1000:03d}Z"
