"""The changelog's records: read back as written, old versions too, and nothing but the typed error for what is none."""

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.errors import InvariantError
from monitor.core.partition import Position
from monitor.core.session import Rows, State
from monitor.core.standing import ControlLog
from monitor.testing import Driver
from monitor.wire.times import format_time
from monitor.worker.state import (
    ControlsNotReadError,
    Restorer,
    applied_offset_of,
    apply_touches,
    decode_position,
    encode_position,
    encode_session,
    encode_touches,
)

POLICY = "version: 1\ndefaults: {idle: 30m, absolute: 12h}\n"
NOW = 1_795_000_000_000

# A session that was opened and closed, and the position behind it, as version 1 wrote them.
SESSION_1 = bytes.fromhex(
    "dc001a0199a5616c696365a47573657291a7616e616c797374a8696e7465726e616cc0c0c0c0c0cf000001a1ee565e00"
    "cf000001a1ee565e00cf000001a1ee565e0092ce02932e00a864656661756c7473cf000001a1ee565e00cf000001a1ee"
    "565e00cf000001a1ee565e00000100940100000001cf100000000000000000a2677700cf000001a1ee5661e89bae7365"
    "7373696f6e2e657870697265a6636c6f736564cf000001a1ee5661e8cf000001a1ee5661e8cf000001a1f37cbde801cf"
    "000001a1ee5661e8c0c0a86237343764616330a0c0c000c0c0c0"
)
POSITION_1 = bytes.fromhex(
    "990102cf000001a1ee5661e8cf000001a1ee5661e80000008000"
)

TOUCHES_1 = bytes.fromhex(
    "930192a27331a2733295c410d06556eea1010000d06556eea1010000c410d06556eea1010000d06556eea1010000c410"
    "04000000000000000500000000000000c41003000000000000000000000003000000c410000000000000000000000000"
    "00000000"
)  # fmt: skip


def controls() -> ControlLog:
    return Driver(POLICY)._controls


def touched() -> Driver:
    """Two sessions, each touched twice."""
    driver = Driver(POLICY, now=NOW)
    for second in range(3):
        for session in ("s1", "s2"):
            event = {"type": "session.activity", "session_id": session, "time": format_time(NOW + 1000 * second)}
            driver.append({**event, "activity": "agent" if session == "s2" else "human"}, NOW + 1000 * second)
    return driver


PLAIN: bytes = encode_session(touched().sessions["s1"])
"""One with nothing aside."""


def restorer() -> Restorer:
    return Restorer(Position(2, controls_to=0), controls(), Rows())


def test_a_session_of_version_1_is_read() -> None:
    session = restorer().session("s1", SESSION_1)

    assert (session.attributes.subject, session.attributes.roles) == ("alice", ("analyst",))
    assert (session.state, session.epoch, session.applied_offset) == (State.EXPIRED, 0, 1)
    assert session.end is not None
    assert (session.end.reason, session.end.effective_at) == ("closed", NOW + 1000)
    assert session.counted() == (1, 0, 0, 0)
    assert applied_offset_of(SESSION_1) == 1


def test_a_position_of_version_1_is_read() -> None:
    position = decode_position(POSITION_1)

    assert (position.offset, position.log_time, position.controls_to) == (2, NOW + 1000, 0)


def test_what_is_read_is_written_alike() -> None:
    assert encode_session(restorer().session("s1", SESSION_1)) == SESSION_1
    assert encode_position(decode_position(POSITION_1)) == POSITION_1


@settings(max_examples=1000)
@given(st.binary(max_size=200) | st.sampled_from([SESSION_1, PLAIN, POSITION_1]).flatmap(
    lambda whole: st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)).map(
        lambda change: whole[: change[0]] + bytes([change[1]]) + whole[change[0] + 1 :]
    )
))  # fmt: skip
def test_nothing_but_the_typed_error_is_raised(value: bytes) -> None:
    for read in (
        lambda: restorer().session("s", value), lambda: [*restorer().many([(b"s", value)])],
        lambda: decode_position(value), lambda: applied_offset_of(value),
    ):  # fmt: skip
        with contextlib.suppress(InvariantError, ControlsNotReadError):
            read()


def test_many_are_read_as_one_is() -> None:
    driver = Driver(POLICY, now=NOW)
    subjects = [None, "al", "a" * 31, "a" * 32, "a" * 300, "zoë", "bob"]
    for number, subject in enumerate(subjects * 3):
        event = {"type": "session.activity", "session_id": f"s{number}", "subject": subject, "source": f"gw/{number % 2}"}
        event |= {"roles": ["analyst"], "time": format_time(NOW + number)}
        driver.append({k: v for k, v in event.items() if v is not None}, NOW + number)
    # Numbers whose last bytes look like what stands there where there is nothing.
    for number, expires in enumerate((NOW + 0x100 - NOW % 0x100, NOW + 0x10000 - NOW % 0x10000)):
        event = {"type": "session.activity", "session_id": f"e{number}", "expires": format_time(expires)}
        driver.append(event, NOW + 90)
    driver.append({"type": "session.closed", "session_id": "s3"}, NOW + 100)
    records = [(name.encode(), encode_session(session)) for name, session in driver.sessions.items()]
    reader = Restorer(Position(50, log_time=NOW + 100, controls_to=0), controls(), Rows())

    read = dict(reader.many(records))
    assert len(read) == len(records) == len({session.row for session in read.values()})
    for key, value in records:
        one, many = reader.session(key.decode(), value), read[key.decode()]
        assert encode_session(many) == encode_session(one) == value
        assert (many.common, many.aside, many.attributes) == (one.common, one.aside, one.attributes)
        assert many.profile is one.profile


def test_a_newer_version_is_refused_by_name() -> None:
    newer = msgspec.msgpack.encode([9, *msgspec.msgpack.decode(SESSION_1)[1:]])

    with pytest.raises(InvariantError, match="version 9"):
        restorer().session("s1", newer)


def test_touches_of_version_1_are_read() -> None:
    sessions = touched().sessions
    for session in sessions.values():
        session.last_activity, session.applied_offset, session.idle_set_at = NOW, 0, NOW
    sessions["s2"].applied_offset = 99

    assert apply_touches(TOUCHES_1, {**sessions}, 7) == 1, "one is further already"
    one = sessions["s1"]
    assert (one.last_activity, one.idle_set_at, one.applied_offset, one.touched) == (NOW + 2000, NOW + 2000, 4, 7)
    assert one.counted() == (3, 0, 0, 0)
    assert sessions["s2"].last_activity == NOW


def test_touches_are_written_as_they_are_read() -> None:
    sessions = touched().sessions

    assert encode_touches([*sessions.values()]) == TOUCHES_1
    assert apply_touches(TOUCHES_1, {}, 1) == 0, "a session that was forgotten stays so"


@settings(max_examples=500)
@given(st.integers(0, 120), st.integers(0, 255))
def test_of_touches_too_nothing_but_the_typed_error_is_raised(place: int, byte: int) -> None:
    value = bytearray(TOUCHES_1)
    value[place % len(value)] = byte
    with contextlib.suppress(InvariantError):
        apply_touches(bytes(value), touched().sessions, 1)
