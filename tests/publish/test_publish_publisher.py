"""The publisher on a real broker: where records land, in what order, and how it ends."""

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict

import pytest
from kafka.admin import KafkaAdminClient

from monitor.broker.apache import ApacheKafka
from monitor.broker.embedded import EmbeddedBroker
from monitor.broker.port import free_port
from monitor.core.errors import AbsenceError, InputError
from monitor.publish import BufferFull, DeliveryError, Publisher, PublisherClosed
from monitor.wire.events import decode_record
from monitor.wire.partitioner import partition_for
from tests.publish.worlds import Log, broker_away, make_topic


def test_every_event_stands_on_its_sessions_partition_under_its_key(log):
    with Publisher(**log.settings(source="gw")) as publisher:
        publisher.opened("s-1", subject="alice", roles=["analyst"])
        publisher.activity("s-1", kind="agent")
        publisher.reauthenticated("s-1", auth_time=1_795_500_000)
        publisher.closed("s-1")
        for number in range(200):
            publisher.opened(f"s-ünïcode-{number}")
    assert publisher.published == 204
    assert (publisher.failed, publisher.buffered) == (0, 0)
    records = log.records()
    assert len(records) == 204
    assert all(record.partition == partition_for(record.key, 8) for record in records)
    assert {record.partition for record in records} == set(range(8))
    mine = [decode_record(r.value, r.headers, r.key, r.timestamp) for r in records if r.key == b"s-1"]
    assert [event.type for event in mine] == [
        "session.opened", "session.activity", "session.reauthenticated", "session.closed",
    ]  # fmt: skip
    assert {event.source for event in mine} == {"gw"}


def test_the_producer_is_idempotent_and_waits_for_all_replicas(log):
    with Publisher(**log.settings()) as publisher:
        config = publisher._outbox._producer._kafka.config
        assert config["enable_idempotence"] is True
        assert config["acks"] == -1
        assert config["allow_auto_create_topics"] is False


def test_the_last_activity_of_a_burst_is_never_lost(log):
    with Publisher(**log.settings(granularity=200)) as publisher:
        for number in range(50):
            publisher.activity("s", id=str(number))
        deadline = time.monotonic() + 10
        while publisher.published < 2:  # the window's end sends it, nobody flushes
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
    assert [event.id for event in log.events()] == ["0", "49"]
    assert publisher.coalesced == 48


def test_threads_share_one_and_each_sessions_order_holds(log):
    def run(name):
        for number in range(300):
            publisher.activity(name, id=f"{number:03d}", classification=str(number))

    with Publisher(**log.settings(buffer_limit=50)) as publisher:
        threads = [threading.Thread(target=run, args=(f"t{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ids = defaultdict(list)
    for event in log.events():
        ids[event.session_id].append(event.id)
    assert ids == {f"t{n}": [f"{number:03d}" for number in range(300)] for n in range(4)}


def test_announcing_reaches_every_partition_and_ends_with_a_final(log):
    with Publisher(**log.settings(source="gw", announce=True)) as publisher:
        publisher.activity("s")
        publisher.activity("s")
    ends = defaultdict(list)
    for record in log.records():
        ends[record.partition].append(
            decode_record(record.value, record.headers, record.key, record.timestamp)
        )
    assert set(ends) == set(range(8))
    for said in ends.values():
        assert said[-1].final
        assert said[-1].source == "gw"
    mine = ends[partition_for(b"s", 8)]
    assert all(event.time <= mine[-1].time for event in mine)


def test_who_has_events_of_its_own_promises_no_more_than_it_says(log):
    with Publisher(**log.settings(source="gw")) as publisher:
        publisher.alive(until=1_795_500_000_000)
        publisher.alive(until=1 << 42)
    times = {event.time for event in log.events()}
    assert "2026-11-24T06:00:00.000Z" in times
    assert len(times) == 2
    assert all(time < "2100" for time in times)


def test_cloudevents_headers_read_back(log):
    with Publisher(**log.settings(source="gw", cloudevents=True)) as publisher:
        publisher.opened("s", subject="alice", id="e-1")
    (record,) = log.records()
    headers = dict(record.headers)
    assert headers["ce_specversion"] == b"1.0"
    assert (headers["ce_id"], headers["ce_type"], headers["ce_source"]) == (b"e-1", b"session.opened", b"gw")
    assert decode_record(record.value, record.headers, record.key, record.timestamp).subject == "alice"


def test_a_ready_record_is_sent_as_it_is(log):
    with Publisher(**log.settings()) as publisher:
        publisher.record("s", b'{ "type":"session.opened","session_id":"s" }')
        with pytest.raises(InputError, match="65536 are allowed"):
            publisher.record("s", b"x" * 65537)
    assert [record.value for record in log.records()] == [b'{ "type":"session.opened","session_id":"s" }']


def test_bad_input_leaves_nothing_behind(log):
    with Publisher(**log.settings()) as publisher:
        for bad in (
            lambda: publisher.opened("~s"),
            lambda: publisher.activity("s", kind="x"),
            lambda: publisher.closed("s", nope=1),
        ):
            with pytest.raises(InputError):
                bad()
        assert publisher.buffered == 0
    assert log.records() == []


def test_nothing_is_taken_after_close_and_close_can_be_repeated(log):
    publisher = Publisher(**log.settings())
    publisher.close()
    publisher.close()
    for call in (lambda: publisher.opened("s"), lambda: Publisher.alive(publisher), publisher.closed):
        with pytest.raises((PublisherClosed, InputError, TypeError)):
            call()


def test_no_thread_outlives_close(log):
    before = set(threading.enumerate())
    with Publisher(**log.settings(source="gw", announce=True)) as publisher:
        publisher.activity("s")
    assert set(threading.enumerate()) <= before


@broker_away
def test_no_broker_there_is_an_answer_to_act_on():
    before = set(threading.enumerate())
    with pytest.raises(AbsenceError, match=r"no broker answers at .*check the address"):
        Publisher(bootstrap_servers=f"127.0.0.1:{free_port()}", connect_timeout=0.5)
    assert set(threading.enumerate()) <= before


def test_a_missing_topic_is_told_and_not_made(broker):
    with pytest.raises(AbsenceError, match=r"'nowhere-access-events' isn't there .*topics apply"):
        Publisher(bootstrap_servers=broker, topic_prefix="nowhere-", connect_timeout=1)
    admin = KafkaAdminClient(bootstrap_servers=broker)
    assert "nowhere-access-events" not in admin.list_topics()
    admin.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "either a connection or bootstrap_servers"),
        ({"announce": True}, "announce needs a source"),
        ({"cloudevents": True}, "a CloudEvent needs a source"),
        ({"source": ""}, "source is empty"),
        ({"on_full": "drop"}, "allowed are block, raise"),
        ({"buffer_limit": 0}, "buffer_limit is 0"),
        ({"granularity": -1}, "granularity is -1"),
        ({"delivery_timeout": 5}, "delivery_timeout is 5"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_opened(settings, said):
    servers = {} if not settings else {"bootstrap_servers": "127.0.0.1:1"}
    with pytest.raises(InputError, match=said):
        Publisher(**servers, **settings)


def test_a_connection_gives_the_settings(log):
    class Connection:
        def kafka_python(self):
            return {"bootstrap_servers": log.address, "client_id": "mine"}

    with Publisher(Connection(), topic_prefix=log.prefix) as publisher:
        publisher.opened("s")
        assert publisher._outbox._producer._kafka.config["client_id"] == "mine"
    assert len(log.records()) == 1


@pytest.mark.embedded
@broker_away
def test_a_broker_that_went_away_fills_the_buffer_and_losses_are_loud():
    failures = []
    before = set(threading.enumerate())
    with EmbeddedBroker() as broker:
        make_topic(broker.bootstrap_servers, "access-events")
        publisher = Publisher(
            broker.connection, buffer_limit=3, on_full="raise", on_error=failures.append, granularity=0
        )
        publisher.opened("s")
        publisher.flush()
        broker.kill()
        for _ in range(3):
            publisher.activity("s")
        with pytest.raises(BufferFull, match="3 events wait"):
            publisher.activity("s")
        with pytest.raises(DeliveryError, match="not acknowledged by the broker in the time given") as caught:
            publisher.flush(0.1)
        assert caught.value.failures == ()
        started = time.monotonic()
        with pytest.raises(DeliveryError, match=r"3 event.s. were not delivered"):
            publisher.close(1)
        assert time.monotonic() - started < 10
    assert (publisher.published, publisher.failed, publisher.buffered) == (1, 3, 0)
    assert [failure.session_id for failure in failures] == ["s"] * 3
    assert set(threading.enumerate()) <= before


@pytest.mark.embedded
@broker_away
def test_what_the_broker_does_not_take_in_time_is_lost_loudly():
    failures = []
    with EmbeddedBroker() as broker:
        make_topic(broker.bootstrap_servers, "access-events")
        with Publisher(broker.connection, on_error=failures.append, delivery_timeout=1500) as publisher:
            publisher.opened("s")
            publisher.flush()
            broker.kill()
            publisher.opened("t", id="e-1")
            with pytest.raises(DeliveryError, match=r"1 event.s. were not delivered .*'t'"):
                publisher.flush(20)
    assert [(failure.session_id, failure.id) for failure in failures] == [("t", "e-1")]


@pytest.mark.kafka
@pytest.mark.slow
@broker_away
def test_a_broker_that_comes_back_gets_everything_once():
    with ApacheKafka(heap="512m") as broker:
        log = Log(broker.bootstrap_servers)
        publisher = Publisher(**log.settings(granularity=0))
        publisher.opened("s", id="0")
        publisher.flush()
        broker.kill()
        for number in range(1, 20):
            publisher.activity("s", id=str(number))
        broker.restart()
        publisher.close(60)
        assert (publisher.published, publisher.failed) == (20, 0)
        assert [event.id for event in log.events()] == [str(number) for number in range(20)]


FORGETFUL = """
import sys
from monitor.publish import Publisher
publisher = Publisher(bootstrap_servers=sys.argv[1], topic_prefix=sys.argv[2])
publisher.activity("s", id="first")
publisher.activity("s", id="last")
"""


def test_an_interpreter_that_ends_without_close_still_sends_what_is_held(log):
    subprocess.run([sys.executable, "-c", FORGETFUL, log.address, log.prefix], check=True, timeout=60)
    assert [event.id for event in log.events()] == ["first", "last"]


def test_a_forked_child_is_told_to_make_its_own(log):
    with Publisher(**log.settings()) as publisher:
        mine = publisher._process
        publisher._process = os.getpid() + 1  # as a child sees it
        with pytest.raises(PublisherClosed, match="fork"):
            publisher.opened("s")
        publisher._process = mine
