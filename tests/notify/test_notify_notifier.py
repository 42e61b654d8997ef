"""Alerts from the topic to receivers that fail, come back, and are not to be flooded. On the embedded broker, and on Apache Kafka."""

import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing

import pytest

from monitor.broker.administration import apply_topics
from monitor.broker.clients import administrator
from monitor.broker.connection import Connection
from monitor.broker.embedded import EmbeddedBroker
from monitor.core.errors import InputError
from monitor.core.instants import DAY, MINUTE
from monitor.notify.clock import wall
from monitor.notify.courier import GIVE_UP_AFTER, CourierState
from monitor.notify.endpoint import Endpoint
from monitor.notify.notifier import Notifier
from monitor.notify.receiver import idempotency_key
from monitor.notify.webhook import Webhook
from monitor.wire.alerts import AlertRecord, decode_alert, encode_alert
from monitor.wire.topics import Topics
from tests.notify.alerts import T, alert
from tests.notify.listening import Listening, until
from tests.notify.worlds import Alerts, committed, dead_letters, figure, notifying, told
from tests.publish.worlds import BOTH, broker_away


@pytest.fixture(params=BOTH)
def world(request, own_topics):
    return own_topics(request.getfixturevalue(request.param))


@pytest.fixture
def alerts(world):
    one = Alerts(world)
    yield one
    one.close()


@pytest.fixture
def hook(secret_file):
    """Makes a webhook at a server."""
    return lambda listening, name="pager": Webhook(name, Endpoint(listening.url, timeout=2_000), secret_file)


def test_each_state_is_told_once_and_updates_are_not(world, alerts, listening, hook):
    with notifying(world, hook(listening)):
        alerts.write(alert(1), alert(1, updated=T + 1, summary="13 times"), alert(2), alert(1, state="resolved"), alert(1, since=T + MINUTE))
        until(lambda: len(listening.posts) >= 4)
        alerts.write(alert(3))
        until(lambda: len(listening.posts) >= 5)
    assert told(listening) == [(1, "firing"), (2, "firing"), (1, "resolved"), (1, "firing"), (3, "firing")]


def test_one_that_failed_gets_all_of_it_afterwards_in_order_under_the_same_keys(world, alerts, listening, hook):
    said = [alert(number, state=state) for state in ("firing", "resolved") for number in range(10)]
    listening.status = 503
    with notifying(world, hook(listening)) as notifier:
        alerts.write(*said)
        until(lambda: len(listening.posts) > 5)
        assert figure(notifier, "failures_total", receiver="pager") >= 5
        assert figure(notifier, "waiting_seconds", receiver="pager") > 0
        listening.stop()  # nobody there at all
        until(lambda: figure(notifier, "failures_total", receiver="pager") > 20)
        listening.start()
        listening.status = lambda number: 500 if number % 3 == 0 else 200
        until(lambda: len(listening.taken) == 20)
        until(lambda: committed(world, notifier) == 20)
        assert figure(notifier, "waiting_seconds", receiver="pager") == 0
    assert told(listening) == [(int(one.fingerprint, 16), one.state.value) for one in said]
    assert [post.headers["Idempotency-Key"] for post in listening.taken] == [idempotency_key(one) for one in said]
    assert len({post.headers["Idempotency-Key"] for post in listening.posts}) == 20


def test_a_restart_neither_loses_nor_floods(world, alerts, listening, hook):
    with notifying(world, hook(listening)):
        alerts.write(alert(1), alert(2))
        until(lambda: len(listening.taken) == 2)
    alerts.write(alert(1, updated=T + 1), alert(2, state="resolved"), alert(3))
    with notifying(world, hook(listening)):
        until(lambda: len(listening.taken) == 4)
    with notifying(world, hook(listening)):
        alerts.write(alert(4))
        until(lambda: len(listening.taken) == 5)
    assert told(listening) == [(1, "firing"), (2, "firing"), (2, "resolved"), (3, "firing"), (4, "firing")]


def test_what_is_under_way_when_it_ends_is_told_by_the_next_under_the_same_key(world, alerts, listening, hook):
    listening.status = 500
    notifier = Notifier(world.connection, world.topics, [hook(listening)])
    notifier.start()
    notifier.start()
    alerts.write(alert(1), alert(2))
    until(lambda: listening.posts)
    notifier.stop()
    notifier.stop()
    assert notifier.states == {"pager": CourierState.STOPPED}
    listening.status = 200
    notifier.start()  # the same one, once more
    until(lambda: len(listening.taken) == 2)
    notifier.stop()
    assert told(listening) == [(1, "firing"), (2, "firing")]
    assert {post.headers["Idempotency-Key"] for post in listening.posts} == {idempotency_key(alert(1)), idempotency_key(alert(2))}


def test_who_begins_hears_of_what_fires_and_of_nothing_that_is_over(world, alerts, listening, hook):
    alerts.write(alert(1), alert(2), alert(3), alert(2, state="resolved"), alert(1, updated=T + 1))
    with notifying(world, hook(listening)) as notifier:
        until(lambda: len(listening.taken) == 2)
        alerts.write(alert(2, state="resolved"), alert(1, state="resolved"), alert(3))
        until(lambda: len(listening.taken) == 3)
        until(lambda: committed(world, notifier) == 8)
    assert told(listening) == [(3, "firing"), (1, "firing"), (1, "resolved")]


def test_who_was_cut_short_at_the_beginning_begins_anew(world, alerts, listening, hook):
    alerts.write(alert(1), alert(2), alert(1, state="resolved"), alert(3))
    listening.status = lambda number: 200 if number == 0 else 500
    with notifying(world, hook(listening)) as notifier:
        until(lambda: len(listening.posts) > 1)
    assert committed(world, notifier) is None
    listening.status = 200
    with notifying(world, hook(listening)):
        until(lambda: len(listening.taken) == 3)
    assert told(listening) == [(2, "firing"), (2, "firing"), (3, "firing")]


def test_what_is_refused_for_good_is_put_aside_and_the_next_goes_on(world, alerts, listening, hook):
    listening.status = lambda number: 422 if number == 1 else 200
    listening.body = b"no such team"
    with notifying(world, hook(listening)) as notifier:
        alerts.write(alert(1), alert(2), alert(3), alert(2, updated=T + 1))
        until(lambda: len(listening.posts) == 3)
        until(lambda: committed(world, notifier) == 4)
        assert figure(notifier, "put_aside_total", receiver="pager", reason="receiver_refused") == 1
    (letter,) = dead_letters(world)
    assert (letter.reason, letter.detail) == ("receiver_refused", "pager: HTTP 422: no such team")
    assert (letter.topic, letter.partition, letter.offset) == (world.topics.session_alerts.name, 0, 1)
    assert decode_alert(letter.value) == alert(2)
    assert told(listening) == [(1, "firing"), (3, "firing")]


def test_what_fails_for_too_long_is_put_aside(world, alerts, listening, hook):
    listening.status = 503
    with notifying(world, hook(listening), give_up_after=300) as notifier:
        alerts.write(alert(1))
        until(lambda: figure(notifier, "put_aside_total", receiver="pager", reason="receiver_unreachable") == 1)
        listening.status = 200
        alerts.write(alert(2))
        until(lambda: listening.taken)
    (letter,) = dead_letters(world)
    assert letter.reason == "receiver_unreachable"
    assert letter.detail.startswith("pager: HTTP 503 (given up after ")
    assert told(listening) == [(2, "firing")]


def test_what_waits_behind_one_that_is_given_up_does_not_wait_as_long_again(world, alerts, listening, hook):
    listening.status = 503
    with notifying(world, hook(listening), give_up_after=2_000) as notifier:
        now = wall()
        for record in (encode_alert(alert(number)) for number in range(4)):
            alerts.raw(record.key, record.value, record.headers, timestamp=now)
        until(lambda: figure(notifier, "put_aside_total", receiver="pager", reason="receiver_unreachable") == 4)
    attempts = Counter(post.headers["Idempotency-Key"] for post in listening.posts)
    assert [attempts[idempotency_key(alert(number))] for number in (1, 2, 3)] == [1, 1, 1]
    assert attempts[idempotency_key(alert(0))] > 1


def test_what_came_while_nobody_was_there_has_its_whole_time(world, alerts, listening, hook):
    with notifying(world, hook(listening)):
        pass
    record = encode_alert(alert(1))
    alerts.raw(record.key, record.value, record.headers, timestamp=wall() - 3 * DAY)
    listening.status = lambda number: 503 if number < 3 else 200
    with notifying(world, hook(listening), give_up_after=DAY):
        until(lambda: listening.taken)
    assert dead_letters(world) == []


@pytest.mark.embedded
def test_a_topic_that_was_made_anew_is_told_of_from_its_beginning(embedded, own_topics, listening, hook):
    world = own_topics(embedded)
    with closing(Alerts(world)) as alerts, notifying(world, hook(listening)):
        alerts.write(alert(1), alert(2), alert(3))
        until(lambda: len(listening.taken) == 3)
    with administrator(world.connection) as admin:
        admin.delete_topics([alerts.topic])
    apply_topics(world.connection, world.topics, replication=1)
    with closing(Alerts(world)) as alerts:
        alerts.write(alert(4), alert(4, state="resolved"))
    with notifying(world, hook(listening)):
        until(lambda: len(listening.taken) == 5)
    assert told(listening)[3:] == [(4, "firing"), (4, "resolved")]


def test_one_that_hangs_holds_up_no_other(world, alerts, listening, hook):
    other = Listening()
    other.start()
    listening.hold.clear()
    try:
        with notifying(world, hook(listening), hook(other, "chat")) as notifier:
            alerts.write(*(alert(number) for number in range(5)))
            until(lambda: len(other.taken) == 5)
            assert notifier.states["pager"] is CourierState.DELIVERING
            assert len(listening.posts) <= 1
            listening.hold.set()
            until(lambda: len(listening.taken) >= 5)
    finally:
        other.stop()


def test_what_is_no_alert_is_passed_over(world, alerts, listening, hook):
    with notifying(world, hook(listening)) as notifier:
        alerts.raw(b"~silence/1", b'{"id": "1"}')
        alerts.raw(b"x", b"{")
        alerts.write(alert(1))
        alerts.raw(alert(1).fingerprint.encode(), None)
        alerts.write(alert(1))
        until(lambda: len(listening.taken) == 2)
        assert figure(notifier, "not_understood_total", receiver="pager") == 1
        until(lambda: figure(notifier, "behind", receiver="pager") == 0)
    assert told(listening) == [(1, "firing"), (1, "firing")]


def test_a_topic_that_is_not_there_is_waited_for_and_named(world, listening, hook):
    topics = Topics(f"absent-{world.prefix}")
    notifier = Notifier(world.connection, topics, [hook(listening)])
    notifier.start()
    try:
        until(lambda: notifier.states["pager"] is CourierState.WAITING)
        assert topics.session_alerts.name in notifier.couriers[0].last_error
        assert figure(notifier, "connected", receiver="pager") == 0
    finally:
        notifier.stop()


def test_receivers_have_names_of_their_own(listening, hook):
    with pytest.raises(InputError, match="twice: pager"):
        Notifier(Connection(), Topics(), [hook(listening), hook(listening)])
    with pytest.raises(InputError, match="name a receiver"):
        Notifier(Connection(), Topics(), [])


def test_compaction_leaves_a_state_alone_for_as_long_as_it_is_attempted():
    assert int(Topics().session_alerts.configs["min.compaction.lag.ms"]) >= GIVE_UP_AFTER


SILENCES = pytest.mark.skipif("silenced_by" not in AlertRecord.__struct_fields__, reason="records do not tell of silences yet")


@SILENCES
def test_what_is_silenced_is_not_told_until_its_silence_ends(world, alerts, listening, hook):
    with notifying(world, hook(listening)) as notifier:
        alerts.write(alert(1, silenced_by=("s-1",)), alert(2, silenced_by=("s-1",)), alert(3))
        alerts.write(alert(1, updated=T + 1), alert(2, state="resolved"), alert(3, updated=T + 1, silenced_by=("s-1",)))
        alerts.write(alert(3, state="resolved", silenced_by=("s-1",)))
        until(lambda: len(listening.taken) == 3)
        until(lambda: committed(world, notifier) == 7)
        assert figure(notifier, "silenced_total", receiver="pager") == 3
    assert told(listening) == [(3, "firing"), (1, "firing"), (3, "resolved")]


LIFE = """
import sys, time
from pathlib import Path
from monitor.broker.connection import Connection
from monitor.notify import Endpoint, Notifier, Webhook
from monitor.wire.topics import Topics
servers, prefix, url, secret = sys.argv[1:]
Notifier(Connection(bootstrap_servers=servers), Topics(prefix), [Webhook("pager", Endpoint(url), Path(secret))]).start()
time.sleep(60)
"""


def test_killed_between_delivery_and_commit_it_tells_again_under_the_same_key(world, alerts, listening, hook, secret_file):
    with notifying(world, hook(listening)):
        alerts.write(alert(1))
        until(lambda: len(listening.taken) == 1)
    listening.hold.clear()
    command = [sys.executable, "-c", LIFE, world.bootstrap_servers, world.prefix, listening.url, str(secret_file)]
    life = subprocess.Popen(command)
    try:
        alerts.write(alert(2), alert(3))
        until(lambda: len(listening.posts) == 2)
    finally:
        life.send_signal(signal.SIGKILL)
        life.wait()
    listening.hold.set()
    with notifying(world, hook(listening)):
        until(lambda: len(listening.posts) == 4)
    assert [int(post.said["fingerprint"], 16) for post in listening.posts] == [1, 2, 2, 3]
    assert listening.posts[1].headers["Idempotency-Key"] == listening.posts[2].headers["Idempotency-Key"] == idempotency_key(alert(2))


@pytest.mark.embedded
@broker_away
def test_a_broker_that_goes_and_comes_back_costs_nobody_an_alert(own_topics, tmp_path, listening, hook):
    with EmbeddedBroker(directory=tmp_path / "broker") as broker:
        world = own_topics(broker)
        listening.hold.clear()
        with notifying(world, hook(listening)) as notifier:
            with closing(Alerts(world)) as alerts:
                alerts.write(alert(1), alert(2))
            until(lambda: len(listening.posts) == 1)
            port = int(world.bootstrap_servers.rpartition(":")[2])
            broker.stop()
            listening.hold.set()  # taken, and now it can't be committed
            until(lambda: notifier.states["pager"] is CourierState.WAITING, 60)
            assert len(listening.posts) == 1
            with EmbeddedBroker(port=port, directory=tmp_path / "broker"):
                until(lambda: len(listening.posts) == 2, 60)
                with closing(Alerts(world)) as alerts:
                    alerts.write(alert(3))
                until(lambda: len(listening.posts) == 3, 60)
                until(lambda: committed(world, notifier) == 3)
    assert told(listening) == [(1, "firing"), (2, "firing"), (3, "firing")]
