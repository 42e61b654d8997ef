"""Paths: one spelling where every program reads them alike, all readings where they don't."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.gateway.paths import LARGEST_UNCLEAR, MOST_READINGS, readings


@pytest.mark.parametrize(
    ("target", "spelling"),
    [
        ("/", ""),
        ("/v1/chats", "/v1/chats"),
        ("/v1/chats/", "/v1/chats"),
        ("/v1///chats//", "/v1/chats"),
        ("/v1/ch%61ts?a=%2F..", "/v1/chats"),
        ("/v1/%C3%A9%20x", "/v1/é x"),
        ("/v1/..x/.y/z.", "/v1/..x/.y/z."),
        ("/V1/Chats", "/V1/Chats"),
        ("/v1/a:b@c,d=e+f~g!$&'()*", "/v1/a:b@c,d=e+f~g!$&'()*"),
        ("/v1/%zz", "/v1/%zz"),
    ],
)
def test_what_all_read_alike_has_one_spelling(target, spelling) -> None:
    assert readings(target) == {spelling}


@pytest.mark.parametrize(
    "target",
    [
        "/public/../admin", "/public/./../admin/", "/public/%2e%2e/admin", "/public/.%2E/admin", "/public/%252e%252e/admin",
        "/public/..%2fadmin", "/public/..%5Cadmin", "/public/..\\admin", "/public%2f..%2fadmin", "/public/..;/admin", "/public/..;x=1/admin",
        "/public//../../admin", "//public/admin", "/admin%3fx", "/admin%23/public", "/admin;/", "/admin%00/public", "/public/%25252e./admin",
        "/public\\..\\admin", "/admin%3B/", "/a/b/..;/..;/../admin",
    ],
)  # fmt: skip
def test_whatever_some_program_may_take_for_the_admin_page_is_read_as_it_too(target) -> None:
    assert "/admin" in readings(target)
    assert len(readings(target)) > 1


def test_what_can_be_read_in_too_many_ways_or_takes_too_long_has_no_reading() -> None:
    assert readings("/a;" + "x" * LARGEST_UNCLEAR) == frozenset()
    assert readings("/" + "%25" * (MOST_READINGS + 3)) != frozenset()
    assert readings("//a/b;x/%3f/%5c..%2fz%252f;/..") == frozenset()


SEGMENTS = st.text(string.ascii_letters + string.digits + "-_~.", min_size=1, max_size=8).filter(lambda text: text not in (".", ".."))


@given(segments=st.lists(SEGMENTS, max_size=5), data=st.data())
def test_no_spelling_of_a_plain_path_gets_away_from_it(segments, data) -> None:
    """However letters are encoded and slashes doubled, it is the same path."""
    plain = "".join(f"/{segment}" for segment in segments)
    spelled = ""
    for at, letter in enumerate(plain + "/" * data.draw(st.integers(0, 2))):
        if letter == "/":
            spelled += "/" * (data.draw(st.integers(1, 3)) if at else 1)
        else:
            spelled += data.draw(st.sampled_from([letter, f"%{ord(letter):02x}", f"%{ord(letter):02X}"]))
    assert plain in readings(spelled or "/")


@given(st.text(st.sampled_from("/.;%25ef3bc0\\?#aA"), max_size=60))
def test_whatever_is_sent_has_few_readings_each_in_plain_form(text) -> None:
    for reading in readings("/" + text):
        assert "//" not in reading
        assert not reading.endswith("/")
