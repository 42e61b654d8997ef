"""Access events: golden vectors, kinds, and bytes that nobody would think of."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.events import ACTIVITY_KINDS, ActivityKind, Event, Principal, SourceAlive, Tick
from monitor.wire.bad_record import BadRecord
from monitor.wire.events import (
    MAX_RECORD_BYTES,
    AccessEvent,
    activity_kind,
    decode_access_event,
    decode_record,
    encode_access_event,
    encode_source_alive,
    encode_tick,
    read_access_event,
    to_event,
    with_time,
)

APPENDED = 1_795_500_000_000
VECTORS = [orjson.loads(line) for line in Path(__file__).parents[1].joinpath("data/access_events.ndjson").read_bytes().splitlines()]


def written(vector: dict[str, Any]) -> tuple[bytes | None, list[tuple[str, bytes]], bytes | None]:
    value = None if vector["record"] is None else orjson.dumps(vector["record"])
    headers = [(name, text.encode()) for name, text in vector.get("headers", {}).items()]
    return value, headers, vector["key"].encode() if "key" in vector else None


def expected(vector: dict[str, Any]) -> Event | SourceAlive | Tick:
    said = dict(vector["expected"])
    kind = said.pop("kind")
    if kind == "Event":
        said["activity"] = ACTIVITY_KINDS[said["activity"]]
        if "roles" in said:
            said["roles"] = tuple(said["roles"])
    return {"Event": Event, "SourceAlive": SourceAlive, "Tick": Tick}[kind](**said)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"].replace(" ", "-") for vector in VECTORS])
def test_golden(vector: dict[str, Any]) -> None:
    value, headers, key = written(vector)
    assert decode_record(value, headers, key, vector["appended"]) == expected(vector)


@pytest.mark.parametrize("vector", [v for v in VECTORS if "headers" not in v], ids=lambda v: v["name"].replace(" ", "-"))
def test_the_hot_way_reads_the_same(vector: dict[str, Any]) -> None:
    value, _, _ = written(vector)
    said = decode_access_event(value)
    assert said.specversion is None
    assert said == read_access_event(value, ())
    if vector["expected"]["kind"] == "Event":
        assert to_event(said, appended=vector["appended"]) == expected(vector)


@pytest.mark.parametrize(
    ("word", "principal", "kind"),
    [
        (None, None, ActivityKind.HUMAN),
        (None, Principal.USER, ActivityKind.HUMAN),
        (None, Principal.SERVICE, ActivityKind.AGENT),
        ("human", Principal.SERVICE, ActivityKind.HUMAN),
        ("inflight", None, ActivityKind.INFLIGHT),
        ("keepalive", None, ActivityKind.KEEPALIVE),
        ("HUMAN", None, ActivityKind.KEEPALIVE),
        ("", None, ActivityKind.KEEPALIVE),
    ],
)
def test_kinds(word: str | None, principal: Principal | None, kind: ActivityKind) -> None:
    assert activity_kind(word, principal) is kind


def test_without_a_word_the_sessions_principal_decides_unless_the_event_names_one() -> None:
    known = {"s-1": Principal.SERVICE}
    for said, kind in (("", ActivityKind.AGENT), (',"principal":"user"', ActivityKind.HUMAN), (',"activity":"human"', ActivityKind.HUMAN)):
        value = f'{{"type":"session.activity","session_id":"s-1"{said}}}'.encode()
        event = decode_record(value, (), None, APPENDED, principal_of=known.get)
        assert isinstance(event, Event)
        assert event.activity is kind


def test_a_value_of_exactly_64_kib_is_read() -> None:
    head, tail = b'{"type":"session.activity","session_id":"s-1","pad":"', b'"}'
    value = head + b"x" * (MAX_RECORD_BYTES - len(head) - len(tail)) + tail
    assert len(value) == MAX_RECORD_BYTES
    assert decode_access_event(value).session_id == "s-1"


def test_64_levels_are_read_and_brackets_in_texts_do_not_count() -> None:
    deep = b'{"type":"session.opened","session_id":"s","pad":' + b"[" * 63 + b"]" * 63
    assert decode_access_event(deep + b',"more":"' + b"[{" * 500 + b'\\"[["}').session_id == "s"
    with pytest.raises(BadRecord, match="deeper"):
        decode_access_event(deep.replace(b'"pad":', b'"pad":[') + b',"more":"' + b"x" * 500 + b'"}')


def test_a_written_event_is_read_back() -> None:
    event = AccessEvent(type="session.activity", session_id="s-ü", subject="alice", roles=("a", "b"), auth_time=1795417200)
    record = encode_access_event(event)
    assert (record.key, record.headers) == ("s-ü".encode(), [])
    assert decode_access_event(record.value) == event
    assert record.value is not None
    assert b"null" not in record.value


def test_ticks_and_alives_are_read_back() -> None:
    assert decode_record(encode_tick(Tick("w", 3)), (), b"~tick", APPENDED) == Tick("w", 3)
    for final in (False, True):
        alive = SourceAlive("g", APPENDED - 7, final)
        assert decode_record(encode_source_alive(alive), (), None, APPENDED) == alive


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (b'{"type":"session.activity","session_id":"s"}', APPENDED),
        (b'{"type":"session.activity","session_id":"s","time":null,"expires":1795500000.5}', APPENDED),
        (b'{"type":"session.activity","session_id":"s","time":"2026-11-23T07:09:00.123Z"}', 1_795_417_740_123),
        (b'{"specversion":"1.0","id":"e","source":"g","type":"session.activity","data":{"session_id":"s"}}', APPENDED),
        (
            b'{"specversion":"1.0","id":"e","source":"g","type":"session.closed","data":{"session_id":"s","time":"2026-11-23T07:09:00.123Z"}}',
            1_795_417_740_123,
        ),
    ],
)
def test_an_event_written_anew_keeps_its_time_or_gets_its_append_time(value: bytes, time: int) -> None:
    event = decode_record(with_time(value, APPENDED), (), None, APPENDED + 60_000)
    assert isinstance(event, Event)
    assert (event.time, event.session_id) == (time, "s")


def test_a_cloudevent_without_data_that_is_written_anew_gets_its_append_time() -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"e"), ("ce_source", b"g"), ("ce_type", b"session.closed"), ("ce_subject", b"s")]
    event = decode_record(with_time(b"", APPENDED), headers, None, APPENDED + 60_000)
    assert isinstance(event, Event)
    assert event.time == APPENDED


# --- bytes that nobody would think of ----------------------------------------------------------------

NAMES = st.sampled_from([*AccessEvent.__struct_fields__, "data", "data_base64", "partitionkey", "datacontenttype", "x"])
WORDS = st.sampled_from(["session.activity", "source.alive", "monitor.tick", "1.0", "2026-11-23T07:09:00Z", "s-1", "~", "service", "e30="])
SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=12) | WORDS
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=20)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "content-type", "x"]),
        st.none() | st.binary(max_size=6) | st.sampled_from([b"1.0", b"session.closed", b"application/cloudevents+json", b"application/json"]),
    ),
    max_size=7,
)


def loose(value: object) -> str:
    """JSON as sloppy writers make it: NaN, lone surrogates, doubled members."""
    if isinstance(value, dict):
        pairs = [f"{loose(name)}:{loose(item)}" for name, item in value.items()]
        return "{" + ",".join(pairs + pairs[:1]) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(loose, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(c if c.isalnum() or c in ".:-~=" else f"\\u{ord(c) & 0xFFFF:04x}" for c in value) + '"'
    return {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else str(value)  # type: ignore[return-value]


def survives(value: bytes | None, headers: list[tuple[str, bytes | None]], key: bytes | None = None) -> None:
    try:
        event = decode_record(value, headers, key, APPENDED)
    except BadRecord as bad:
        str(bad).encode()
    else:
        assert isinstance(event, Tick) or event.time <= APPENDED


@given(value=st.none() | st.binary(max_size=200), headers=HEADERS)
def test_any_bytes_are_an_event_or_a_bad_record(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    survives(value, headers)


@given(value=st.dictionaries(NAMES, JSON, max_size=12), headers=HEADERS, key=st.none() | st.just(b"~tick"))
def test_any_json_is_an_event_or_a_bad_record(
    value: dict[str, object], headers: list[tuple[str, bytes | None]], key: bytes | None
) -> None:
    survives(loose(value).encode("utf-8", "surrogatepass"), headers, key)
    survives(loose(value).encode("utf-8", "surrogatepass"), [], key)


@given(st.binary(min_size=1, max_size=3), st.integers(0, 120))
def test_an_event_with_damaged_bytes_is_an_event_or_a_bad_record(damage: bytes, place: int) -> None:
    value = b'{"type":"session.activity","session_id":"s-1","time":"2026-11-23T07:09:00.123Z","roles":["a"],"auth_time":1795417200}'
    survives(value[:place] + damage + value[place + len(damage) :], [])
