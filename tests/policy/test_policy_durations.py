"""Durations are read as written, and written as they are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.errors import InputError
from monitor.core.instants import NEVER
from monitor.policy.durations import LONGEST, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("15m", 900_000),
        ("12h", 43_200_000),
        ("500ms", 500),
        ("2s", 2000),
        ("1h30m", 5_400_000),
        ("4d", 345_600_000),
        ("1m500ms", 60_500),
        ("90m", 5_400_000),
        ("0s", 0),
        ("3650d", LONGEST),
    ],
)
def test_reading(text, millis):
    assert parse_duration(text) == millis


@pytest.mark.parametrize(
    "text",
    [
        "",
        "15",
        "m",
        "15 m",
        "m15",
        "1.5h",
        "-1h",
        "30m1h",
        "1h1h",
        "15M",
        "1w",
        "none",
        "3651d",
        "٣m",
        "1h\n",
    ],
)
def test_refusing(text):
    with pytest.raises(InputError, match=r"write it like 15m|written none"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("millis", "text"),
    [
        (86_400_000, "24h"),
        (129_600_000, "36h"),
        (345_600_000, "4d"),
        (5_400_000, "1h30m"),
        (0, "0s"),
        (NEVER, "none"),
        (None, "none"),
    ],
)
def test_writing(millis, text):
    assert format_duration(millis) == text


@given(st.integers(0, LONGEST))
def test_what_is_written_is_read_back(millis):
    assert parse_duration(format_duration(millis)) == millis
