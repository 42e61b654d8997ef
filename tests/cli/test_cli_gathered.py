"""What the live view gathers: sessions from the API, ended by commands, and figures over a window."""

import msgspec
import pytest

from monitor.cli.gathered import KEPT, SHOWN_AFTER_END, WINDOW, Gathered, Rate
from monitor.core.commands import Command, CommandType, Reauth
from monitor.core.instants import SECOND
from monitor.core.reasons import Reason
from monitor.observe.views import LimitView, PartitionView, SessionRow
from monitor.wire.commands import encode_command, encode_watermark
from monitor.wire.times import Instant

NOW = 1_795_500_000_123


@pytest.fixture
def gathered():
    return Gathered(2, NOW)


def live(session_id="s-1", epoch=0):
    at, limit = Instant(NOW), LimitView("defaults", 8000, Instant(NOW + 8000))
    return SessionRow(session_id, 0, "live", epoch, at, at, at, at, limit, limit)


def command(session_id="s-1", type_=CommandType.EXPIRE, epoch=0, at=NOW):
    made = Command(
        type_, session_id, epoch, Reason.IDLE_TIMEOUT, at, at, 8000, "defaults", "v1", "alice", "internal",
        Reauth(allowed=True), NOW, 0, 7, NOW, NOW,
    )  # fmt: skip
    record = encode_command(made, NOW)
    return record.key, record.value


def mark(partition, api):
    record = encode_watermark(partition, NOW, NOW, -1, NOW, owner="w", api=api)
    return record.key, record.value


def shown(gathered, now=NOW):
    return {row.session_id: (row.state, row.epoch) for row in gathered.picture(now).sessions}


def test_a_command_is_told_and_kept(gathered):
    told = gathered.record(*command())
    assert (told.type, told.session_id, told.reason) == ("session.expire", "s-1", "idle_timeout")
    assert gathered.picture(NOW).commands == (told,)


def test_watermarks_name_the_apis_and_are_no_commands(gathered):
    assert gathered.record(*mark(0, "http://127.0.0.1:2")) is None
    gathered.record(*mark(1, "http://127.0.0.1:1"))
    gathered.record(*mark(0, "http://127.0.0.1:1"))
    assert gathered.apis == ["http://127.0.0.1:1"]
    assert gathered.picture(NOW).commands == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"s-1", None), (None, b"{}"), (b"s-1", b"not json"), (b"\xff", b"{}"), (b"~future/1", b"{}"), (b"~watermark/0", b"{}")],
)
def test_tombstones_and_what_is_not_understood_are_passed_over(gathered, key, value):
    assert gathered.record(key, value) is None
    assert gathered.picture(NOW).commands == ()


def test_a_session_that_a_command_ends_is_shown_with_its_end_for_a_while(gathered):
    gathered.sessions([live("s-1"), live("s-2")], 2, 0)
    gathered.record(*command("s-1"))
    assert shown(gathered) == {"s-1": ("expired", 0), "s-2": ("live", 0)}
    row = next(row for row in gathered.picture(NOW).sessions if row.end)
    assert (row.end.reason, row.end.rule, row.end.effective_at) == ("idle_timeout", "defaults", NOW)
    assert shown(gathered, NOW + SHOWN_AFTER_END) == {"s-1": ("expired", 0), "s-2": ("live", 0)}
    assert shown(gathered, NOW + SHOWN_AFTER_END + 1) == {"s-2": ("live", 0)}


def test_a_list_older_than_the_command_brings_nothing_back_to_life(gathered):
    gathered.sessions([live()], 1, 0)
    gathered.record(*command())
    gathered.sessions([live()], 1, 0)
    assert shown(gathered) == {"s-1": ("expired", 0)}
    gathered.sessions([live(epoch=1)], 1, 0)
    assert shown(gathered) == {"s-1": ("live", 1)}


def test_a_reinstated_session_is_no_longer_shown_as_ended(gathered):
    gathered.sessions([live()], 1, 0)
    gathered.record(*command())
    gathered.record(*command(type_=CommandType.REINSTATE, epoch=1))
    assert shown(gathered) == {}


def test_a_revocation_after_an_expiry_is_what_is_shown(gathered):
    gathered.sessions([live()], 1, 0)
    gathered.record(*command())
    gathered.record(*command(type_=CommandType.REVOKE))
    assert shown(gathered) == {"s-1": ("revoked", 0)}


def test_a_warning_ends_nothing(gathered):
    gathered.sessions([live()], 1, 0)
    gathered.record(*command(type_=CommandType.WARN))
    assert shown(gathered) == {"s-1": ("live", 0)}


def test_a_command_for_another_epoch_leaves_the_later_one(gathered):
    gathered.sessions([live(epoch=2)], 1, 0)
    gathered.record(*command(epoch=1))
    assert shown(gathered) == {"s-1": ("live", 2)}


def test_memory_is_bounded(gathered):
    for number in range(KEPT + 50):
        gathered.record(*command(f"s-{number}"))
    assert len(gathered.picture(NOW).commands) == KEPT
    assert shown(gathered) == {}


def test_it_is_complete_when_every_partition_has_an_owner(gathered):
    view = PartitionView(0, "w", 5, 4, 9, 4, 0, paused=False, sessions=1, timers=1, controls_to=0, swept=True, policy="v", behind_ms=120)
    other = msgspec.structs.replace(view, partition=1, lag_records=1, behind_ms=None)
    gathered.partitions([view])
    assert not gathered.complete
    gathered.partitions([view, other])
    assert gathered.complete
    picture = gathered.picture(NOW)
    assert (picture.owned, picture.partitions, picture.lag_records, picture.lag_ms) == (2, 2, 5, 120)


def test_a_rate_is_over_the_window_and_starts_anew_when_the_total_falls():
    rate = Rate()
    assert rate.per_second == 0
    for second in range(20):
        rate.take(second * SECOND, 10 * second if second < 10 else 90 + 2 * (second - 9))
    assert rate.per_second == pytest.approx(2)
    assert WINDOW == 5 * SECOND
    rate.take(20 * SECOND, 1)
    assert rate.per_second == 0
    rate.take(21 * SECOND, 4)
    assert rate.per_second == 3
