"""Receipts: what is in force is told and never more, refusals once, and no decision waits for it."""

import threading
from contextlib import contextmanager

import pytest

from monitor.broker.administration import apply_topics
from monitor.broker.embedded import EmbeddedBroker
from monitor.broker.port import free_port
from monitor.core.controls import Target
from monitor.core.errors import AbsenceError
from monitor.gateway import Facts, MemoryView, Now, receipts
from monitor.gateway.enforcer import Enforcer
from monitor.gateway.follower import present
from monitor.gateway.metrics import GatewayMetrics
from monitor.gateway.receipt_log import ReceiptLog
from monitor.gateway.receipts import Receipts
from monitor.gateway.refused_once import RefusedOnce
from monitor.wire.receipts import Applied, Refused, Stopped, decode_receipt
from tests.gateway.worlds import T, following, monitor, until
from tests.kafka.plain import read_all
from tests.publish.worlds import broker_away

NAME = "gateway/eu-1/0"
GONE = Facts("s-1")


class Written:
    """A log in memory: it can be away, and it can hang."""

    def __init__(self) -> None:
        self.rounds: list[list] = []
        self.away = False
        self.going = threading.Event()
        self.going.set()
        self.asked = threading.Event()

    def connect(self) -> "Written":
        if self.away:
            raise AbsenceError("nobody is there")
        return self

    def write(self, told) -> None:
        self.asked.set()
        assert self.going.wait(30)
        if self.away:
            raise AbsenceError("nobody is there any more")
        self.rounds.append(list(told))

    def close(self, timeout: float) -> None:
        pass

    def all(self, kind=object) -> list:
        return [one for told in self.rounds for one in told if isinstance(one, kind)]


class Gateway:
    """A view that is told, decisions by it, and their receipts."""

    def __init__(self) -> None:
        self.view, self.log, self.metrics = MemoryView(), Written(), GatewayMetrics()
        self.view.watermark(T, 0)
        self.now = Now(T, 0)
        self.receipts = Receipts(self.view, NAME, self.log.connect, lambda: self.now, self.metrics)
        self.enforcer = Enforcer(self.view, lambda: self.now, witnesses=[self.receipts], metrics=self.metrics)

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"session_monitor_gateway_{name}_total", labels)

    def applied(self) -> int:
        """The last offset that it has said to be in force; -2: nothing said."""
        told = self.log.all(Applied)
        return told[-1].positions[0] if told else -2


@pytest.fixture
def gateway(monkeypatch):
    monkeypatch.setattr(receipts, "CHANGES", 1)
    monkeypatch.setattr(receipts, "_PAUSES", (1,))
    one = Gateway()
    one.receipts.start()
    yield one
    one.log.going.set()
    one.receipts.stop()


def test_what_comes_into_force_is_told_with_its_age(gateway) -> None:
    gateway.view.expire("s-1", T)
    until(lambda: gateway.applied() == 1)
    told = gateway.log.all(Applied)[-1]
    assert (told.gateway, told.positions, told.control, told.view_age_ms) == (NAME, {0: 1}, -1, 0)
    gateway.view.lock(Target(subject="alice"), T)
    until(lambda: gateway.log.all(Applied)[-1].control == 0)


def test_while_the_log_hangs_only_the_newest_state_waits(gateway) -> None:
    gateway.log.going.clear()
    gateway.view.expire("s-0", T)
    assert gateway.log.asked.wait(30)
    for number in range(100):
        gateway.view.expire(f"s-{number}", T + 1)
    # It is in force since then, however late that is told.
    gateway.now = Now(T + 9000, 9000)
    gateway.log.going.set()
    until(lambda: gateway.applied() == 101)
    assert len(gateway.log.all(Applied)) == 2
    assert gateway.log.all(Applied)[-1].at == T + 1


def test_what_comes_while_the_log_hangs_is_told_before_the_end(gateway) -> None:
    gateway.log.going.clear()
    gateway.view.expire("s-1", T)
    assert gateway.log.asked.wait(30)
    gateway.view.expire("s-2", T)
    ending = threading.Thread(target=gateway.receipts.stop)
    ending.start()
    until(gateway.receipts._stopping.is_set)
    gateway.log.going.set()
    ending.join()
    assert gateway.applied() == 2
    assert isinstance(gateway.log.all()[-1], Stopped)


def test_that_nothing_changed_is_told_all_the_same_and_without_a_view_nothing_is(gateway, monkeypatch) -> None:
    assert gateway.log.rounds == []
    gateway.view.expire("s-1", T)
    until(lambda: gateway.applied() == 1)
    monkeypatch.setattr(receipts, "HEARTBEAT", 1)
    gateway.view.expire("s-2", T)
    gateway.now = Now(T + 5000, 5000)
    until(lambda: len([told for told in gateway.log.all(Applied) if told.positions == {0: 2}]) > 2)
    told = gateway.log.all(Applied)[-1]
    assert (told.at, told.view_age_ms) == (T + 5000, 5000)


def test_a_session_is_told_at_its_first_refusal_by_each_command(gateway) -> None:
    gateway.view.expire("s-1", T)
    command = gateway.view.view.command_id("s-1")
    for _ in range(3):
        assert gateway.enforcer.decide(GONE).status == 401
    gateway.view.revoke("s-1", T)
    gateway.enforcer.decide(GONE)
    until(lambda: len(gateway.log.all(Refused)) == 2)
    assert gateway.log.all(Refused) == [
        Refused(NAME, "s-1", T, 401, command), Refused(NAME, "s-1", T, 401, gateway.view.view.command_id("s-1")),
    ]  # fmt: skip
    assert gateway.count("receipts", type="gateway.refused") == 2


def test_what_no_command_has_ended_is_not_told(gateway) -> None:
    gateway.view.lock(Target(subject="mallory"), T)
    gateway.view.expire("back", T)
    gateway.view.reinstate("back", T + 1, epoch=1)
    assert gateway.enforcer.decide(Facts("new", subject="mallory")).status == 403
    assert gateway.enforcer.decide(Facts("back", subject="mallory")).status == 403
    assert gateway.enforcer.decide(Facts(None)).status == 401
    gateway.enforcer.decide(Facts("fine"))
    # But a session that a command has ended is, whatever else would refuse it.
    gateway.view.expire("s-1", T)
    gateway.enforcer.decide(Facts("s-1", subject="mallory"))
    gateway.receipts.stop()
    assert [(told.session_id, told.status) for told in gateway.log.all(Refused)] == [("s-1", 403)]


def test_streams_that_are_cut_are_told_always(gateway) -> None:
    gateway.view.expire("s-1", T)
    verdict = gateway.enforcer.decide(GONE)
    gateway.receipts.cut("s-1", verdict, 3)
    gateway.receipts.cut("s-2", verdict, 1)
    until(lambda: len(gateway.log.all(Refused)) == 2)
    assert [told.inflight_cut for told in gateway.log.all(Refused)] == [0, 3]


def test_its_last_word_is_that_it_has_stopped(gateway) -> None:
    gateway.view.expire("s-1", T)
    gateway.enforcer.decide(GONE)
    gateway.receipts.stop()
    gateway.receipts.stop()
    assert (gateway.applied(), len(gateway.log.all(Refused))) == (1, 1)
    assert gateway.log.all()[-1] == Stopped(NAME, T)
    assert len(gateway.log.all(Stopped)) == 1


def test_an_outage_of_the_log_loses_no_refusal_and_no_state(gateway) -> None:
    gateway.log.away = True
    for number in range(1, 1203):
        gateway.view.expire(f"s-{number}", T)
        assert not gateway.enforcer.decide(Facts(f"s-{number}")).admitted
    assert gateway.log.rounds == []
    gateway.log.away = False
    until(lambda: gateway.applied() == 1202 and len(gateway.log.all(Refused)) >= 1202)
    assert [told.session_id for told in gateway.log.all(Refused)] == [f"s-{number}" for number in range(1, 1203)]


def test_what_has_no_room_is_counted_and_has_another_chance(gateway, monkeypatch) -> None:
    monkeypatch.setattr(receipts, "ROOM", 2)
    gateway.log.away = True
    for name in ("s-1", "s-2", "s-3"):
        gateway.view.expire(name, T)
        gateway.enforcer.decide(Facts(name))
    assert gateway.count("receipts_lost") == 1
    gateway.log.away = False
    until(lambda: len(gateway.log.all(Refused)) == 2)
    gateway.enforcer.decide(Facts("s-3"))
    until(lambda: [told.session_id for told in gateway.log.all(Refused)] == ["s-1", "s-2", "s-3"])


def test_a_log_that_fails_in_a_way_of_its_own_is_tried_again(gateway, caplog) -> None:
    failing = [ValueError("odd"), OSError("odder")]

    def connect():
        if failing:
            raise failing.pop()
        return gateway.log

    gateway.receipts.stop()
    caplog.clear()
    gateway.receipts._connect = connect
    gateway.receipts.start()
    gateway.view.expire("s-1", T)
    until(lambda: gateway.applied() == 1)
    assert [record.msg for record in caplog.records].count("gateway_receipts_failed") == 2


def test_what_was_refused_once_is_remembered_within_bounds() -> None:
    once = RefusedOnce(most=2)
    told = [("a", 1), ("a", 1), ("b", 1), ("a", 2), ("c", 1), ("b", 1), ("a", 2), ("c", 1)]
    assert [once.first(*one) for one in told] == [True, False, True, True, True, True, True, True]
    assert len(once._told) == 2


def test_the_time_to_enforce_is_counted_by_command(gateway) -> None:
    metrics = gateway.metrics
    gateway.view.when_in_force(metrics.in_force)
    gateway.view.expire("s-1", T)
    gateway.view.watermark(T + 1, 1)
    name = "session_monitor_gateway_time_to_enforce_seconds"
    assert metrics.registry.get_sample_value(f"{name}_count") == 1
    assert metrics.registry.get_sample_value(f"{name}_bucket", {"le": "0.005"}) == 1


# --- on a broker -------------------------------------------------------------------------------------------------


@pytest.fixture
def world(embedded, own_topics):
    return own_topics(embedded)


def stored(world) -> list:
    return [decode_receipt(record.value) for record in read_all(world.bootstrap_servers, world.topics.enforcement_receipts.name)]


@contextmanager
def receipting(world, follower):
    """Receipts of a follower's, and an enforcer that they witness."""
    metrics = GatewayMetrics()
    told = Receipts(follower, NAME, lambda: ReceiptLog(world.connection, world.topics.enforcement_receipts.name), present, metrics)
    told.start()
    try:
        yield Enforcer(follower, present, witnesses=[told], metrics=metrics)
    finally:
        told.stop(20)


def covered(world, follower) -> bool:
    applied = [told for told in stored(world) if isinstance(told, Applied)]
    return bool(applied) and (applied[-1].positions, applied[-1].control) == (follower.positions.commands, follower.positions.control)


@pytest.mark.embedded
def test_on_the_topic_stands_what_is_in_force_who_was_refused_and_the_end(world) -> None:
    with monitor(world) as writer, following(world, wait=False) as follower:
        with receipting(world, follower) as enforcer:
            writer.watermarks()
            writer.lock("alice")
            writer.end("s-1", "s-2")
            until(lambda: sum(n + 1 for n in follower.positions.commands.values()) == 10 and covered(world, follower))
            assert enforcer.decide(Facts("s-1")).status == 401
            assert enforcer.decide(Facts("s-1")).status == 401
        told = stored(world)
    assert {one.gateway for one in told} == {NAME}
    assert isinstance(told[-1], Stopped)
    (refused,) = [one for one in told if isinstance(one, Refused)]
    assert (refused.session_id, refused.command_id) == ("s-1", follower.view.command_id("s-1"))
    (record, *_) = read_all(world.bootstrap_servers, world.topics.enforcement_receipts.name)
    assert record.key == NAME.encode()


@broker_away
@pytest.mark.slow
@pytest.mark.embedded
def test_an_outage_of_the_broker_is_survived(own_topics) -> None:
    # The view is told: the embedded broker would make the topics of whoever follows, with one partition, as soon as it is back.
    view, port = MemoryView(), free_port()
    view.watermark(T, 0)
    with EmbeddedBroker(port=port) as broker:
        world = own_topics(broker)
        with receipting(world, view) as enforcer:
            view.expire("s-1", T)
            until(lambda: covered(world, view))
            broker.stop()
            assert not enforcer.decide(Facts("s-1")).admitted
            view.expire("s-2", T)
            with EmbeddedBroker(port=port) as again:
                apply_topics(again.connection, world.topics, replication=1)
                until(lambda: any(isinstance(told, Refused) for told in stored(world)) and covered(world, view), 60)
                view.expire("s-3", T)
                until(lambda: covered(world, view), 60)


@pytest.mark.embedded
def test_a_topic_that_is_not_there_is_named(embedded) -> None:
    with pytest.raises(AbsenceError, match="'absent-enforcement-receipts' isn't there"):
        ReceiptLog(embedded.connection, "absent-enforcement-receipts")
