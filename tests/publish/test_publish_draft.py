"""What may be said of a session, and that the wire reads it as it was meant."""

from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256

import pytest

from monitor.core.errors import InputError
from monitor.core.events import ActivityKind, Event, EventType, Principal, SourceAlive
from monitor.publish import hashed_session_id
from monitor.publish.draft import SOURCE_ALIVE, Draft, draft
from monitor.publish.encode import ALIVE_KEY, check_size, encode
from monitor.wire.events import decode_record

NOW = 1_795_500_000_123
EVERYTHING = {
    "subject": "alice@example.com",
    "principal": "service",
    "roles": ["b", "a", "b"],
    "classification": "restricted",
    "workload": "inference",
    "route": "/v1/models/fraud",
    "tenant": "acme",
    "client_ip": "10.0.0.1",
    "user_agent": "curl/8 ünïcode",
    "auth_time": NOW // 1000 - 60,
    "acr": "aal2",
    "expires": "2026-11-25T00:00:00+01:00",
    "kind": "inflight",
    "time": datetime.fromtimestamp(NOW / 1000, timezone(timedelta(hours=2))),
    "id": "e-1",
}


@pytest.mark.parametrize("cloudevents", [False, True])
@pytest.mark.parametrize("type_", list(EventType))
def test_the_wire_reads_what_was_said(type_, cloudevents):
    key, value, headers = encode(draft(type_, "s-1", EVERYTHING), NOW, "gateway/eu-1", cloudevents)
    assert key == b"s-1"
    assert bool(headers) is cloudevents
    assert decode_record(value, headers, key, NOW + 5) == Event(
        type=type_, session_id="s-1", time=NOW, appended=NOW + 5, activity=ActivityKind.INFLIGHT,
        subject="alice@example.com", principal=Principal.SERVICE, roles=("a", "b"), classification="restricted",
        workload="inference", route="/v1/models/fraud", tenant="acme", client_ip="10.0.0.1",
        user_agent="curl/8 ünïcode", auth_time=(NOW // 1000 - 60) * 1000 + 999, acr="aal2",
        expires=1_795_561_200_000, source="gateway/eu-1", id="e-1",
    )  # fmt: skip


def test_nothing_said_is_nothing_on_the_wire():
    _, value, headers = encode(
        draft("session.activity", "s", {"id": "x", "subject": None}), NOW, None, cloudevents=False
    )
    assert (
        value
        == b'{"type":"session.activity","session_id":"s","time":"%s","id":"x"}' % b"2026-11-24T06:00:00.123Z"
    )
    assert headers == []


def test_an_alive_reads_as_one():
    key, value, headers = encode(Draft(SOURCE_ALIVE, "", "i", final=True), NOW, "gw", cloudevents=True)
    assert key == ALIVE_KEY
    assert decode_record(value, headers, key, NOW + 1) == SourceAlive("gw", NOW, final=True)


def test_no_two_events_share_an_id():
    assert len({draft("session.activity", "s", {}).id for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("session_id", "said"),
    [
        ("", "session_id is empty"),
        ("~tick", "begins with '~'"),
        ("x" * 257, "257 characters; allowed are 1 to 256"),
        (b"bytes", "session_id is b'bytes'; it must be text"),
        (None, "session_id is None"),
        ("\ud800", "session_id can't be written as UTF-8"),
    ],
)
def test_a_bad_session_id_is_refused(session_id, said):
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        draft("session.opened", session_id, {})


def test_the_longest_session_id_is_taken():
    assert draft("session.opened", "x" * 256, {}).session_id == "x" * 256


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"principal": "robot"}, "principal is 'robot'; allowed are user, service"),
        ({"kind": "click"}, "kind is 'click'; allowed are human, agent, inflight, keepalive"),
        ({"roles": "admin"}, "roles is 'admin'; it must be a list of texts"),
        ({"roles": ["a", 1]}, "each of roles is 1; it must be text"),
        ({"roles": [f"r{n}" for n in range(65)]}, "roles has 65 entries; allowed are up to 64"),
        ({"subject": ""}, "subject is empty"),
        ({"route": 7}, "route is 7; it must be text"),
        ({"user_agent": "x" * 1025}, "user_agent has 1025 characters; allowed are up to 1024"),
        ({"auth_time": 1_795_500_000_123}, "auth_time is 1795500000123: .*seconds since 1970"),
        ({"auth_time": True}, "auth_time is True"),
        ({"expires": float("nan")}, "expires is nan"),
        ({"expires": "tomorrow"}, "expires is 'tomorrow': not an RFC 3339 instant"),
        ({"time": 12.5}, "time is 12.5; it must be a datetime or RFC 3339 text"),
        ({"time": datetime(2026, 11, 23)}, "time is 2026-11-23T00:00:00, which has no zone"),  # noqa: DTZ001
        ({"time": datetime(1969, 1, 1, tzinfo=UTC)}, "before 1970"),
        ({"clasification": "x"}, "no field 'clasification'; the fields are subject, classification"),
    ],
)
def test_a_bad_field_is_refused_by_name(fields, said):
    with pytest.raises(InputError, match=f"^session.activity: .*{said}"):
        draft("session.activity", "s", fields)


def test_a_record_above_64_kib_is_refused_where_it_is_made():
    roles = [f"{n:02d}" + "é" * 1000 for n in range(64)]
    event = draft("session.opened", "s", {"roles": roles})
    with pytest.raises(InputError, match="65536 are allowed"):
        check_size(event, None)
    check_size(draft("session.opened", "s", {"roles": roles[:30]}), None)


def test_a_raw_token_is_hashed():
    assert hashed_session_id("tökén") == sha256("tökén".encode()).hexdigest()
    with pytest.raises(InputError, match="empty"):
        hashed_session_id("")
