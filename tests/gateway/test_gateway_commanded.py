"""What is packed comes out as it went in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.commands import CommandType, Reauth, command_id
from monitor.core.reasons import Reason
from monitor.gateway.commanded import _NUMBER, FOREVER, Commanded, Entry, Kind, Shared
from monitor.publish import hashed_session_id
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
    assert commanded.get("s-1").__sizeof__() == 32
    commanded.merge("s-2", FOREVER, _NUMBER, LATEST, 0)
    assert commanded.get("s-2").__sizeof__() <= 48


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


HASH = hashed_session_id("secret")
SPELLINGS = [
    HASH, HASH.upper(), HASH[:-1] + "g", HASH[:-1], HASH[:62] + "  ", " " + HASH[1:], "ä" * 64, HASH[:-1] + "\N{ARABIC-INDIC DIGIT ONE}",
    " " * 64, bytes.fromhex(HASH).decode("latin-1"),
]  # fmt: skip


@pytest.mark.parametrize("ended", SPELLINGS)
def test_no_two_spellings_are_one_session(ended) -> None:
    commanded = Commanded()
    end = commanded.number(Shared(Kind.REVOKE, "admin_revoked", None, Reauth(allowed=False)))
    commanded.merge(ended, 1, end, 5, 5, "revocation-1")
    assert [one for one in SPELLINGS if commanded.get(one) is not None] == [ended]
    assert commanded.command_id(ended) == command_id(ended, 1, CommandType.REVOKE, Reason.ADMIN_REVOKED, 5, "revocation-1")
    assert not commanded.merge(ended, 0, Kind.EXPIRE.value, 5, 5)
    assert commanded.outranked == {ended}
    assert not any(commanded.drop(one) for one in SPELLINGS if one != ended)
    assert commanded.drop(ended)
    assert (len(commanded), commanded.get(ended), commanded.outranked) == (0, None, set())
