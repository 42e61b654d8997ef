from typing import Any

import pytest

from monitor.worker.lanes import Item, Lane


class Builder:
    """Holds `room` records; the first always fits."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.values: list[bytes | None] = []

    def append(self, *, timestamp: Any, key: Any, value: bytes | None, headers: Any) -> object | None:
        if self.values and len(self.values) >= self.room:
            return None
        assert type(headers) is list
        self.values.append(value)
        return object()


def lane_of(count: int, instead: Any = None) -> Lane:
    lane = Lane("topic", 0)
    lane.waiting.extend(Item(number, b"k", b"%d" % number, (), instead) for number in range(count))
    return lane


def test_batches_keep_the_order_and_the_oldest_number_is_known() -> None:
    lane = lane_of(5)
    assert lane.oldest == 0
    builder = Builder(3)
    assert lane.fill(builder) == 3
    assert builder.values == [b"0", b"1", b"2"]
    assert lane.oldest == 0  # in flight is not acknowledged
    assert lane.acknowledged() == 3
    assert lane.oldest == 3
    assert lane.fill(Builder(3)) == 2
    lane.acknowledged()
    assert lane.oldest is None


def test_a_refused_batch_goes_again_in_halves_until_it_fits() -> None:
    lane = lane_of(8)
    sizes, order = [], []
    while lane.waiting:
        builder = Builder(100)
        sizes.append(lane.fill(builder))
        if len(builder.values) > 2:
            assert lane.refused() is None
        else:
            order += builder.values
            lane.acknowledged()
    assert sizes[:3] == [8, 4, 2]
    assert order == [b"%d" % number for number in range(8)]


def test_a_refused_record_goes_in_its_smaller_form_under_its_number() -> None:
    lane = lane_of(2, instead=(b"k", b"small", [("reason", b"x")]))
    lane.fill(Builder(1))
    assert lane.refused() is None
    assert lane.oldest == 0
    builder = Builder(1)
    lane.fill(builder)
    assert builder.values == [b"small"]
    hopeless = lane.refused()
    assert hopeless is not None
    assert hopeless.number == 0


@pytest.mark.parametrize("instead", [None])
def test_a_record_without_a_smaller_form_is_named(instead: Any) -> None:
    lane = lane_of(1, instead)
    lane.fill(Builder(1))
    hopeless = lane.refused()
    assert hopeless is not None
    assert hopeless.value == b"0"
