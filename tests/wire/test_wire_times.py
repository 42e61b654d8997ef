"""Instants on the wire, held against the standard library and against each other."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.core.errors import InvariantError
from monitor.wire import times
from monitor.wire.bad_record import BadTime, DeadLetterReason
from monitor.wire.times import LATEST, format_time, parse_auth_time, parse_expires, parse_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INSTANTS = st.integers(0, LATEST)


@given(INSTANTS)
@example(0)
@example(LATEST)
def test_what_is_written_is_read_back(millis: int) -> None:
    text = format_time(millis)
    assert len(text) == 24
    assert datetime.fromisoformat(text) == EPOCH + timedelta(milliseconds=millis)
    assert parse_time(text) == millis
    assert parse_time(text) == millis  # now from the cache


@given(INSTANTS, st.integers(-1439, 1439), st.integers(0, 12), st.booleans())
def test_any_zone_and_any_fraction(millis: int, offset: int, digits: int, lower: bool) -> None:
    moment = (EPOCH + timedelta(days=1, milliseconds=millis // 2)).astimezone(timezone(timedelta(minutes=offset)))
    fraction = f"{moment.microsecond:06d}999999"[:digits]
    sign = "-" if offset < 0 else "+"
    text = moment.strftime("%Y-%m-%dT%H:%M:%S") + ("." + fraction if fraction else "")
    text += f"{sign}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    since = moment.replace(microsecond=0) - EPOCH
    wanted = (since.days * 86400 + since.seconds) * 1000 + int(f"{fraction[:3]:0<3}")
    assert parse_time(text.lower() if lower else text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-11-23", "2026-11-23T07:09:00", "2026-11-23T07:09:00.123", "2026-11-23T07:09Z", "2026-11-23 07:09:00Z",
        "2026-11-23T07:09:00,5Z", "2026-11-23T07:09:00.Z", "2026-11-23T7:09:00Z", "2026-02-30T00:00:00Z", "2026-11-23T24:00:00Z",
        "2026-11-23T07:60:00Z", "2026-11-23T07:09:61Z", "2026-11-23T07:09:00+24:00", "2026-11-23T07:09:00+01:60",
        "2026-11-23T07:09:00+0100", "2026-11-23T07:09:00.123Z\n", " 2026-11-23T07:09:00.123Z", "2026-11-23T07:09:00. 12Z",
        "2026-11-23T07:09:00.+12Z", "2026-11-23T07:09:00.1_2Z", "2026-11-23T07:09:00.\u0661\u0662\u0663Z", "2026-11-23T07:09:00.\u00b2\u00b2\u00b2Z",
        "1969-12-31T23:59:59.999Z", "2201-01-01T00:00:00.000Z", "1970-01-01T00:00:00+00:01", "0000-01-01T00:00:00Z", "+2026-11-23T07:09:00Z",
    ],
)  # fmt: skip
@pytest.mark.parametrize("met", [False, True])
def test_what_is_no_instant_is_refused(text: str, met: bool) -> None:
    times._seconds.clear()
    if met:
        parse_time("2026-11-23T07:09:00.000Z")
    with pytest.raises(BadTime) as refused:
        parse_time(text)
    assert refused.value.reason is DeadLetterReason.BAD_TIME


def test_the_leap_second_is_the_last_millisecond_of_its_minute_cached_or_not() -> None:
    times._seconds.clear()
    last = 1_483_228_799_999
    for _ in range(2):
        assert parse_time("2016-12-31T23:59:60.000Z") == last
        assert parse_time("2016-12-31T23:59:60.500Z") == last
        assert parse_time("2016-12-31T23:59:60Z") == last
        assert parse_time("1990-12-31T15:59:60-08:00") == 662_687_999_999


def test_the_caches_are_bounded() -> None:
    for second in range(2 * times._CACHED + 5):
        assert parse_time(format_time(second * 1000 + 7)) == second * 1000 + 7
    assert len(times._seconds) <= times._CACHED
    assert len(times._prefixes) <= times._CACHED


@pytest.mark.parametrize("millis", [-1, 253_402_300_800_000, 1 << 60])
def test_what_can_not_be_written_is_our_error(millis: int) -> None:
    with pytest.raises(InvariantError):
        format_time(millis)


@pytest.mark.parametrize(
    ("value", "auth_time", "expires"),
    [
        (0, 999, 0),
        (1795417200, 1_795_417_200_999, 1_795_417_200_000),
        (1795417200.0, 1_795_417_200_999, 1_795_417_200_000),
        (1795417200.25, 1_795_417_200_250, 1_795_417_200_250),
        (1795417200.123, 1_795_417_200_123, 1_795_417_200_123),
        ("2026-11-23T07:00:00Z", 1_795_417_200_000, 1_795_417_200_000),
    ],
)
def test_numbers_are_seconds_as_in_a_jwt(value: str | float, auth_time: int, expires: int) -> None:
    assert parse_auth_time(value) == auth_time
    assert parse_expires(value) == expires


@given(st.integers() | st.floats() | st.text(max_size=30))
@example(float("nan"))
@example(float("inf"))
@example(LATEST / 1000)
@example(LATEST // 1000)
@example(1795417200123)
@example(-0.0)
def test_any_number_or_text_is_an_instant_or_a_bad_record(value: str | float) -> None:
    for parse in (parse_auth_time, parse_expires):
        with contextlib.suppress(BadTime):
            assert 0 <= parse(value) <= LATEST
