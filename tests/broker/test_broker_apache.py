"""Apache Kafka as a child: data and port survive kills and restarts; TLS and SASL reach every client."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import aiokafka
import pytest

from monitor.broker import libraries
from monitor.broker.administration import apply_topics, verify_topics
from monitor.broker.connection import Connection
from monitor.broker.control_log import read_controls, write_control
from monitor.broker.port import free_port
from monitor.broker.reach import require_broker
from monitor.core.errors import AbsenceError
from monitor.wire.topics import Topics

TOPICS = Topics("k-", 2)


@pytest.mark.kafka
def test_data_and_port_survive_kills_and_restarts(apache_kafka):
    broker = apache_kafka()
    apply_topics(broker.connection, TOPICS)
    write_control(broker.connection, TOPICS, "a", b"1")
    address = broker.bootstrap_servers
    broker.kill()
    with pytest.raises(AbsenceError, match="refuses connections"):
        require_broker(broker.connection)
    broker.restart()
    write_control(broker.connection, TOPICS, "b", b"2")
    broker.restart()
    assert broker.bootstrap_servers == address
    assert [one.value for one in read_controls(broker.connection, TOPICS)] == [b"1", b"2"]


@pytest.mark.kafka
def test_it_leaves_nothing(apache_kafka, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    broker = apache_kafka()
    assert list(tmp_path.iterdir())
    broker.stop()
    broker.stop()
    assert list(tmp_path.iterdir()) == []


def secured(directory: Path, plain: int, port: int) -> dict[str, str]:
    """Settings of a broker with TLS and passwords on `port`; its certificate is `directory`/cert.pem."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    key, certificate, store = (directory / name for name in ("key.pem", "cert.pem", "store.pem"))
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate),
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    store.write_text(key.read_text() + certificate.read_text())
    controller = free_port()
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURED://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},SECURED://localhost:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL,CONTROLLER:PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secured.plain.sasl.jaas.config": f'{module} required user_ann="hunter2";',
    }


@pytest.mark.kafka
async def test_tls_and_sasl_reach_every_client(apache_kafka, tmp_path):
    plain, port = free_port(), free_port()
    apache_kafka(port=plain, settings=secured(tmp_path, plain, port))
    good = {
        "bootstrap_servers": f"localhost:{port}", "security_protocol": "SASL_SSL", "sasl_username": "ann",
        "sasl_password": "hunter2", "ssl_cafile": str(tmp_path / "cert.pem"),
    }  # fmt: skip
    connection = Connection(**good)
    apply_topics(connection, TOPICS)
    assert verify_topics(connection, TOPICS) == []
    assert write_control(connection, TOPICS, "a", b"1") == 0
    assert [one.value for one in read_controls(connection, TOPICS)] == [b"1"]
    async with aiokafka.AIOKafkaProducer(**connection.aiokafka()) as producer:
        sent = await producer.send_and_wait(TOPICS.session_control.name, b"2", key=b"b", partition=0)
    assert sent.offset == 1

    for wrong, said in (
        ({"security_protocol": "PLAINTEXT"}, "--security-protocol SSL or SASL_SSL"),
        ({"ssl_cafile": ""}, "certificate that can't be trusted"),
        ({"bootstrap_servers": f"127.0.0.1:{port}"}, "certificate that can't be trusted"),
        ({"bootstrap_servers": f"localhost:{plain}"}, "does not speak TLS as we do"),
        ({"sasl_password": "wrong"}, "--sasl-username, the password and --sasl-mechanism"),
    ):
        with pytest.raises(AbsenceError) as error:
            verify_topics(Connection(**good | wrong), TOPICS)
        assert said in str(error.value)
        assert "hunter2" not in str(error.value)


def test_without_java_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(AbsenceError, match=r"needs Java 17 or newer: .*apt-get install"):
        libraries.java()


def test_without_jars_and_maven_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(libraries.HOME, raising=False)
    with pytest.raises(
        AbsenceError, match=r"Maven, which would fetch them, is not installed: .*SESSION_MONITOR_KAFKA_HOME"
    ):
        libraries.libraries()


def test_jars_are_taken_from_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv(libraries.HOME, str(tmp_path))
    with pytest.raises(AbsenceError, match="there are no jars of Kafka: correct it, or unset it"):
        libraries.libraries()
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "kafka_2.13-4.1.0.jar").touch()
    assert libraries.libraries() == tmp_path / "libs"


@pytest.mark.containers
def test_the_container_is_a_broker_like_any_other(docker_fault):
    if docker_fault is not None:
        pytest.skip(docker_fault)
    from testcontainers.kafka import KafkaContainer

    with KafkaContainer().with_kraft() as container:
        connection = Connection(bootstrap_servers=container.get_bootstrap_server())
        apply_topics(connection, TOPICS, replication=1)
        assert verify_topics(connection, TOPICS) == []
