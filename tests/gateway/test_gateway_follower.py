"""A view kept up from the embedded broker."""

import threading

import pytest
from kafka import TopicPartition

from monitor.broker.administration import apply_topics
from monitor.broker.connection import Connection
from monitor.broker.embedded import EmbeddedBroker
from monitor.broker.port import LOOPBACK, free_port
from monitor.core.commands import CommandType
from monitor.core.instants import MINUTE
from monitor.gateway import MemoryView
from monitor.gateway.changes import ChangeKind
from monitor.gateway.follower import Follower, FollowerState, present
from monitor.gateway.orders import OrderReader
from monitor.gateway.view import View
from monitor.wire.topics import Topics
from tests.gateway.worlds import Clocks, T, following, monitor, reason, until
from tests.publish.worlds import broker_away

pytestmark = pytest.mark.embedded


@pytest.fixture
def world(embedded, own_topics):
    return own_topics(embedded)


@pytest.fixture
def writer(world):
    with monitor(world) as one:
        yield one


def test_what_stood_there_is_known_when_it_is_ready_and_what_comes_after_soon(world, writer) -> None:
    writer.end(*(f"s-{n}" for n in range(500)))
    writer.end("s-7", epoch=1, type_=CommandType.REINSTATE)
    writer.lock("alice")
    with following(world) as follower:
        assert [reason(follower, name) for name in ("s-0", "s-499", "s-7", "s-500")] == ["idle_timeout", "idle_timeout", "", ""]
        assert reason(follower, "new", subject="alice") == "locked"
        writer.end("s-500")
        until(lambda: reason(follower, "s-500") == "idle_timeout")
        writer.forget("s-500")
        until(lambda: reason(follower, "s-500") == "")


def test_before_it_is_ready_it_admits_nobody(world) -> None:
    follower = Follower(world.connection, world.topics)
    assert reason(follower, "s-1") == "view_stale"
    assert follower.positions.commands == {}


def test_the_twin_has_the_followers_surface() -> None:
    public = {name for name in dir(Follower(Connection(), Topics())) if not name.startswith("_")}
    assert public - {name for name in dir(MemoryView()) if not name.startswith("_")} == {"state", "loading_seconds"}


def test_positions_are_those_of_the_last_records(world, writer) -> None:
    writer.end("s-1", "s-2", "s-3")
    control = writer.lock("alice")
    with following(world) as follower:
        positions = follower.positions
        assert sum(offset + 1 for offset in positions.commands.values()) == 3
        assert positions.control == control
        writer.end("s-4")
        until(lambda: sum(offset + 1 for offset in follower.positions.commands.values()) == 4)


def test_watermarks_make_it_fresh_and_controls_behind_make_it_stale(world, writer) -> None:
    writer.watermarks()
    with following(world) as follower:
        view = follower.view
        # What stood there before is as old as its record, not as new as its reading.
        until(lambda: not view.stale("s-1", present().monotonic, MINUTE))
        writer.watermarks(controls_to=0)
        until(lambda: view.behind)
        assert view.stale("s-1", present().monotonic, MINUTE)
        writer.lock("alice")
        until(lambda: not view.stale("s-1", present().monotonic, MINUTE))


def test_a_watermark_that_stood_there_is_as_old_as_its_record(world, writer) -> None:
    writer.watermarks()
    clocks = Clocks()
    clocks.ahead = 10 * MINUTE
    with following(world, now=clocks) as follower:
        assert follower.view.stale("s-1", clocks().monotonic, MINUTE)
        writer.watermarks()
        until(lambda: not follower.view.stale("s-1", clocks().monotonic, MINUTE))


def test_changes_are_told_once_it_is_ready_and_not_before(world, writer) -> None:
    writer.end("s-1")
    heard = []
    follower = Follower(world.connection, world.topics)
    follower.subscribe(heard.extend)
    follower.start()
    try:
        assert follower.wait_ready(30)
        writer.end("s-2", type_=CommandType.REVOKE)
        writer.lock("alice")
        until(lambda: len(heard) == 2)
        assert {(change.kind, change.session_id) for change in heard} == {(ChangeKind.ENDED, "s-2"), (ChangeKind.CONTROLS, "")}
    finally:
        follower.stop()
        follower.stop()
    assert follower.state is FollowerState.STOPPED


def test_a_topic_that_is_not_there_is_waited_for_and_named(embedded) -> None:
    with following(type("W", (), {"connection": embedded.connection, "topics": Topics("absent-")}), wait=False) as follower:
        until(lambda: follower.state is FollowerState.WAITING)
        assert "absent-session-commands" in follower.last_error
        assert not follower.ready


@broker_away
def test_an_outage_is_survived_and_said_and_what_is_known_stays_in_force(own_topics) -> None:
    port = free_port()
    with EmbeddedBroker(port=port) as broker:
        world = own_topics(broker)
        with monitor(world) as writer, following(world) as follower:
            writer.end("s-1")
            until(lambda: reason(follower, "s-1") == "idle_timeout")
            writer.close()
            broker.stop()
            until(lambda: follower.state is FollowerState.WAITING, 40)
            assert f"{LOOPBACK}:{port}" in follower.last_error
            assert (reason(follower, "s-1"), follower.ready) == ("idle_timeout", True)
            assert follower.view.stale("s-1", present().monotonic + 2 * MINUTE, MINUTE)
            with EmbeddedBroker(port=port) as again:
                # Nothing was kept: the topics are new, empty, and followed all the same.
                apply_topics(again.connection, world.topics, replication=1)
                with monitor(world) as anew:
                    anew.end("s-2")
                until(lambda: reason(follower, "s-2") == "idle_timeout", 40)
                assert (reason(follower, "s-1"), follower.state) == ("idle_timeout", FollowerState.FOLLOWING)


def test_who_was_away_for_half_an_hour_reads_everything_anew_and_decides_by_what_was_known_meanwhile(world, writer) -> None:
    writer.end("s-1")
    clocks, heard = Clocks(), []
    with following(world, now=clocks) as follower:
        before = follower.view
        shared = before.commanded.entry("s-1").shared
        before.commanded.merge("forgotten meanwhile", 0, before.commanded.number(shared), T, T)
        follower.subscribe(heard.extend)
        for ahead, same in ((0, True), (29 * MINUTE, True), (61 * MINUTE, False)):
            follower.stop()
            assert reason(follower, "s-1") == "idle_timeout"
            clocks.ahead = ahead
            follower.start()
            until(lambda: follower.state is FollowerState.FOLLOWING)
            assert (follower.view is before, reason(follower, "forgotten meanwhile") == "idle_timeout") == (same, same)
            assert reason(follower, "s-1") == "idle_timeout"
        assert [change.kind for change in heard] == [ChangeKind.CONTROLS]


def test_a_partition_that_was_out_of_reach_for_too_long_is_reason_to_read_everything_anew(world, writer) -> None:
    writer.end("s-1", "s-2")
    with following(world) as follower:
        before = follower.view
        own = TopicPartition(world.topics.session_commands.name, before.partition_of("s-2"))
        follower._fed_at[own] -= 31 * MINUTE
        writer.end("s-1", epoch=1, type_=CommandType.REINSTATE)
        until(lambda: reason(follower, "s-1") == "")
        assert follower.view is before
        writer.end("s-2", epoch=1, type_=CommandType.REINSTATE)
        until(lambda: reason(follower, "s-2") == "")
        assert follower.view is not before


def test_a_long_silence_of_the_monitor_is_none(world, writer, monkeypatch) -> None:
    monkeypatch.setattr("monitor.gateway.follower._SILENCE", 50)
    with following(world) as follower:
        before, since = follower.view, present().monotonic
        for one in follower._fed_at:
            follower._fed_at[one] -= 31 * MINUTE
        until(lambda: min(follower._fed_at.values()) >= since)
        writer.end("s-1")
        until(lambda: reason(follower, "s-1") == "idle_timeout")
        assert follower.view is before


def test_a_broker_that_never_was_leaves_it_waiting() -> None:
    nowhere = Connection(bootstrap_servers=f"{LOOPBACK}:{free_port()}")
    follower = Follower(nowhere, Topics())
    follower.start()
    try:
        until(lambda: follower.state is FollowerState.WAITING)
        assert "refuses connections" in follower.last_error
        assert reason(follower, "s-1") == "view_stale"
    finally:
        follower.stop()


# --- compaction that works while it loads ---------------------------------------------------------------------


@pytest.fixture
def loadings(monkeypatch) -> list[View]:
    """Each view that was begun."""
    begun: list[View] = []

    class Counted(View):
        def __init__(self, partitions: int, *, loaded: bool = True) -> None:
            super().__init__(partitions, loaded=loaded)
            begun.append(self)

    monkeypatch.setattr("monitor.gateway.follower.View", Counted)
    return begun


@pytest.mark.parametrize("older", [CommandType.REVOKE, CommandType.REINSTATE])
def test_what_was_read_just_before_compaction_removed_it_does_not_stand(world, writer, loadings, monkeypatch, older) -> None:
    of_another_life = writer.command("s-1", 5, older)  # and the tombstone behind it is gone too
    writer.end("s-1", "s-2")
    take = View.take_commands

    def as_it_was(view, partition, records, *rest, **more):
        if len(loadings) == 2 and any(record.key == b"s-1" for record in records):  # the first is none that reads
            order = OrderReader(view.commanded).read(of_another_life.value)
            view.commanded.merge("s-1", *order)
        take(view, partition, records, *rest, **more)

    monkeypatch.setattr(View, "take_commands", as_it_was)
    with following(world) as follower:
        assert [reason(follower, name) for name in ("s-1", "s-2")] == ["idle_timeout", "idle_timeout"]
        assert len(loadings) == 3


def test_a_weaker_command_that_really_stands_there_is_not_read_for_ever(world, writer, loadings) -> None:
    writer.end("s-1", epoch=5, type_=CommandType.REVOKE)
    writer.end("s-1", epoch=4)  # a zombie's
    with following(world) as follower:
        assert reason(follower, "s-1") == "admin_revoked"
        assert len(loadings) == 3


def test_what_is_undoubted_is_read_once(world, writer, loadings) -> None:
    writer.end("s-1", epoch=5, type_=CommandType.REVOKE)
    writer.end("s-1", epoch=4)
    writer.end("s-1", epoch=5, type_=CommandType.REVOKE)  # the owner has put it right
    writer.end("s-2", epoch=5)
    writer.end("s-2", epoch=4)
    writer.forget("s-2")
    with following(world) as follower:
        assert reason(follower, "s-1") == "admin_revoked"
        assert len(loadings) == 2


# --- what is in force ------------------------------------------------------------------------------------------


def total(positions) -> int:
    return sum(offset + 1 for offset in positions.commands.values())


def test_a_position_is_said_only_after_all_have_heard_what_stands_there(world, writer) -> None:
    writer.end("s-0")
    heard, in_force = [], []
    follower = Follower(world.connection, world.topics)
    follower.subscribe(lambda changes: heard.append((changes[0].session_id, total(follower.positions))))
    follower.when_in_force(in_force.append)
    follower.start()
    try:
        assert follower.wait_ready(30)
        assert (total(follower.positions), heard) == (1, [])
        writer.end("s-1")
        until(lambda: len(in_force) == 2)
    finally:
        follower.stop()
    assert heard == [("s-1", 1)]
    assert [total(told.positions) for told in in_force] == [1, 2]


def test_commands_are_counted_by_append_time_but_neither_what_was_loaded_nor_what_is_no_command(world, writer) -> None:
    writer.end("s-0")
    in_force, before = [], present().wall
    with following(world) as follower:
        follower.when_in_force(in_force.append)
        writer.watermarks()
        writer.end("s-1", "s-2")
        writer.forget("s-1")
        until(lambda: total(follower.positions) == 12)
    counted = [pair for told in in_force for pair in told.commands.items()]
    assert sum(times for _, times in counted) == 2
    assert all(before <= appended <= told.now.wall for told in in_force for appended in told.commands)


def test_while_everything_is_read_anew_what_is_in_force_stays_what_it_was(world, writer, monkeypatch) -> None:
    writer.end("s-1")
    clocks, take, going, held = Clocks(), View.take_commands, threading.Event(), threading.Event()
    with following(world, now=clocks) as follower:
        follower.stop()
        writer.end("s-2")

        def held_up(view, *records, **more):
            held.set()
            assert going.wait(30)
            take(view, *records, **more)

        monkeypatch.setattr(View, "take_commands", held_up)
        clocks.ahead = 61 * MINUTE
        follower.start()
        assert held.wait(30)
        assert (total(follower.positions), follower.view is follower._fed) == (1, False)
        going.set()
        until(lambda: total(follower.positions) == 2)
