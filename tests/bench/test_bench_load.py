"""The load is what the figures say it is."""

from collections import Counter

from monitor.bench.load import EVENT_BYTES, activity, homes, ids_at, instant, key_of, special
from monitor.wire.events import decode_access_event
from monitor.wire.partitioner import partition_for


def test_every_activity_has_exactly_the_bytes_that_results_state() -> None:
    for session, number in ((0, 0), (999_999, 12_000_000), (1 << 28, 1 << 40)):
        assert len(activity(session, number, instant(1_795_000_000_123))) == EVENT_BYTES == 250


def test_homes_hold_every_session_once_where_its_key_belongs() -> None:
    found = homes(1000, 8, first=500)
    assert Counter(session for sessions in found for session in sessions) == Counter(range(500, 1500))
    assert all(partition_for(key_of(session), 8) == number for number, sessions in enumerate(found) for session in sessions)


def test_ids_at_a_partition_belong_there_and_differ() -> None:
    found = ids_at(7, 8, 50, "silent")
    assert len(set(found)) == 50
    assert {partition_for(one.encode(), 8) for one in found} == {7}


def test_the_product_understands_every_event_of_the_load() -> None:
    said = decode_access_event(activity(5, 9, instant(1_795_000_000_123)))
    assert (said.type, said.session_id, said.workload) == ("session.activity", key_of(5).decode(), "batch")
    said = decode_access_event(special("silent-1", "session.opened", 1_795_000_000_123, "silent", auth_time=1_794_000_000_000))
    assert (said.type, said.session_id, said.workload) == ("session.opened", "silent-1", "silent")
    assert said.auth_time is not None
