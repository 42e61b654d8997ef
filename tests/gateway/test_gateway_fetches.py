"""Records read for key and value alone are those that kafka-python reads."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from monitor.gateway.fetches import Stored, _Light, _records, lighten

texts = st.none() | st.binary(max_size=300) | st.just(b"x" * 20_000)
rows = st.lists(
    st.tuples(st.integers(1, 400), st.integers(-10, 100_000), texts, texts, st.lists(st.tuples(st.text(max_size=9), texts), max_size=3)), min_size=1, max_size=12
)  # fmt: skip
APPEND_TIME = 8


def batch(rows, base: int = 0, codec: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 30)
    offset = base - 1
    for step, time, key, value, headers in rows:
        offset += step
        builder.append(offset, 1_795_500_000_000 + time, key, value, headers)
    return bytes(builder.build())


def as_kafka_python(data: bytes) -> list[Stored]:
    return [Stored(one.offset, one.timestamp, one.key, one.value) for one in DefaultRecordBatch(data)]


@given(rows, st.sampled_from((0, 1)), st.booleans())
def test_every_batch_is_read_as_kafka_python_reads_it(rows, codec, appended) -> None:
    data = batch(rows, codec=codec)
    if appended:
        data = data[:21] + bytes([data[21], data[22] | APPEND_TIME]) + data[23:]
    assert _records(DefaultRecordBatch(data)) == as_kafka_python(data)


@given(rows, st.data())
def test_what_is_cut_or_bent_is_corrupt_or_another_record_but_nothing_else_breaks(rows, data) -> None:
    good = batch(rows)
    at = data.draw(st.integers(61, len(good) - 1))
    bad = good[:at] + data.draw(st.sampled_from((b"", b"\xff", b"\x01"))) + good[at + 1 :] if data.draw(st.booleans()) else good[:at]
    with contextlib.suppress(CorruptRecordError):
        assert len(_records(DefaultRecordBatch(bad))) == len(rows)


def test_a_batch_that_was_cut_is_corrupt_wherever_it_was_cut() -> None:
    good = batch([(1, 0, b"k", b"value", [("h", b"v")]), (1, 0, None, None, [])])
    for at in range(61, len(good)):
        with pytest.raises(CorruptRecordError):
            _records(DefaultRecordBatch(good[:at]))


def light(data: bytes, fetch_offset: int) -> _Light:
    return _Light(fetch_offset, "tp", MemoryRecords(data), check_crcs=False)


def test_a_fetch_is_taken_batch_by_batch_from_where_it_was_asked_for() -> None:
    rows = [(1, 0, b"k", b"v", [])] * 10
    part = light(batch(rows) + batch(rows, base=10), 4)
    assert [record.offset for record in part.take(1)] == [4, 5, 6, 7, 8, 9]
    assert (part.next_fetch_offset, bool(part)) == (10, True)
    assert [record.offset for record in part.take()] == list(range(10, 20))
    assert (part.next_fetch_offset, part.take(), bool(part)) == (20, [], False)


def test_the_next_fetch_is_behind_the_batch_also_where_compaction_took_its_last_records() -> None:
    data = bytearray(batch([(1, 0, b"k", b"v", []), (1, 0, b"k", b"v", [])]))
    data[23:27] = (9).to_bytes(4, "big")  # the last offset delta stays when its record goes
    part = light(bytes(data), 0)
    assert [record.offset for record in part.take()] == [0, 1]
    assert part.next_fetch_offset == 10


def test_what_came_before_a_corrupt_batch_is_given_first() -> None:
    good, bad = batch([(1, 0, b"k", b"v", [])]), bytearray(batch([(1, 0, b"k", b"v", [])], base=1))
    bad[61:] = b"\x7f" * (len(bad) - 61)
    part = light(good + bytes(bad), 0)
    assert [record.offset for record in part.take()] == [0]
    with pytest.raises(CorruptRecordError):
        part.take()


def test_a_client_that_is_not_known_is_left_as_it_is() -> None:
    assert lighten(object()) is False


@pytest.mark.embedded
def test_the_kafka_python_that_is_installed_is_known(embedded) -> None:
    from monitor.broker.clients import consumer

    with consumer(embedded.connection) as client:
        assert lighten(client) is True
