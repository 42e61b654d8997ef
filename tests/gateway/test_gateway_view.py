"""What a view makes of the records it reads: also of those it can't read."""

import msgspec
import pytest

from monitor.core.commands import Command, CommandType, Reauth
from monitor.core.controls import Control, ControlType, Target
from monitor.core.instants import NEVER
from monitor.core.reasons import Reason
from monitor.gateway import Facts, MemoryView, Now, Posture, View, check
from monitor.gateway.changes import Change, ChangeKind
from monitor.gateway.commanded import Commanded
from monitor.gateway.orders import OrderReader
from monitor.gateway.verdict import ADMITTED
from monitor.wire.commands import WARNING_PREFIX, decode_command, encode_command, encode_watermark
from monitor.wire.controls import encode_control
from tests.data.bad_records import bad_records
from tests.gateway.streams import Stored

T = 1_795_500_000_000
NOW = Now(T, 0)
AGAIN = {"auth_time": T + 1, "posture": Posture.BEST_EFFORT}


def command(type_: CommandType, at: int = T, **members) -> Command:
    return msgspec.structs.replace(
        Command(
            type=type_, session_id="s-1", epoch=0, reason=Reason.IDLE_TIMEOUT, effective_at=at, cutoff=at, limit_ms=1, rule="r",
            policy="p", subject=None, classification=None, reauth=Reauth(allowed=True, max_age=9, acr_values=("aal2",)),
            forget_after=at, partition=0, offset=0, log_time=at, due=at,
        ), **members,
    )  # fmt: skip


def take(view: View, *values: bytes | None, key: bytes = b"s-1", partition: int = 0) -> list[Change]:
    changes: list[Change] = []
    at = view.positions[partition] + 1
    view.take_commands(partition, [Stored(at + n, 0, key, value) for n, value in enumerate(values)], NOW, changes)
    return changes


def reason(view: View, session_id: str = "s-1", **facts) -> str:
    return check(view, Facts(session_id=session_id, **(AGAIN | facts)), NOW).reason


@pytest.mark.parametrize("type_", [CommandType.EXPIRE, CommandType.REVOKE, CommandType.REINSTATE])
def test_an_order_says_what_the_whole_command_says(type_) -> None:
    made = command(type_, cutoff=T - 5, epoch=7, control_id="c-1")
    whole = decode_command(encode_command(made, T).value)
    commanded = Commanded()
    commanded.merge("s-1", *OrderReader(commanded).read(encode_command(made, T).value))
    entry = commanded.entry("s-1")
    assert (entry.epoch, entry.effective_at, entry.cutoff) == (whole.epoch, whole.effective_at, whole.cutoff)
    assert (entry.shared.reason, entry.shared.rule, entry.shared.reauth) == (whole.reason, whole.rule, whole.reauth)
    assert commanded.command_id("s-1") == (None if type_ is CommandType.REINSTATE else made.id)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"type": 5}', b"\xff", b'{"type": "session.pause"}', b'{"type":"session.expire"}',
    b'{"type":"session.pause","epoch":-3}',
    b'{"type":"session.expire","epoch":-3,"reason":"closed","effective_at":"2026-11-23T07:24:00.123Z","cutoff":"2026-11-23T07:24:00.123Z"}'])
def test_an_order_that_is_not_understood_refuses_its_session_and_no_other(value) -> None:
    view = View(1)
    take(view, value)
    assert (reason(view), reason(view, "s-2"), view.not_understood) == ("command_unknown", "", 1)
    take(view, encode_command(command(CommandType.REINSTATE, epoch=9), T).value)
    assert reason(view) == "command_unknown"
    take(view, None)
    assert reason(view) == ""


def test_a_type_of_the_future_that_says_its_epoch_is_lifted_by_a_later_one() -> None:
    view = View(1)
    take(view, b'{"type":"session.pause","session_id":"s-1","epoch":2,"cutoff":[1]}')
    take(view, encode_command(command(CommandType.REINSTATE, epoch=2), T).value)
    assert reason(view) == "command_unknown"
    take(view, encode_command(command(CommandType.REINSTATE, epoch=3), T).value)
    assert reason(view) == ""


def test_a_reason_of_the_future_is_shown_as_it_is() -> None:
    view = View(1)
    take(view, encode_command(command(CommandType.EXPIRE), T).value.replace(b"idle_timeout", b"by_dice"))
    verdict = check(view, Facts(session_id="s-1"), NOW)
    assert (verdict.reason, verdict.status, view.commanded.command_id("s-1")) == ("by_dice", 401, None)


def test_keys_of_the_future_and_keys_that_are_no_text_are_passed_over() -> None:
    view = View(1)
    take(view, b"{}", key=b"~new/s-1")
    take(view, b"{}", key=b"\xff\xfe")
    take(view, b"not json", key=b"~watermark/0")
    take(view, b"not json", key=b"~warn/s-1")
    assert (view.refused, len(view.commanded), view.positions) == (3, 0, [3])


@pytest.mark.parametrize("value", [case.value for case in bad_records()], ids=[case.name for case in bad_records()])
def test_whatever_the_bytes_a_view_goes_on(value) -> None:
    view = View(1)
    for key in (b"s-1", b"~watermark/0", b"~warn/s-1", b"~", b""):
        take(view, value, key=key)
    view.take_controls([Stored(0, T, b"k", value)])
    assert (view.positions, view.control) == ([4], 0)


def test_a_watermark_of_another_partition_is_not_this_ones() -> None:
    view, mark = View(2), encode_watermark(1, T, T, -1, T)
    take(view, mark.value, key=mark.key)
    assert (view.oldest, view.log_time(None)) == (-NEVER, -1)
    take(view, mark.value, key=mark.key, partition=1)
    assert [view.age(partition, 5) > NEVER for partition in (0, 1)] == [True, False]


def test_controls_that_are_read_again_change_nothing_unless_the_log_starts_over() -> None:
    told = MemoryView()
    told.lock(Target(subject="alice"), T)
    told.unlock(T)
    control = Control(0, T, ControlType.LOCK, "lock-1", Target(subject="alice"), "r", "b")
    again = Stored(0, T, b"lock-1", encode_control(control, T).value)
    told.view.take_controls([again])
    assert reason(told.view, subject="alice") == ""
    told.view.start_controls_over()
    told.view.take_controls([again])
    assert (reason(told.view, subject="alice"), told.view.control) == ("locked", 0)


def test_warnings_are_passed_on_and_kept_nowhere() -> None:
    view, key = View(1), f"{WARNING_PREFIX}s-1".encode()
    warning = encode_command(command(CommandType.WARN, lead_ms=1000), T).value
    assert take(view, warning, key=key) == [Change(ChangeKind.WARNED, "s-1", "idle_timeout", T)]
    assert (len(view.commanded), reason(view)) == (0, "")
    take(view, encode_command(command(CommandType.EXPIRE), T).value)
    assert take(view, warning, key=key) == []
    later = encode_command(command(CommandType.WARN, epoch=1, lead_ms=1000), T).value
    assert [change.kind for change in take(view, later, key=key)] == [ChangeKind.WARNED]
    told = MemoryView()
    told.watermark(T, 0)
    assert take(told.view, warning, key=key) == []


def test_changes_are_told_in_order_and_only_what_changed() -> None:
    told, heard = MemoryView(), []
    told.subscribe(heard.extend)
    told.expire("s-1", T)
    told.expire("s-1", T)
    told.reinstate("s-1", T, epoch=1)
    told.revoke("s-1", T, epoch=1)
    told.forget("s-1")
    told.forget("s-1")
    told.lock(Target(subject="alice"), T)
    told.rule("version: 1\n")
    assert [change.kind.value for change in heard] == ["ended", "reinstated", "ended", "forgotten", "controls", "policy"]
    assert heard[2] == Change(ChangeKind.ENDED, "s-1", "admin_revoked", T)


def test_a_control_that_is_taken_back_or_can_not_be_read_stands_no_longer() -> None:
    told = MemoryView()
    told.lock(Target(subject="alice"), T)
    view = told.view
    view.take_controls([Stored(1, T, b"x", b'{"type":"control.lock","id":"x","reason":"r","by":"b","target":{"planet":"mars"}}')])
    view.take_controls([Stored(2, T, b"policy", b'{"type":"control.policy","id":"policy","reason":"r","by":"b","policy_text":"{","policy_version":"1"}')])
    assert (view.refused, view.control, view.policy) == (2, 2, None)
    assert "session-control@2" in view.last_refused
    assert reason(view, subject="alice") == "locked"
    view.take_controls([Stored(3, T, b"lock-1", None)])
    assert reason(view, subject="alice") == ""


def test_what_is_read_again_changes_nothing_unless_the_log_starts_over() -> None:
    view = View(1)
    ended = encode_command(command(CommandType.EXPIRE), T).value
    view.take_commands(0, [Stored(4, 0, b"s-1", None), Stored(9, 0, b"s-1", ended)], NOW)
    view.take_commands(0, [Stored(4, 0, b"s-1", None)], NOW)
    assert reason(view, acr=None) == "idle_timeout"
    view.start_over(0)
    view.take_commands(0, [Stored(0, 0, b"s-2", ended), Stored(4, 0, b"s-1", None)], NOW)
    assert (reason(view, acr=None), reason(view, "s-2", acr=None), view.positions) == ("idle_timeout", "idle_timeout", [4])
    view.take_commands(0, [Stored(10, 0, b"s-1", None)], NOW)
    assert reason(view, acr=None) == ""


def test_positions_pass_the_holes_that_compaction_leaves_but_never_go_back() -> None:
    view = View(2)
    view.read_to(1, 41)
    view.read_to(1, 7)
    view.control_read_to(3)
    view.control_read_to(2)
    assert (view.positions, view.control, view.applied.commands) == ([-1, 41], 3, {0: -1, 1: 41})


def test_a_view_that_is_not_loaded_admits_nobody_whatever_its_posture_and_its_watermarks() -> None:
    view = View(1, loaded=False)
    mark = encode_watermark(0, T, T, -1, T)
    take(view, mark.value, key=b"~watermark/0")
    facts = Facts(session_id="s-1", posture=Posture.BEST_EFFORT)
    verdict = check(view, facts, NOW)
    assert (verdict.reason, verdict.status, view.applied.commands) == ("view_stale", 503, {})
    view.finish_loading()
    assert check(view, facts, NOW) == ADMITTED


def test_a_watermark_read_while_catching_up_is_as_old_as_its_record() -> None:
    for news, age in ((True, 0), (False, 40)):
        view, mark = View(1), encode_watermark(0, T, T, -1, T)
        view.take_commands(0, [Stored(0, T - 40, mark.key, mark.value)], Now(T, 1000), news=news)
        assert view.age(0, 1000) == age
    early = View(1)
    early.take_commands(0, [Stored(0, T + 9, mark.key, mark.value)], Now(T, 1000), news=False)
    assert early.age(0, 1000) == 0
