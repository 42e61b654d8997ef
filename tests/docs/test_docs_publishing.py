"""Every snippet of docs/publishing.md is run, and what it publishes is read as the monitor reads it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka import KafkaConsumer, TopicPartition

from monitor.publish import Publisher
from monitor.wire.events import decode_record
from monitor.wire.partitioner import partition_for
from tests.publish.worlds import BOTH, make_topic, world

PAGE = Path(__file__).parents[2] / "docs" / "publishing.md"
SNIPPETS = re.findall(
    r"^## (?P<title>[^\n]+)|^### (?P<sub>[^\n]+)|^```(?P<language>\w+)\n(?P<code>.*?)^```",
    PAGE.read_text(),
    re.MULTILINE | re.DOTALL,
)
PARTITIONS = [TopicPartition("access-events", number) for number in range(8)]


def snippets(language):
    """(name, code) of each, named by the heading it stands under."""
    found, heading = [], ""
    for title, sub, spoken, code in SNIPPETS:
        heading = title or sub or heading
        if spoken == language:
            name = re.sub(r"\W+", "-", heading.lower()).strip("-")[:40]
            found.append(pytest.param(code, id=f"{name}-{len(found)}"))
    return found


@pytest.fixture(scope="module", params=BOTH)
def broker(request):
    with world(request) as address:
        make_topic(address, "access-events")
        yield address


@pytest.fixture
def arrived(broker):
    """The records that came since the test began."""
    consumer = KafkaConsumer(bootstrap_servers=broker)
    consumer.assign(PARTITIONS)
    starts = consumer.end_offsets(PARTITIONS)
    for one, offset in starts.items():
        consumer.seek(one, offset)

    def read():
        ends = consumer.end_offsets(PARTITIONS)
        found = []
        while any(consumer.position(one) < ends[one] for one in PARTITIONS):
            found += [record for some in consumer.poll(500).values() for record in some]
        return found

    yield read
    consumer.close()


def run(code, broker):
    namespace = {"__name__": "snippet"}
    exec(compile(code.replace("localhost:9092", broker), str(PAGE), "exec"), namespace)
    return namespace


def test_the_page_has_its_snippets():
    assert len(snippets("python")) == 7
    assert len(snippets("java")) == 1


@pytest.mark.parametrize("code", snippets("python"))
def test_python_snippets_publish_what_the_monitor_understands(code, broker, arrived):
    run(code, broker)
    records = arrived()
    assert records or "localhost" not in code
    for record in records:
        event = decode_record(record.value, record.headers, record.key, record.timestamp)
        if record.key != b"~alive":
            assert event.session_id.encode() == record.key
            assert record.partition == partition_for(record.key, 8)


@pytest.mark.parametrize("code", [one for one in snippets("python") if "confluent_kafka" in one.values[0]])
def test_librdkafka_with_the_settings_of_the_page_agrees_with_ours(code, broker, arrived):
    settings = run(code, broker)["settings"]
    arrived()
    keys = [("s-ü" * (number % 7) + str(number)).encode() for number in range(1000)]
    send(Producer(settings), keys)
    theirs = {record.key: record.partition for record in arrived()}
    with Publisher(bootstrap_servers=broker) as publisher:
        for key in keys:
            publisher.opened(key.decode())
    ours = {record.key: record.partition for record in arrived()}
    assert len(theirs) == 1000
    assert theirs == ours
    # And the note on the page is needed: without the setting most land elsewhere.
    del settings["partitioner"]
    send(Producer(settings), keys)
    assert sum(record.partition != ours[record.key] for record in arrived()) > 500


def send(producer, keys):
    for key in keys:
        producer.produce("access-events", key=key, value=b'{"type":"session.activity","session_id":"x"}')
    assert producer.flush(30) == 0


def jars():
    """Kafka's Java client and what it needs to run, where Maven keeps them."""
    repository = Path.home() / ".m2" / "repository"
    wanted = ("org/apache/kafka/kafka-clients", "org/slf4j/slf4j-api")
    return [found[-1] for part in wanted if (found := sorted((repository / part).glob("*/*[0-9].jar")))]


@pytest.mark.parametrize("code", snippets("java"))
def test_the_java_snippet_compiles_and_publishes(code, broker, arrived, tmp_path):
    if not (shutil.which("javac") and shutil.which("java")):
        pytest.skip("no JDK: javac isn't on the path")
    if len(jars()) < 2:
        pytest.skip("no kafka-clients jar in the Maven repository")
    (tmp_path / "PublishEvent.java").write_text(code)
    path = ":".join([*map(str, jars()), str(tmp_path)])
    built = subprocess.run(
        ["javac", "-cp", path, "PublishEvent.java"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert built.returncode == 0, built.stderr
    ran = subprocess.run(
        ["java", "-Xmx128m", "-cp", path, "PublishEvent", broker],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    (record,) = arrived()
    event = decode_record(record.value, record.headers, record.key, record.timestamp)
    assert (event.session_id, event.subject) == ("s-81f2", "alice@example.com")
    assert record.partition == partition_for(b"s-81f2", 8)
