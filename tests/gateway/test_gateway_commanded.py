"""What is packed comes out as it went in."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.core.commands import Reauth
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
