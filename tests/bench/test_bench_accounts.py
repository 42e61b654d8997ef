"""What recoveries, revocations and failovers are told by: counts, commands, watermarks."""

import pytest

from monitor.bench.failover import owners
from monitor.bench.generator import fresh
from monitor.bench.observer import Mark, Sighting
from monitor.bench.recovery import counted
from monitor.bench.revoke import account
from monitor.core.errors import AbsenceError
from monitor.wire.commands import CommandRecord, Watermark
from monitor.wire.partitioner import partition_for
from monitor.wire.times import Instant


def revoked(session: int, at: float) -> Sighting:
    return Sighting(session % 2, at, int(at), CommandRecord("session.revoke", f"s-{session:08x}", reason="admin_revoked"))


def answer(partition: int, at: float, log_time: int) -> Sighting:
    command = CommandRecord("session.expire", f"closed-{at}", reason="closed", log_time=Instant(log_time))
    return Sighting(partition, at, int(at), command)


ANSWERS = [answer(partition, float(at), at - 10) for partition in (0, 1) for at in range(0, 4000, 50)]


def test_a_steady_stream_has_no_stall_and_the_last_session_counts() -> None:
    found = account([*ANSWERS, revoked(0, 1200.0), revoked(1, 1700.0)], 2, 1000.0, 0.0, 2)
    assert (found.sessions, found.all_visible, found.longest_stall, found.usual_stall) == (2, 700.0, 50.0, 50.0)
    assert found.worst_answer == 10.0


def test_the_stall_of_one_partition_is_not_hidden_by_another() -> None:
    seen = [one for one in ANSWERS if not (one.partition == 1 and 1100 < one.at < 1500)]
    found = account([*seen, answer(1, 1500.0, 1110), revoked(0, 1200.0), revoked(1, 1700.0)], 2, 1000.0, 0.0, 2)
    assert (found.longest_stall, found.usual_stall, found.worst_answer) == (400.0, 50.0, 390.0)


def test_a_second_command_for_a_session_is_no_later_end() -> None:
    found = account([*ANSWERS, revoked(0, 1200.0), revoked(1, 1300.0), revoked(0, 3000.0)], 2, 1000.0, 0.0, 2)
    assert found.all_visible == 300.0


def test_closed_sessions_that_are_revoked_too_are_not_those_counted() -> None:
    other = Sighting(0, 3500.0, 3500, CommandRecord("session.revoke", "closed-1", reason="admin_revoked"))
    assert account([*ANSWERS, revoked(0, 1200.0), revoked(1, 1300.0), other], 2, 1000.0, 0.0, 2).all_visible == 300.0


def test_a_session_without_its_command_is_no_figure() -> None:
    with pytest.raises(AbsenceError, match="1 of 2 sessions"):
        account([*ANSWERS, revoked(0, 1200.0)], 2, 1000.0, 0.0, 2)


def test_a_partition_without_answers_is_no_figure() -> None:
    with pytest.raises(AbsenceError, match=r"partitions \[2\]"):
        account([*ANSWERS, revoked(0, 1200.0)], 1, 1000.0, 0.0, 3)


def test_sessions_are_counted_over_partitions_and_states() -> None:
    page = """# HELP session_monitor_sessions Sessions held in memory, by state.
# TYPE session_monitor_sessions gauge
session_monitor_sessions{partition="0",state="live"} 125000.0
session_monitor_sessions{partition="0",state="expired"} 3.0
session_monitor_sessions{partition="1",state="live"} 1.25e+05
session_monitor_checkpointed_sessions_total 99.0
"""
    assert counted(page) == 250_003
    assert counted("") == 0


def test_the_last_watermark_says_who_owns_a_partition() -> None:
    said = [(0, "doomed"), (1, "doomed"), (1, "heir"), (2, None)]
    marks = [Mark(1.0, Watermark(number, Instant(0), Instant(0), -1, Instant(0), owner)) for number, owner in said]
    assert owners(marks) == {0: "doomed", 1: "heir", 2: ""}


def test_fresh_sessions_go_to_the_loud_partitions_by_turns() -> None:
    loud = [0, 1, 2, 3, 4, 5, 6]
    found = [fresh("brief", number, 8, loud) for number in range(70)]
    assert len({session_id for session_id, _ in found}) == 70
    assert [partition for _, partition in found] == [number % 7 for number in range(70)]
    assert all(partition_for(session_id.encode(), 8) == partition for session_id, partition in found)
