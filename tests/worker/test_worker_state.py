"""The changelog's records: read back as written, old versions too, and nothing but the typed error for what is none."""

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.errors import InvariantError
from monitor.core.partition import Position
from monitor.core.session import State
from monitor.core.standing import ControlLog
from monitor.testing import Driver
from monitor.worker.state import (
    ControlsNotReadError,
    Restorer,
    applied_offset_of,
    decode_position,
    encode_position,
    encode_session,
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


def controls() -> ControlLog:
    return Driver(POLICY)._controls


def restorer() -> Restorer:
    return Restorer(Position(2, controls_to=0), controls())


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
@given(st.binary(max_size=200) | st.sampled_from([SESSION_1, POSITION_1]).flatmap(
    lambda whole: st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)).map(
        lambda change: whole[: change[0]] + bytes([change[1]]) + whole[change[0] + 1 :]
    )
))  # fmt: skip
def test_nothing_but_the_typed_error_is_raised(value: bytes) -> None:
    for read in (lambda: restorer().session("s", value), lambda: decode_position(value), lambda: applied_offset_of(value)):
        with contextlib.suppress(InvariantError, ControlsNotReadError):
            read()


def test_a_newer_version_is_refused_by_name() -> None:
    newer = msgspec.msgpack.encode([9, *msgspec.msgpack.decode(SESSION_1)[1:]])

    with pytest.raises(InvariantError, match="version 9"):
        restorer().session("s1", newer)
