"""CloudEvents, with the SDK of the CloudEvents project as the second opinion."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings.kafka import (
    KafkaMessage,
    from_binary_event,
    from_kafka_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent

from monitor.core.events import ActivityKind, Event, EventType, SourceAlive
from monitor.wire.alerts import encode_alert
from monitor.wire.codec import Record
from monitor.wire.commands import encode_command, encode_watermark
from monitor.wire.controls import encode_control
from monitor.wire.events import decode_record
from monitor.wire.examples import ALERT, APPLIED, COMMANDS, CONTROLS, LIFECYCLES, NOON, REFUSED, STOPPED
from monitor.wire.lifecycle import encode_lifecycle
from monitor.wire.receipts import encode_receipt
from monitor.wire.times import parse_time

APPENDED = NOON + 1000
DATA = {"session_id": "s-1", "subject": "alice@example.com", "activity": "agent", "roles": ["b", "a"]}


def sdk_event(data: dict[str, Any] | None, **attributes: object) -> CloudEvent:
    said = {
        "id": "e-1", "source": "/gateway/eu-1", "type": "session.activity", "specversion": "1.0",
        "time": datetime(2026, 11, 23, 7, 9, 0, 123000, tzinfo=UTC), "datacontenttype": "application/json", **attributes,
    }  # fmt: skip
    return CloudEvent(said, data)


def read(message: KafkaMessage) -> Event | SourceAlive:
    key = message.key.encode() if isinstance(message.key, str) else message.key
    event = decode_record(message.value, list(message.headers.items()), key, APPENDED)
    assert isinstance(event, Event | SourceAlive)
    return event


@pytest.mark.parametrize("mode", [to_binary_event, to_structured_event])
def test_what_the_sdk_writes_is_read(mode: Any) -> None:
    wanted = Event(
        EventType.ACTIVITY, "s-1", NOON, APPENDED, ActivityKind.AGENT, subject="alice@example.com", roles=("a", "b"),
        source="/gateway/eu-1", id="e-1",
    )  # fmt: skip
    assert read(mode(sdk_event(DATA))) == wanted
    assert read(mode(sdk_event(DATA, subject="something else", partitionkey="p-1", traceparent="00-1"))) == wanted


@pytest.mark.parametrize("mode", [to_binary_event, to_structured_event])
def test_an_event_without_data_is_about_its_subject(mode: Any) -> None:
    event = read(mode(sdk_event(None, type="session.closed", subject="s-9")))
    assert isinstance(event, Event)
    assert (event.type, event.session_id, event.subject) == (EventType.CLOSED, "s-9", None)


@pytest.mark.parametrize("mode", [to_binary_event, to_structured_event])
def test_the_partition_key_is_the_session_where_nothing_else_names_it(mode: Any) -> None:
    message = mode(sdk_event({"subject": "alice"}, partitionkey="s-7"))
    event = read(message)
    assert isinstance(event, Event)
    assert (message.key, event.session_id, event.subject) == ("s-7", "s-7", "alice")


@pytest.mark.parametrize("mode", [to_binary_event, to_structured_event])
def test_alives_may_be_cloudevents(mode: Any) -> None:
    assert read(mode(sdk_event({"final": True}, type="source.alive"))) == SourceAlive("/gateway/eu-1", NOON, True)


OURS = [
    *[encode_command(command, NOON) for command in COMMANDS],
    encode_watermark(3, NOON, NOON, 77, NOON, owner="w", api=None),
    *[encode_control(control, NOON) for control in CONTROLS],
    *[encode_receipt(receipt) for receipt in (APPLIED, REFUSED, STOPPED)],
    *[encode_lifecycle(lifecycle) for lifecycle in LIFECYCLES],
    encode_alert(ALERT),
]


@pytest.mark.parametrize("record", OURS)
def test_the_sdk_reads_what_we_write(record: Record) -> None:
    assert record.value is not None
    message = KafkaMessage(dict(record.headers), record.key, record.value)
    for reads in (from_binary_event, from_kafka_event):
        event = reads(message)  # it validates the attributes
        said = orjson.loads(record.value)
        assert event.get_data() == said
        assert event.get_type() == said.get("type", "monitor.alert")
        time = event.get_time()
        assert time is not None
        assert parse_time(time.isoformat()) >= NOON
        assert event.get_id()
        assert event.get_source()


def test_the_same_decision_has_the_same_source_and_id_whoever_writes_it_and_when() -> None:
    first, again = (dict(encode_command(COMMANDS[0], at).headers) for at in (NOON, NOON + 5000))
    assert [first[name] for name in ("ce_source", "ce_id")] == [again[name] for name in ("ce_source", "ce_id")]
    assert first["ce_time"] != again["ce_time"]
