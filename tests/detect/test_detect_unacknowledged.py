"""A gateway that lacks a command, or has gone silent: at the edges, and after the ledger has forgotten."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.instants import MINUTE, SECOND
from monitor.detect.enforcement import Ledger, Ordered
from monitor.detect.finding import Cleared, Finding
from monitor.detect.settings import Unacknowledged
from monitor.detect.unacknowledged import Waits
from monitor.wire.receipts import Applied, Refused, Stopped

T = 1_795_500_000_000
USUAL = Unacknowledged()


def applied(at: int, position: int, gateway: str = "g") -> Applied:
    return Applied(gateway, {0: position}, 0, T + at)


def command(offset: int, at: int) -> Ordered:
    return Ordered(0, offset, T + at, f"s-{offset}")


def ledger(*told) -> Ledger:
    one = Ledger()
    tell(one, *told)
    return one


def tell(one: Ledger, *told) -> None:
    for what in told:
        (one.take_command if isinstance(what, Ordered) else one.take_receipt)(what)


def judged(one: Ledger, at: int, waits: Waits | None = None):
    (found,) = (Waits() if waits is None else waits).judge(one, T + at, USUAL)
    return found


def test_a_command_that_is_not_applied_within_ten_seconds() -> None:
    one = ledger(applied(0, 4), command(5, SECOND), command(7, 2 * SECOND), applied(6 * SECOND, 4))
    assert isinstance(judged(one, 11 * SECOND - 1), Cleared)
    found = judged(one, 11 * SECOND)
    assert isinstance(found, Finding)
    assert (found.about.gateway, found.about.session_id, found.sessions) == ("g", None, ("s-5",))
    assert found.seen == {"unapplied": 2, "oldest_ms": 10 * SECOND, "silent_ms": 5 * SECOND, "last_heard": T + 6 * SECOND, "oldest": [0, 5], "sessions": 1}
    assert found.summary == "gateway g lacks 2 commands, the oldest for 10s: it was expected within 10s"
    tell(one, applied(12 * SECOND, 7))
    assert judged(one, 12 * SECOND) == Cleared(found.about, T + 12 * SECOND)


def test_one_that_applies_the_oldest_alone_is_waited_for_by_the_next() -> None:
    one, waits = ledger(applied(0, 4), command(5, SECOND), command(7, 9 * SECOND)), Waits()
    assert isinstance(judged(one, 11 * SECOND, waits), Finding)
    tell(one, applied(11 * SECOND, 5))
    assert isinstance(judged(one, 11 * SECOND, waits), Cleared)
    assert waits.next_look(one, T + 11 * SECOND, USUAL) == T + 19 * SECOND
    assert isinstance(judged(one, 19 * SECOND, waits), Finding)


def test_what_came_before_a_gateway_has_waited_since_the_gateway_came() -> None:
    one = ledger(command(5, 0), applied(MINUTE, 4))
    assert [type(judged(one, at)) for at in (MINUTE + 10 * SECOND - 1, MINUTE + 10 * SECOND)] == [Cleared, Finding]


def test_silence_for_half_a_minute() -> None:
    one = ledger(applied(0, 4))
    assert isinstance(judged(one, 30 * SECOND - 1), Cleared)
    found = judged(one, 30 * SECOND)
    assert isinstance(found, Finding)
    assert (found.seen["unapplied"], found.seen["silent_ms"], found.seen["sessions"], found.sessions) == (0, 30 * SECOND, 0, ())
    assert "has said nothing for 30s" in found.summary
    tell(one, Refused("g", "s", T + 30 * SECOND, 401))
    assert isinstance(judged(one, 30 * SECOND), Cleared)


def test_silence_is_measured_by_the_brokers_clock_where_it_is_told() -> None:
    one = Ledger()
    one.take_receipt(applied(-5 * MINUTE, 4), T)
    assert [type(judged(one, at)) for at in (30 * SECOND - 1, 30 * SECOND)] == [Cleared, Finding]


def test_both_are_told_at_once() -> None:
    found = judged(ledger(applied(0, 4), command(5, SECOND)), MINUTE)
    assert "lacks 1 command, the oldest for 59s" in found.summary
    assert "has said nothing for 1m" in found.summary


def test_of_a_stopped_one_nothing_is_expected() -> None:
    one = ledger(applied(0, 4), command(5, SECOND), Stopped("g", T + 20 * SECOND))
    assert isinstance(judged(one, 20 * SECOND), Cleared)
    assert isinstance(judged(one, 60 * MINUTE), Cleared)
    assert Waits().next_look(one, T + 20 * SECOND, USUAL) is None


def test_nobody_is_let_off_because_the_ledger_forgets() -> None:
    one, waits = ledger(applied(0, 4), command(5, SECOND)), Waits()
    assert isinstance(judged(one, MINUTE, waits), Finding)
    tell(one, applied(90 * MINUTE, 4))
    one.forget(T + 30 * MINUTE)
    found = judged(one, 90 * MINUTE, waits)
    assert (found.seen["unapplied"], found.seen["oldest_ms"], found.seen["oldest"]) == (1, 90 * MINUTE - SECOND, [0, 5])
    tell(one, applied(90 * MINUTE + 1, 5))
    assert isinstance(judged(one, 90 * MINUTE + 1, waits), Cleared)


def test_who_is_forgotten_altogether_is_cleared_once() -> None:
    one, waits = ledger(applied(0, 4)), Waits()
    about = judged(one, 30 * SECOND, waits).about
    one.forget(T + 1)
    assert waits.judge(one, T + 60 * MINUTE, USUAL) == [Cleared(about, T + 60 * MINUTE)]
    assert waits.judge(one, T + 60 * MINUTE, USUAL) == []


def test_when_to_look() -> None:
    one, waits = ledger(applied(0, 4), applied(3 * SECOND, 4, "h"), command(5, 4 * SECOND)), Waits()
    assert waits.next_look(one, T + 4 * SECOND, USUAL) == T + 14 * SECOND
    assert waits.next_look(one, T + 14 * SECOND, USUAL) == T + 30 * SECOND
    assert waits.next_look(one, T + 30 * SECOND, USUAL) == T + 33 * SECOND
    assert waits.next_look(one, T + 33 * SECOND, USUAL) is None
    assert Waits().next_look(Ledger(), T, USUAL) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5 * SECOND), st.integers(0, 3)), max_size=15))
def test_what_is_written_and_read_goes_on_as_before(told) -> None:
    one, waits, now, offset, position = ledger(applied(0, 0)), Waits(), 0, 0, 0
    for ordered, pause, step in told:
        now += pause
        if ordered:
            offset += 1
            tell(one, command(offset, now))
        else:
            position = min(offset, position + step)
            tell(one, applied(now, position))
        restored = Waits.from_bytes(waits.to_bytes())
        assert restored.judge(one, T + now, USUAL) == waits.judge(one, T + now, USUAL)
        look = waits.next_look(one, T + now, USUAL)
        if look is not None and isinstance(judged(one, now, waits), Cleared):
            assert isinstance(judged(one, look - 1 - T), Cleared)
            assert isinstance(judged(one, look - T), Finding)


def test_bytes_that_are_none_of_ours_are_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        Waits.from_bytes(b"\x93\x01\x02\x03")
