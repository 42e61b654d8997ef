"""What is packed comes out as it went in."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.core.commands import CommandType, Reauth, command_id
from monitor.core.reasons import Reason
from monitor.gateway.commanded import _NUMBER, FOREVER, Commanded, Entry, Kind, Shared
from monitor.wire.times import LATEST

instants = st.integers(0, LATEST)


@given(st.integers(0, FOREVER), st.integers(0, 9), instants, instants)
def test_what_is_packed_comes_out_as_it_went_in(epoch, numbers, effective_at, cutoff) -> None:
    commanded = Commanded()
    for number in range(numbers):
        commanded.number(Shared(Kind.EXPIRE, f"reason-{number}", None, Reauth(allowed=True)))
    shared = Shared(Kind.EXPIRE, "mine", "rule", Reauth(allowed=True))
    assert commanded.merge("s-1", epoch, commanded.number(shared), effective_at, cutoff)
    assert commanded.entry("s-1") == Entry(epoch, shared, effective_at, cutoff)
    assert commanded.number(shared) == commanded.number(shared)


def test_the_common_case_takes_two_digits_of_python() -> None:
    commanded = Commanded()
    shared = commanded.number(Shared(Kind.EXPIRE, "idle_timeout", "rule", Reauth(allowed=True)))
    commanded.merge("s-1", 1, shared, LATEST, LATEST)
    assert commanded.packed["s-1"].__sizeof__() == 32
    commanded.merge("s-2", FOREVER, _NUMBER, LATEST, 0)
    assert commanded.packed["s-2"].__sizeof__() <= 48


def test_of_commands_that_are_equally_strong_the_first_stays() -> None:
    commanded = Commanded()
    assert commanded.merge("s-1", 0, Kind.EXPIRE.value, 7, 5)
    assert not commanded.merge("s-1", 0, Kind.EXPIRE.value, 9, 5)
    assert commanded.entry("s-1").effective_at == 7


def test_the_id_is_that_of_the_command_that_counts() -> None:
    commanded = Commanded()
    end = commanded.number(Shared(Kind.EXPIRE, "locked", None, Reauth(allowed=False)))
    for drop in (False, True):
        commanded.merge("s-1", 0, end, 5, 5, "lock-1")
        assert commanded.command_id("s-1") == command_id("s-1", 0, CommandType.EXPIRE, Reason.LOCKED, 5, "lock-1")
        if drop:
            commanded.drop("s-1")
        commanded.merge("s-1", 2, end, 5, 5)
        assert commanded.command_id("s-1") == command_id("s-1", 2, CommandType.EXPIRE, Reason.LOCKED, 5, "")
        commanded.drop("s-1")


def test_an_epoch_above_all_numbers_is_the_last() -> None:
    commanded = Commanded()
    commanded.merge("s-1", 1 << 70, Kind.EXPIRE.value, 5, 5)
    assert commanded.entry("s-1").epoch == FOREVER


def test_more_kinds_of_commands_than_numbers_are_taken_for_the_strictest() -> None:
    commanded = Commanded()
    numbers = {commanded.number(Shared(Kind.EXPIRE, f"r-{n}", None, Reauth(allowed=True))) for n in range(_NUMBER + 9)}
    assert max(numbers) == _NUMBER
    last = commanded.number(Shared(Kind.EXPIRE, "one more", None, Reauth(allowed=True)))
    commanded.merge("s-1", 0, last, 5, 5)
    entry = commanded.entry("s-1")
    assert (entry.shared.kind, entry.shared.reauth.allowed, entry.effective_at) == (Kind.EXPIRE, False, 5)
