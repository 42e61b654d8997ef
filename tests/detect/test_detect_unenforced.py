"""A gateway that lets ended sessions pass: after its receipt, or too long after the end, whichever topic is read first."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.events import Attributes
from monitor.core.instants import MINUTE, SECOND
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.detect import unenforced
from monitor.detect.enforcement import Ledger, Ordered
from monitor.detect.finding import Cleared, Finding
from monitor.detect.settings import Unenforced
from monitor.detect.unenforced import MOST_ENDS, MOST_LATE, Ends, Passes
from monitor.wire.receipts import Applied

T = 1_795_500_000_000
USUAL = Unenforced()


def nobody(attributes: Attributes) -> bool:
    return False


def record(at: int, type_: LifecycleType = LifecycleType.LATE_ACTIVITY, session_id: str = "s", *, log_time: int | None = None, **more) -> Lifecycle:
    log_time = at if log_time is None else log_time
    return Lifecycle(type_, session_id, 0, T + at, T + log_time, 0, log_time, Attributes(workload="console"), T, T, T, (1, 0, 0, 0), source="g", **more)


def expired(at: int = 0, session_id: str = "s", **more) -> Lifecycle:
    return record(at, LifecycleType.EXPIRED, session_id, **more)


def passes(*records: Lifecycle, ends: Ends | None = None) -> Passes:
    ends, one = Ends() if ends is None else ends, Passes("g")
    for told in records:
        ends.take(told)
        one.take(told, ends.of(told), nobody)
    return one


def ledger(*told) -> Ledger:
    one = Ledger()
    for what in told:
        (one.take_command if isinstance(what, Ordered) else one.take_receipt)(what)
    return one


def command(offset: int, at: int, session_id: str = "s") -> Ordered:
    return Ordered(0, offset, T + at, session_id)


def applied(at: int, position: int, gateway: str = "g") -> Applied:
    return Applied(gateway, {0: position}, 0, T + at)


def test_after_its_own_receipt_nothing_may_pass() -> None:
    told = ledger(applied(-10, 0), command(1, 100), applied(150, 1))
    assert isinstance(passes(expired(), record(150)).judge(T + 200, told, USUAL), Cleared)
    one = passes(expired(), record(151))
    found = one.judge(T + 200, told, USUAL)
    assert isinstance(found, Finding)
    assert (found.about.gateway, found.about.session_id, found.sessions) == ("g", None, ("s",))
    assert found.seen == {"activities": 1, "after_receipt": 1, "longest_ms": 151, "sessions": 1}
    assert found.summary.startswith("gateway g let ended sessions pass: 1 activity of 1 session, up to 151ms after the end, 1 of them after its own")


def test_without_a_receipt_half_a_minute_is_allowed() -> None:
    for told in (ledger(), ledger(applied(0, 0), command(1, 100)), ledger(command(1, 100), applied(150, 1, "h"))):
        assert isinstance(passes(expired(), record(30 * SECOND)).judge(T + MINUTE, told, USUAL), Cleared)
        found = passes(expired(), record(30 * SECOND + 1)).judge(T + MINUTE, told, USUAL)
        assert isinstance(found, Finding)
        assert (found.seen["after_receipt"], found.seen["longest_ms"]) == (0, 30 * SECOND + 1)


def test_whichever_topic_is_read_first() -> None:
    one, told = passes(expired(), record(151)), ledger()
    assert isinstance(one.judge(T + 200, told, USUAL), Cleared)
    for what in (command(1, 100), applied(150, 1)):
        (told.take_command if isinstance(what, Ordered) else told.take_receipt)(what)
    assert isinstance(one.judge(T + 200, told, USUAL), Finding)


def test_what_happened_before_the_end_and_is_told_late_is_nobodys_fault() -> None:
    """A gateway that could not reach the broker for half an hour."""
    one = passes(expired(), record(-1, log_time=30 * MINUTE))
    assert isinstance(one.judge(T + 30 * MINUTE, ledger(applied(-10, 0), command(1, 100), applied(150, 1)), USUAL), Cleared)


def test_the_end_is_where_it_could_be_known() -> None:
    """A deadline that was decided only after a grace of five minutes."""
    one = passes(expired(0, log_time=5 * MINUTE), record(4 * MINUTE, log_time=5 * MINUTE))
    assert isinstance(one.judge(T + 5 * MINUTE, ledger(), USUAL), Cleared)


def test_a_command_of_an_earlier_end_proves_nothing() -> None:
    ends = Ends()
    told = ledger(applied(-10, 0), command(1, 100), applied(150, 1), command(2, 220), applied(290, 2), command(3, MINUTE + 50), applied(MINUTE + 90, 3))
    history = (expired(), record(200, LifecycleType.REAUTHENTICATED), record(201, LifecycleType.REINSTATED), expired(MINUTE))
    one = passes(*history, record(MINUTE + 90), ends=ends)
    assert isinstance(one.judge(T + MINUTE + 90, told, USUAL), Cleared)
    late = record(MINUTE + 91)
    one.take(late, ends.of(late), nobody)
    assert isinstance(one.judge(T + MINUTE + 91, told, USUAL), Finding)


def test_it_stands_out_for_a_window_and_as_often_as_the_policy_says() -> None:
    settings = Unenforced(count=3)
    one = passes(expired(), *(record(MINUTE + at) for at in range(2)))
    assert isinstance(one.judge(T + MINUTE + 1, ledger(), settings), Cleared)
    assert one.next_look(T + MINUTE + 1, ledger(), settings) is None
    third = record(2 * MINUTE)
    one.take(third, T, nobody)
    now = T + 2 * MINUTE
    assert isinstance(one.judge(now, ledger(), settings), Finding)
    edge = one.next_look(now, ledger(), settings)
    assert edge == T + 11 * MINUTE
    assert [type(one.judge(at, ledger(), settings)) for at in (edge - 1, edge)] == [Finding, Cleared]
    assert one.next_look(edge, ledger(), settings) is None
    one.take(record(3 * MINUTE), T, nobody)
    assert one.next_look(T + 3 * MINUTE, ledger(), settings) == T + 11 * MINUTE + 1  # the second of the four goes then
    assert not one.forget(T + 13 * MINUTE - 1, settings)
    assert one.forget(T + 13 * MINUTE, settings)


def test_a_copy_of_a_record_counts_once_and_the_exempt_not_at_all() -> None:
    late = record(MINUTE)
    one = passes(expired(), late, late)
    assert one.judge(T + MINUTE, ledger(), USUAL).seen["activities"] == 1
    assert not one.take(late, T, nobody)
    assert not one.take(record(MINUTE + 1), T, lambda attributes: attributes.workload == "console")
    assert not one.take(record(MINUTE + 1), None, nobody)
    assert one.take(record(MINUTE + 1), T, nobody)


def test_a_trial_ends_nothing_and_the_first_end_counts() -> None:
    ends = Ends()
    for told in (expired(0, observe=True), expired(5), record(9, LifecycleType.REVOKED), expired(7, "r")):
        ends.take(told)
    assert [ends.of(record(10, session_id=session_id)) for session_id in ("s", "r", "q")] == [T + 5, T + 7, None]
    assert ends.of(record(10, deadline=T + 8)) == T + 8
    again = Ends.from_bytes(ends.to_bytes())
    assert again.of(record(10)) == T + 5
    ends.take(record(20, LifecycleType.REINSTATED))
    assert ends.of(record(21)) is None


def test_it_is_bounded(monkeypatch) -> None:
    assert (MOST_ENDS, MOST_LATE) == (100_000, 1000)
    monkeypatch.setattr(unenforced, "MOST_ENDS", 3)
    ends = Ends()
    for number in range(5):
        ends.take(expired(number, f"s-{number}"))
    assert [ends.of(record(9, session_id=f"s-{number}")) for number in range(5)] == [None, None, T + 2, T + 3, T + 4]
    one = Passes("g")
    for number in range(1500):
        one.take(record(MINUTE + number, session_id=f"s-{number}"), T, nobody)
    found = one.judge(T + MINUTE + 1500, ledger(), USUAL)
    assert (found.seen["sessions"], len(found.sessions), found.sessions[0]) == (MOST_LATE, 20, "s-1499")
    assert not one.take(record(MINUTE, session_id="s-0"), T, nobody)
    assert len(one.to_bytes()) < 100 * MOST_LATE


LATE = st.lists(st.tuples(st.integers(0, 15 * MINUTE), st.integers(0, 40 * SECOND), st.sampled_from("abc")), max_size=12, unique_by=lambda late: late[0])


@given(LATE, st.integers(0, 10), st.randoms(use_true_random=False))
def test_it_is_what_a_look_at_all_records_says_whatever_their_order(lates, cut, rng) -> None:
    settings = Unenforced(count=2)
    told = ledger(applied(0, 0), command(1, 5, "a"), applied(10 * SECOND, 1))
    records = [record(at, session_id=session_id, log_time=log_time) for log_time, at, session_id in lates]
    one, other, third = passes(), passes(), passes()
    for late in records:
        one.take(late, T, nobody)
    shuffled = records * 2
    rng.shuffle(shuffled)
    for late in shuffled[:cut]:
        other.take(late, T, nobody)
    for late in shuffled[cut:]:
        third.take(late, T, nobody)
    other.merge(Passes.from_bytes(third.to_bytes()))
    now = max([12 * MINUTE, *(log_time for log_time, _, _ in lates)])
    passed = [at for log_time, at, session_id in lates if now - log_time < 10 * MINUTE and at > (10 * SECOND if session_id == "a" else 30 * SECOND)]
    found = one.judge(T + now, told, settings)
    assert type(found) is (Finding if len(passed) >= 2 else Cleared)
    assert other.judge(T + now, told, settings) == found
    assert Passes.from_bytes(one.to_bytes()).to_bytes() == one.to_bytes() == other.to_bytes()


def test_what_came_after_a_receipt_stays_so_when_the_ledger_has_forgotten() -> None:
    one = passes(expired(), record(151))
    assert isinstance(one.judge(T + 200, ledger(command(1, 100), applied(150, 1)), USUAL), Finding)
    assert isinstance(Passes.from_bytes(one.to_bytes()).judge(T + MINUTE, ledger(), USUAL), Finding)


def test_what_another_partition_has_found_is_taken_over() -> None:
    told = ledger(command(1, 100), applied(150, 1))
    one, other = passes(expired(), record(151)), passes(expired(), record(151))
    assert isinstance(other.judge(T + 200, told, USUAL), Finding)
    one.merge(other)
    assert isinstance(one.judge(T + 200, ledger(), USUAL), Finding)


def test_bytes_that_are_none_of_ours_are_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        Passes.from_bytes(b"\x01")
    with pytest.raises(msgspec.DecodeError):
        Ends.from_bytes(b"\x01")
