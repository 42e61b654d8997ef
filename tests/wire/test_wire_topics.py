"""The catalogue says what DESIGN section 3 promises, and finds what breaks it."""

import pytest

from monitor.core.instants import DAY, HOUR
from monitor.wire.topics import Topic, Topics


def test_names_and_partitions() -> None:
    topics = Topics(partitions=12)
    assert {topic.name: topic.partitions for topic in topics.all()} == {
        "access-events": 12, "session-commands": 12, "session-monitor-sessions-changelog": 12, "session-control": 1,
        "session-lifecycle": 12, "session-monitor-detection-state-changelog": 12, "session-alerts": 1, "enforcement-receipts": 1, "dead-letters": 1,
    }  # fmt: skip
    assert topics.co_partitioned() == (topics.access_events, topics.session_commands, topics.changelog)


def test_a_prefix_stands_before_every_name_and_the_engines_id() -> None:
    topics = Topics(prefix="eu.", app_id="mon")
    assert all(topic.name.startswith("eu.") for topic in topics.all())
    assert topics.changelog.name == f"{topics.app_id}-sessions-changelog" == "eu.mon-sessions-changelog"
    assert topics.detection_changelog.name == f"{topics.detection_id}-state-changelog" == "eu.mon-detection-state-changelog"


def test_settings_that_promises_rest_on() -> None:
    topics = Topics()
    for topic in (topics.access_events, topics.session_control, topics.session_commands):
        assert topic.configs["message.timestamp.type"] == "LogAppendTime"
    for topic in (topics.session_commands, topics.changelog):
        assert (topic.cleanup, int(topic.configs["min.compaction.lag.ms"]) >= HOUR) == ("compact", True)
    retention = int(topics.access_events.configs["retention.ms"])
    assert retention >= 7 * DAY
    for name in ("min.compaction.lag.ms", "delete.retention.ms"):
        assert int(topics.session_control.configs[name]) >= retention
    assert int(topics.session_lifecycle.configs["retention.ms"]) == 30 * DAY
    largest = int(topics.access_events.configs["max.message.bytes"])
    assert int(topics.dead_letters.configs["max.message.bytes"]) == largest + 64 * 1024


@pytest.mark.parametrize("topic", Topics().all(), ids=lambda topic: topic.name)
def test_what_was_created_from_the_catalogue_has_no_faults(topic: Topic) -> None:
    assert topic.faults(topic.partitions, topic.configs) == []
    larger = {name: str(least * 2) for name, least in topic.at_least.items()}
    unlimited = dict.fromkeys(topic.at_least, "-1")
    for settings in (larger, unlimited):
        assert topic.faults(topic.partitions, topic.configs | settings) == []


@pytest.mark.parametrize("topic", Topics().all(), ids=lambda topic: topic.name)
def test_each_setting_that_is_off_is_named(topic: Topic) -> None:
    assert "partitions" in topic.faults(topic.partitions + 1, topic.configs)[0]
    for name, value in topic.configs.items():
        wrong = str(int(value) - 1) if name in topic.at_least else "other"
        for configs in (topic.configs | {name: wrong}, {n: v for n, v in topic.configs.items() if n != name}):
            faults = topic.faults(topic.partitions, configs)
            assert len(faults) == 1
            assert name in faults[0]
            assert topic.name in faults[0]
