"""Topics made and checked, on the embedded broker and on Apache Kafka alike."""

import uuid

import msgspec
import pytest

from monitor.broker.administration import Kind, apply_topics, verify_topics
from monitor.broker.clients import administrator
from monitor.broker.control_log import read_controls, write_control
from monitor.broker.tail import tail
from monitor.core.errors import AbsenceError
from monitor.wire.topics import Topics
from tests.broker.worlds import BOTH


@pytest.fixture(params=BOTH)
def connection(request):
    return request.getfixturevalue(request.param).connection


@pytest.fixture
def topics():
    return Topics(f"a{uuid.uuid4().hex[:8]}-", 3)


def make(connection, name, partitions, configs):
    with administrator(connection) as admin:
        wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
        admin.create_topics({name: wanted}, wait_for_metadata=True)


def test_topics_are_made_once_and_are_then_as_they_have_to_be(connection, topics):
    assert {one.kind for one in verify_topics(connection, topics)} == {Kind.MISSING}
    assert apply_topics(connection, topics) == [topic.name for topic in topics.all()]
    assert verify_topics(connection, topics) == []
    assert apply_topics(connection, topics) == []


def test_another_partition_count_is_a_fault_that_names_the_ways_out(connection, topics):
    apply_topics(connection, topics)
    found = {one.topic: one for one in verify_topics(connection, Topics(topics.prefix, 4))}
    assert {topics.access_events.name, topics.session_commands.name, topics.changelog.name} <= found.keys()
    fault = found[topics.access_events.name]
    assert fault.fails
    assert fault.what == "has 3 partitions, needs 4"
    assert "--partitions 3" in fault.advice


@pytest.mark.parametrize(
    ("configs", "what"),
    [
        (
            {"message.timestamp.type": "CreateTime"},
            "message.timestamp.type is CreateTime, must be LogAppendTime",
        ),
        ({"cleanup.policy": "compact"}, "cleanup.policy is compact, must be delete"),
        ({"retention.ms": "1000"}, "retention.ms is 1000, must be at least 604800000"),
        ({"max.message.bytes": "1000"}, "max.message.bytes is 1000, must be at least 1048588"),
    ],
)
def test_a_wrong_setting_is_a_fault_with_the_command_that_mends_it(connection, topics, configs, what):
    wrong = topics.access_events
    make(connection, wrong.name, wrong.partitions, wrong.configs | configs)
    apply_topics(connection, topics)
    (fault,) = verify_topics(connection, topics)
    assert (fault.topic, fault.what, fault.fails) == (wrong.name, what, True)
    assert f"--entity-name {wrong.name} --add-config {next(iter(configs))}=" in fault.advice


def test_more_than_asked_for_is_no_fault(connection, topics):
    generous = topics.access_events
    make(connection, generous.name, generous.partitions, generous.configs | {"retention.ms": "-1"})
    apply_topics(connection, topics)
    assert verify_topics(connection, topics) == []


def test_settings_that_are_not_told_are_a_doubt_and_no_failure(connection, topics, monkeypatch):
    apply_topics(connection, topics)
    monkeypatch.setattr("kafka.KafkaAdminClient.describe_configs", lambda *_, **__: {"topic": {}})
    found = verify_topics(connection, topics)
    assert {one.topic for one in found} == {topic.name for topic in topics.all()}
    assert {one.kind for one in found} == {Kind.UNKNOWN}
    assert not any(one.fails for one in found)


def test_a_refused_topic_is_named(connection):
    with pytest.raises(AbsenceError, match=r"refused to make topics: .*b@d-access-events"):
        apply_topics(connection, Topics("b@d-"))


def test_controls_are_written_and_read_in_order(connection, topics):
    apply_topics(connection, topics)
    assert read_controls(connection, topics) == []
    offsets = [
        write_control(connection, topics, key, value)
        for key, value in (("a", b"1"), ("b", b"2"), ("a", None))
    ]
    assert offsets == [0, 1, 2]
    found = read_controls(connection, topics)
    assert [(one.offset, one.key, one.value) for one in found] == [
        (0, b"a", b"1"),
        (1, b"b", b"2"),
        (2, b"a", None),
    ]
    assert [one.appended for one in found] == sorted(one.appended for one in found)


def test_a_control_without_its_topic_is_refused_and_none_is_made(connection, topics):
    with pytest.raises(
        AbsenceError, match=f"{topics.session_control.name} is not there: run session-monitor topics apply"
    ):
        write_control(connection, topics, "a", b"1")
    with pytest.raises(AbsenceError, match="is not there"):
        read_controls(connection, topics)
    with administrator(connection) as admin:
        assert topics.session_control.name not in admin.list_topics()


def test_a_tail_ends_or_follows(connection, topics):
    apply_topics(connection, topics)
    name = topics.session_control.name
    write_control(connection, topics, "a", b"before")
    assert [one.value for one in tail(connection, name, earliest=True, follow=False)] == [b"before"]
    assert list(tail(connection, name, follow=False)) == []
    following = tail(connection, name)
    assert next(following) is None
    write_control(connection, topics, "a", b"after")
    assert next(one for one in following if one is not None).value == b"after"
    following.close()
    again = tail(connection, name, earliest=True, partitions=[0])
    assert [next(one for one in again if one is not None).value for _ in range(2)] == [b"before", b"after"]
    again.close()


def test_a_tail_of_nothing_is_refused(connection, topics):
    with pytest.raises(AbsenceError, match=f"{topics.dead_letters.name} is not there"):
        next(tail(connection, topics.dead_letters.name))


def test_a_topic_struct_is_what_verify_compares(topics):
    """The catalogue itself has no fault."""
    for topic in topics.all():
        assert topic.faults(topic.partitions, topic.configs) == []
        assert msgspec.structs.replace(topic, partitions=9).faults(topic.partitions, topic.configs)
