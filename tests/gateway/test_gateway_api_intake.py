"""Events over HTTP: what is taken, as the worker will understand it, and what is refused, and why."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.events import Event
from monitor.gateway.api import bodies, intake
from monitor.gateway.api.intake import judge, read_events
from monitor.gateway.api.problems import Refused
from monitor.gateway.metrics import GatewayMetrics
from monitor.wire.bad_record import BadRecord
from monitor.wire.events import MAX_RECORD_BYTES, decode_record
from monitor.wire.examples import examples
from tests.gateway.calling import HOLDER, NOW, Log, api, call, scope

BARE, ONE, BATCH = "application/json", "application/cloudevents+json", "application/cloudevents-batch+json"
EVENT = {"type": "session.activity", "session_id": "s-1", "activity": "agent"}
CLOUDEVENT = {"specversion": "1.0", "id": "e-1", "source": "/gw", "type": "session.activity", "data": {"session_id": "s-1"}}


async def post(body, media=BARE, headers=(), *, called=None, parts=None):
    called = called or api()
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = [*HOLDER.items(), *([("Content-Type", media)] if media else []), *(headers.items() if isinstance(headers, dict) else headers)]
    return await call(called.app, "/v1/events", said, raw, method="POST", parts=parts), called.log


def bad(answered) -> list[tuple[int, str]]:
    return [(one["index"], one["reason"]) for one in answered.problem["events"]]


class TestWhatIsTaken:
    """Each of the forms."""

    async def test_a_bare_event(self) -> None:
        answered, log = await post(EVENT)
        assert (answered.status, answered.problem) == (202, {"published": 1})
        assert log.events == [EVENT]
        assert log.posts[0].record.key == b"s-1"

    @pytest.mark.parametrize("said", examples()["access-event"])
    async def test_every_example_of_the_schema_as_the_worker_reads_it(self, said) -> None:
        answered, log = await post(said, "application/json; charset=UTF-8")
        assert answered.status == 202
        key, value, headers = log.posts[0].record
        assert decode_record(value, headers, key, NOW) == decode_record(json.dumps(said).encode(), [], key, NOW)

    @pytest.mark.parametrize("mode", [to_binary_event, to_structured_event])
    async def test_what_the_sdk_of_cloudevents_writes(self, mode) -> None:
        attributes = {
            "id": "e-1 %ü", "source": "/gateway/eu-1", "type": "session.activity", "specversion": "1.0", "datacontenttype": "application/json",
            "subject": "s-ü", "traceparent": "00-1", "time": datetime(2026, 11, 23, 7, 9, tzinfo=UTC),
        }  # fmt: skip
        message = mode(CloudEvent(attributes, {"roles": ["b", "a"], "activity": "agent"}))
        headers = {name.lower(): value for name, value in message.headers.items()}
        answered, log = await post(message.body, headers.pop("content-type"), headers)
        assert answered.status == 202
        assert log.events == [{
            "type": "session.activity", "session_id": "s-ü", "time": "2026-11-23T07:09:00Z", "id": "e-1 %ü", "source": "/gateway/eu-1",
            "roles": ["b", "a"], "activity": "agent",
        }]  # fmt: skip

    async def test_a_binary_event_without_data_needs_no_content_type(self) -> None:
        headers = {"ce-specversion": "1.0", "ce-id": "e-1", "ce-source": '"/a \\"b\\""', "ce-type": "session.closed", "ce-subject": "s-1"}
        answered, log = await post(b"", None, headers)
        assert answered.status == 202
        assert log.events == [{"type": "session.closed", "session_id": "s-1", "id": "e-1", "source": '/a "b"'}]

    async def test_a_batch(self) -> None:
        answered, log = await post([CLOUDEVENT | {"id": f"e-{n}"} for n in range(150)], BATCH)
        assert answered.problem == {"published": 150}
        assert [one["id"] for one in log.events] == [f"e-{n}" for n in range(150)]

    async def test_an_empty_batch(self) -> None:
        answered, log = await post([], BATCH)
        assert (answered.status, answered.problem, log.posts) == (202, {"published": 0}, [])

    async def test_a_source_that_is_alive_tells_every_partition(self) -> None:
        said = {"type": "source.alive", "source": "gw/1", "time": "2026-11-23T07:09:00.123Z", "final": True}
        _, log = await post(said)
        (one,) = log.posts
        assert (one.everywhere, one.record.key, json.loads(one.record.value)) == (True, b"~alive", said)

    async def test_what_only_the_monitor_says_is_left_out(self) -> None:
        _, log = await post(EVENT | {"owner": "me", "controls_to": 7, "final": True, "more": {"a": 1}})
        assert log.events == [EVENT]

    async def test_a_body_may_come_in_parts(self) -> None:
        raw = json.dumps(EVENT).encode()
        answered, log = await post(None, parts=[raw[:7], b"", raw[7:]])
        assert (answered.status, log.events) == (202, [EVENT])


class TestWhatIsRefused:
    """With the place and the reason, and nothing of what was sent."""

    @pytest.mark.parametrize(
        ("said", "status", "reason", "detail"),
        [
            (b"", 400, "empty", "no bytes"),
            (b"{", 400, "not_json", "not one JSON object"),
            (b"[]", 400, "not_an_object", "not an object"),
            (b'{"type":"session.opened","session_id":"\xff"}', 400, "not_utf8", "UTF-8"),
            (b'{"a":' + b"[" * 600 + b"]" * 600 + b"}", 400, "too_deep", "64 levels"),
            ({"type": "session.opened"}, 422, "missing_field", "session_id"),
            ({"session_id": "secret"}, 422, "missing_field", "type"),
            (EVENT | {"type": "secret"}, 422, "unknown_type", "session.opened, session.activity"),
            (EVENT | {"type": "monitor.tick", "owner": "secret", "controls_to": 1}, 422, "reserved_type", "the monitor's own"),
            (EVENT | {"type": "monitor.secret"}, 422, "reserved_type", "the monitor's own"),
            (EVENT | {"session_id": "~secret"}, 422, "bad_value", "'~'"),
            (EVENT | {"session_id": "secret" * 50}, 422, "too_long", "session_id"),
            (EVENT | {"time": "secret"}, 422, "bad_time", "time: not an RFC 3339"),
            (EVENT | {"auth_time": True}, 422, "wrong_type", "auth_time must be"),
            (EVENT | {"roles": "secret"}, 422, "wrong_type", "roles must be a list"),
            (EVENT | {"principal": "secret"}, 422, "bad_value", "user, service"),
            ({"type": "source.alive", "source": "secret"}, 422, "missing_field", "time"),
            (CLOUDEVENT | {"specversion": "0.3"}, 422, "unsupported_cloudevent", "must be 1.0"),
            (EVENT | {"pad": "x" * MAX_RECORD_BYTES}, 413, "too_large", str(MAX_RECORD_BYTES)),
        ],
    )  # fmt: skip
    async def test_one_event(self, said, status, reason, detail) -> None:
        answered, log = await post(said)
        assert (answered.status, bad(answered), log.posts) == (status, [(0, reason)], [])
        assert detail in answered.problem["events"][0]["detail"]
        assert b"secret" not in answered.body
        assert answered.problem["published"] == 0

    async def test_of_a_batch_none_is_published_unless_all_are_good(self) -> None:
        batch = [CLOUDEVENT, CLOUDEVENT | {"type": "monitor.tick"}, CLOUDEVENT, {"specversion": "1.0"}, 7]
        answered, log = await post(batch, BATCH)
        assert (answered.status, log.posts) == (422, [])
        assert bad(answered) == [(1, "reserved_type"), (3, "missing_field"), (4, "not_an_object")]

    async def test_of_many_bad_events_the_first_are_named(self) -> None:
        answered, _ = await post([7] * 100, BATCH)
        assert (answered.status, len(answered.problem["events"])) == (422, intake.SHOWN)
        assert answered.problem["detail"].startswith("100 of 100 events")

    async def test_attributes_on_top_of_the_largest_data(self) -> None:
        data = json.dumps({"session_id": "s-1", "roles": ["x" * 1000] * 64, "route": "y" * 1000}).encode()
        headers = {"ce-specversion": "1.0", "ce-id": "i" * 1000, "ce-source": "s", "ce-type": "session.opened", "ce-time": "2026-11-23T07:09:00Z"}
        assert len(data) < MAX_RECORD_BYTES
        answered, _ = await post(data, BARE, headers)
        assert (answered.status, bad(answered)) == (413, [(0, "too_large")])

    @pytest.mark.parametrize("body", [b"", b"{}", b"[", b"7", b"\xff", b"[" * 100_000])
    async def test_a_batch_that_is_none(self, body) -> None:
        answered, _ = await post(body, BATCH)
        assert (answered.status, answered.problem["reason"]) == (400, "events_unreadable")

    @pytest.mark.parametrize(
        "headers",
        [
            [], [("Content-Type", "text/plain")], [("Content-Type", "application/cloudevents+avro")], [("Content-Type", "application/json; charset=latin-1")],
            [("Content-Type", BARE), ("Content-Type", ONE)], [("Content-Type", "application/x-www-form-urlencoded")],
            [("Content-Type", BARE), ("Content-Encoding", "gzip")], [("ce-specversion", "1.0"), ("ce-id", "1")],
        ],
    )  # fmt: skip
    async def test_a_body_of_another_kind(self, headers) -> None:
        answered, log = await post(EVENT, None, headers)
        assert (answered.status, answered.problem["reason"], log.posts) == (415, "media_type_unsupported", [])

    async def test_too_many_events(self) -> None:
        answered, _ = await post([CLOUDEVENT] * (intake.MOST + 1), BATCH)
        assert (answered.status, answered.problem["reason"]) == (413, "body_too_large")

    @pytest.mark.parametrize("length", [str(bodies.LARGEST + 1), "9" * 40])
    async def test_a_body_that_says_it_is_too_large_is_not_read(self, length) -> None:
        answered, _ = await post(None, headers={"Content-Length": length}, parts=[])
        assert answered.status == 413

    async def test_one_that_does_not_say_it_is_read_up_to_the_bound(self) -> None:
        part = b"x" * (bodies.LARGEST // 4)
        # Whoever asks for one part more sees the client go, and answers nothing.
        answered, _ = await post(None, parts=[part, part, part, part, b"x", None])
        assert (answered.status, answered.problem["reason"]) == (413, "body_too_large")

    async def test_a_slow_one_is_not_waited_for(self, monkeypatch) -> None:
        monkeypatch.setattr(bodies, "SECONDS", 0.01)
        sent = []

        async def receive():
            await asyncio.sleep(0.001)
            return {"type": "http.request", "body": b" ", "more_body": True}

        async def send(message):
            sent.append(message)

        await api().app(scope("/v1/events", HOLDER | {"Content-Type": BARE}, "POST"), receive, send)
        assert sent[0]["status"] == 408

    async def test_who_goes_is_not_answered(self) -> None:
        called, sent = api(), []

        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        await called.app(scope("/v1/events", HOLDER | {"Content-Type": BARE}, "POST"), receive, send)
        assert (sent, called.log.posts) == ([], [])

    async def test_more_than_can_be_held_wait_outside(self, monkeypatch) -> None:
        monkeypatch.setattr(intake, "AT_ONCE", 1)
        called, waiting = api(), asyncio.Event()

        async def receive():
            await waiting.wait()
            return {"type": "http.request", "body": json.dumps(EVENT).encode()}

        sent = []

        async def send(message):
            sent.append(message)

        first = asyncio.create_task(called.app(scope("/v1/events", HOLDER | {"Content-Type": BARE}, "POST"), receive, send))
        await asyncio.sleep(0)
        answered, _ = await post(EVENT, called=called)
        assert (answered.status, answered.headers["retry-after"], answered.problem["reason"]) == (503, "5", "busy")
        waiting.set()
        await first
        assert sent[0]["status"] == 202
        assert (await post(EVENT, called=called))[0].status == 202


class TestWhatIsLost:
    """When the broker does not acknowledge."""

    async def test_who_published_learns_which_ones(self) -> None:
        log = Log()
        log.loses = (1, 2)
        answered, _ = await post([CLOUDEVENT] * 4, BATCH, called=api(log=log))
        assert (answered.status, answered.headers["retry-after"]) == (503, "5")
        problem = answered.problem
        assert (problem["reason"], problem["published"], problem["unpublished"]) == ("not_published", 2, [1, 2])
        assert problem["detail"].startswith("2 of 4 events are not known to be on the log: told to lose them")

    async def test_everything_is_counted(self) -> None:
        metrics, log = GatewayMetrics(), Log()
        called = api(log=log, metrics=metrics)
        await post([CLOUDEVENT] * 3, BATCH, called=called)
        await post([CLOUDEVENT, 7], BATCH, called=called)
        log.loses = (0,)
        await post([CLOUDEVENT] * 5, BATCH, called=called)
        name = "session_monitor_gateway_api_events_total"
        counted = {outcome: metrics.registry.get_sample_value(name, {"outcome": outcome}) for outcome in ("published", "refused", "lost")}
        assert counted == {"published": 7, "refused": 2, "lost": 1}


NAMES = st.sampled_from(["content-type", "ce-specversion", "ce-id", "ce-type", "ce-source", "ce-subject", "ce-time", "ce-", "ce-data"]).map(str.encode)
VALUES = st.sampled_from([
    BARE, ONE, BATCH, "1.0", "session.opened", "source.alive", "s-1", "%", "%ff", '"', '"a"', "2026-11-23T07:09:00Z", "é", "",
]).map(str.encode) | st.binary(max_size=20)  # fmt: skip
PARTS = st.sampled_from([json.dumps(one) for one in (EVENT, CLOUDEVENT, [CLOUDEVENT], [7, None], {"data_base64": "e30=", **CLOUDEVENT})]) | st.sampled_from(
    ['"\\ud800"', "{", "}", "[", "]", ",", ":", "1e400", "-0", '"session_id"', '"type"', "null", "true", "\x00", "é"]
)
BODIES = st.binary(max_size=60) | st.lists(PARTS, max_size=6).map(lambda parts: "".join(parts).encode()) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([*EVENT, *CLOUDEVENT, "roles", "time", "auth_time", "expires", "subject"]) | st.text(max_size=4), inner, max_size=6
    ), max_leaves=12,
).map(lambda said: json.dumps(said).encode())  # fmt: skip


@given(st.lists(st.tuples(NAMES, VALUES), max_size=7), BODIES)
def test_whatever_comes_it_is_refused_or_the_worker_understands_it(headers, body) -> None:
    try:
        posts = [judge(said, NOW) for said in read_events(headers, body)]
    except (Refused, BadRecord):
        return
    for post_ in posts:
        key, value, said = post_.record
        understood = decode_record(value, said, key, NOW)
        assert post_.everywhere or (isinstance(understood, Event) and understood.session_id.encode() == key)
