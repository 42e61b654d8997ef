"""The ledger of enforcement, held against a naive one, and by its own words."""

import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.detect.enforcement import SILENT_AFTER, GatewayState, Ledger, Ordered
from monitor.detect.quantiles import quantile
from monitor.wire.receipts import Applied, Refused, Stopped

T = 1_795_500_000_000


def applied(gateway: str, at: int, *positions: int, control: int = -1) -> Applied:
    return Applied(gateway, dict(enumerate(positions)), control, T + at, 7)


def command(offset: int, at: int, partition: int = 0) -> Ordered:
    return Ordered(partition, offset, T + at, f"s-{partition}-{offset}")


def ledger(*told) -> Ledger:
    one = Ledger()
    for what in told:
        (one.take_command if isinstance(what, Ordered) else one.take_receipt)(what)
    return one


def standing(one: Ledger, gateway: str = "g", at: int = 100):
    return {found.gateway: found for found in one.standings(T + at)}[gateway]


def test_a_command_is_applied_by_the_first_receipt_that_covers_it() -> None:
    one = ledger(command(1, 10), command(5, 20), applied("g", 0, 0), applied("g", 12, 1), applied("g", 40, 7), applied("g", 50, 9))
    assert [one.applied(told) for told in (command(1, 10), command(5, 20))] == [{"g": 2}, {"g": 20}]
    found = standing(one)
    assert (found.enforced, found.p50, found.p99, found.unapplied, found.positions) == (2, 2, 20, 0, {0: 9})
    assert (found.last_seen, found.view_age, found.state) == (T + 50, 7, GatewayState.RUNNING)


def test_whichever_topic_is_read_first() -> None:
    receipts = applied("g", 0, 0), applied("g", 12, 1)
    assert standing(ledger(*receipts, command(1, 10))) == standing(ledger(command(1, 10), *receipts))


def test_what_is_not_covered_is_unapplied_the_oldest_first() -> None:
    one = ledger(applied("g", 0, 3, 3), command(3, 5), command(4, 9), command(6, 12), command(4, 8, partition=1), command(9, 20, partition=2))
    found = standing(one)
    assert (found.unapplied, found.oldest_unapplied) == (4, command(4, 8, partition=1))
    assert one.applied(command(4, 9)) == {"g": None}
    # A partition that it has never said anything about is one of which it has applied nothing.
    assert one.applied(command(9, 20, partition=2)) == {"g": None}
    assert (one.lowest_position(0), one.lowest_position(2)) == (3, -1)


def test_what_a_gateway_loaded_when_it_began_has_waited_for_nobody() -> None:
    one = ledger(command(1, 10), applied("g", 500, 1))
    assert one.applied(command(1, 10)) == {}
    assert (standing(one).enforced, standing(one).p99, standing(one).unapplied) == (0, None, 0)


def test_silence_is_no_stop() -> None:
    told = applied("g", 0, 1), command(2, 5)
    edge = T + SILENT_AFTER
    assert [next(ledger(*told).standings(now)).state for now in (edge, edge + 1)] == [GatewayState.RUNNING, GatewayState.SILENT]
    assert standing(ledger(*told), at=SILENT_AFTER + 1).unapplied == 1
    stopped = ledger(*told, Stopped("g", T + 6))
    found = standing(stopped, at=10 * SILENT_AFTER)
    assert (found.state, found.unapplied, stopped.applied(command(2, 5))) == (GatewayState.STOPPED, 0, {})
    assert stopped.lowest_position(0) == -1
    # Who had gone silent long before a command is not waited for.
    assert ledger(*told).applied(command(3, SILENT_AFTER + 1)) == {}
    assert ledger(*told).applied(command(3, SILENT_AFTER)) == {"g": None}


def test_a_name_that_comes_back_begins_anew() -> None:
    one = ledger(applied("g", 0, 1), Stopped("g", T + 5), command(2, 7), applied("g", 500, 2), command(3, 600), applied("g", 610, 3))
    assert (standing(one, at=610).enforced, standing(one, at=610).p99, standing(one, at=610).state) == (1, 10, GatewayState.RUNNING)


def test_a_topic_that_was_made_anew_is_applied_from_its_beginning() -> None:
    one = ledger(applied("g", 0, 50), command(2, 5), applied("g", 6, 1))
    assert (one.applied(command(2, 5)), standing(one).unapplied) == ({"g": None}, 1)
    one.take_receipt(applied("g", 9, 2))
    assert one.applied(command(2, 5)) == {"g": 4}


def test_refusals_are_counted_once_however_often_they_were_written() -> None:
    refusals = [Refused("g", "s-1", T, 401, "c-1", cut) for cut in (0, 2, 0)]
    one = ledger(*refusals, Refused("g", "s-1", T, 401, "c-2"), Refused("g", "s-2", T + 3, 401, inflight_cut=1))
    assert (standing(one).refused, standing(one).inflight_cut, standing(one).last_seen) == (3, 3, T + 3)


def test_a_clock_that_lies_behind_makes_no_negative_time() -> None:
    one = ledger(applied("g", 0, 0), command(1, 10), applied("g", 8, 1))
    assert one.applied(command(1, 10)) == {"g": 0}


def test_a_command_that_is_told_twice_counts_once() -> None:
    one = ledger(applied("g", 0, 0), command(1, 10), command(2, 11), command(1, 10), command(2, 11))
    assert standing(one).unapplied == 2


def test_what_is_forgotten_is_gone_and_the_rest_stands() -> None:
    one = ledger(
        applied("old", 0, 9), applied("g", 0, 0), command(1, 10), applied("g", 12, 1), command(2, 20), applied("g", 26, 2), command(3, 30)
    )  # fmt: skip
    one.forget(T + 20)
    assert one.gateways == ["g"]
    found = standing(one)
    assert (found.enforced, found.p50, found.unapplied, found.positions) == (1, 6, 1, {0: 2})
    one.forget(T + 26)
    one.forget(T + 26)
    assert standing(one).positions == {0: 2}


@given(st.lists(st.integers(0, 30), min_size=1), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_that_of_the_sorted_list(durations, share) -> None:
    assert quantile(Counter(durations), share) == sorted(durations)[max(1, math.ceil(round(share * len(durations), 9))) - 1]


def test_of_nothing_there_is_no_quantile() -> None:
    assert quantile({}, 0.5) is None


# --- a naive ledger: lists, and a look at all of them for each question ---------------------------------------------


class Naive:
    def __init__(self, told) -> None:
        self.commands = [one for one in told if isinstance(one, Ordered)]
        self.receipts = [one for one in told if not isinstance(one, Ordered)]

    def of(self, gateway: str) -> list:
        return [one for one in self.receipts if one.gateway == gateway]

    def begun(self, gateway: str) -> float:
        begun, running = math.inf, False
        for one in self.of(gateway):
            if isinstance(one, Applied) and not running:
                begun, running = one.at, True
            if isinstance(one, Stopped):
                running = False
        return begun

    def history(self, gateway: str, partition: int) -> list[tuple[int, int]]:
        """(position, at) since the position last fell."""
        found: list[tuple[int, int]] = []
        for one in self.of(gateway):
            if isinstance(one, Applied) and partition in one.positions:
                position = one.positions[partition]
                found = ([] if found and position < found[-1][0] else found) + [(position, one.at)]
        return found

    def took(self, gateway: str, told: Ordered) -> int | None:
        covering = [at for position, at in self.history(gateway, told.partition) if position >= told.offset]
        return max(0, covering[0] - told.appended) if covering else None

    def stopped(self, gateway: str) -> bool:
        return isinstance(self.of(gateway)[-1], Stopped)

    def standing(self, gateway: str) -> tuple:
        judged = [one for one in self.commands if one.appended >= self.begun(gateway)]
        took = sorted(took for one in judged if (took := self.took(gateway, one)) is not None)
        missing = [one for one in self.commands if self.took(gateway, one) is None and not self.stopped(gateway)]
        half = took[math.ceil(len(took) / 2) - 1] if took else None
        return len(took), half, len(missing), min((one.appended for one in missing), default=None)


@st.composite
def histories(draw):
    """What two gateways and two partitions may say, in an order that may be read."""
    told, ends, at = [], [0, 0], 0
    for _ in range(draw(st.integers(1, 25))):
        at += draw(st.integers(0, 5))
        what = draw(st.integers(0, 9))
        if what < 5:
            partition = draw(st.integers(0, 1))
            ends[partition] += draw(st.integers(1, 3))
            told.append(command(ends[partition], at, partition))
        elif what < 9:
            positions = [draw(st.integers(-1, end + 1)) for end in ends]
            told.append(applied(draw(st.sampled_from("gh")), at + draw(st.integers(-3, 3)), *positions))
        else:
            told.append(Stopped(draw(st.sampled_from("gh")), T + at))
    return told


@settings(max_examples=400)
@given(histories())
def test_it_says_what_a_naive_ledger_says(told) -> None:
    one, naive = ledger(*told), Naive(told)
    for found in one.standings(T):
        oldest = found.oldest_unapplied
        seen = found.enforced, found.p50, found.unapplied, oldest and oldest.appended
        assert seen == naive.standing(found.gateway)
    for asked in naive.commands:
        for gateway, took in one.applied(asked).items():
            assert took == naive.took(gateway, asked)


# --- what detectors ask ---------------------------------------------------------------------------------------------


def test_since_when_a_gateway_has_the_first_command_of_an_end_in_force() -> None:
    first, second, other = Ordered(0, 1, T + 10, "s"), Ordered(0, 4, T + 40, "s"), Ordered(0, 3, T + 30, "r")
    one = ledger(applied("g", 0, 0), first, applied("g", 12, 1), other, second, applied("g", 45, 4))
    assert [one.since("g", "s", T + ended) for ended in (10, 11, 40, 41)] == [T + 12, T + 45, T + 45, None]
    assert (one.since("g", "r", T), one.since("h", "s", T), one.since("g", "nobody", T)) == (T + 45, None, None)
    third = Ordered(0, 9, T + 90, "s")
    one.take_command(third)
    assert one.since("g", "s", T + 41) is None
    one.take_receipt(applied("g", 93, 9))
    assert one.since("g", "s", T + 41) == T + 93
    one.forget(T + 40)
    assert [one.since("g", "s", T + ended) for ended in (0, 41)] == [T + 45, T + 93]
    assert one.since("g", "r", T) is None
    one.forget(T + 91)
    assert one.since("g", "s", T) is None


def test_what_is_awaited_of_a_gateway() -> None:
    one = ledger(command(1, 10), applied("g", 20, 0), command(2, 30), Stopped("h", T + 5))
    assert [(found.gateway, found.stopped, found.unapplied, found.since) for found in one.waiting()] == [("g", False, 2, T + 20), ("h", True, 0, None)]
    one.take_receipt(applied("g", 33, 1))
    (found, _) = one.waiting()
    assert (found.unapplied, found.oldest, found.since, found.heard) == (1, command(2, 30), T + 30, T + 33)
    assert [one.has_applied("g", command(offset, 0)) for offset in (1, 2)] == [True, False]
    assert not one.has_applied("nobody", command(1, 0))


def test_who_tells_when_a_receipt_was_appended_is_heard_by_the_brokers_clock() -> None:
    one = ledger()
    one.take_receipt(applied("g", -60_000, 1), T + 7)
    (found,) = one.waiting()
    assert (found.heard, standing(one).last_seen) == (T + 7, T - 60_000)


@given(histories(), st.integers(-5, 130))
def test_what_detectors_ask_is_what_the_lists_say(told, asked) -> None:
    one, naive = ledger(*told[: len(told) // 2]), Naive(told)
    one.since("g", "s-0-1", T)  # from here on the index is kept up to date
    for what in told[len(told) // 2 :]:
        (one.take_command if isinstance(what, Ordered) else one.take_receipt)(what)
    for about in naive.commands:
        for gateway in one.gateways:
            covering = [at for position, at in naive.history(gateway, about.partition) if position >= about.offset]
            wanted = covering[0] if covering and about.appended >= T + asked else None
            assert one.since(gateway, about.session_id, T + asked) == wanted
    for found in one.waiting():
        assert (found.unapplied, found.oldest and found.oldest.appended) == naive.standing(found.gateway)[2:]
