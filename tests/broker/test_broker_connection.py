"""How brokers are reached: what is refused, what each client gets, and that secrets stay where they are."""

import msgspec
import pytest

from monitor.broker.connection import Connection
from monitor.core.errors import AbsenceError, InputError

SASL = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "ann", "sasl_password": "hunter2"}


@pytest.mark.parametrize(
    "address", ["kafka", "kafka:", ":9092", "kafka:0", "kafka:65536", "kafka:nine", "http://kafka:9092"]
)
def test_an_address_is_host_and_port(address):
    with pytest.raises(InputError, match="is not host:port"):
        Connection(bootstrap_servers=f"good:9092,{address}")


def test_no_address_is_refused():
    with pytest.raises(InputError, match="--bootstrap-servers"):
        Connection(bootstrap_servers=" , ")


def test_several_addresses_reach_the_clients():
    connection = Connection(bootstrap_servers="a:1, [::1]:2,")
    assert connection.addresses() == [("a", 1), ("::1", 2)]
    assert connection.kafka_python()["bootstrap_servers"] == ["a:1", "[::1]:2"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"security_protocol": "TLS"}, "one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({**SASL, "sasl_mechanism": "GSSAPI"}, "one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({**SASL, "sasl_username": ""}, "needs --sasl-username"),
        ({**SASL, "sasl_password": ""}, "--sasl-password-file"),
        ({"ssl_keyfile": "k.pem"}, "give --ssl-certfile too"),
    ],
)
def test_what_cannot_work_is_refused_at_once(given, said):
    with pytest.raises(InputError, match=said):
        Connection(**given)


@pytest.mark.parametrize("client", [Connection.kafka_python, Connection.aiokafka])
def test_both_clients_get_the_credentials(client):
    assert client(Connection(**SASL)) == {
        "bootstrap_servers": ["localhost:9092"], "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "ann", "sasl_plain_password": "hunter2",
    }  # fmt: skip


def test_secrets_are_in_no_text():
    connection = Connection(**SASL, ssl_key_password="opensesame")
    for text in (repr(connection), str(connection), f"{connection}"):
        assert "hunter2" not in text
        assert "opensesame" not in text
        assert "ann" in text


def test_a_missing_certificate_is_named():
    with pytest.raises(AbsenceError, match=r"no such file: nowhere\.pem"):
        Connection(security_protocol="SSL", ssl_cafile="nowhere.pem").kafka_python()


def test_a_file_that_is_no_certificate_is_named(tmp_path):
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    with pytest.raises(AbsenceError, match=r"bad\.pem.*check the --ssl"):
        Connection(security_protocol="SSL", ssl_cafile=str(bad)).aiokafka()


def test_the_host_name_is_checked_unless_told_otherwise():
    strict = Connection(security_protocol="SSL")
    assert strict.kafka_python()["ssl_context"].check_hostname
    lax = msgspec.structs.replace(strict, ssl_check_hostname=False)
    assert not lax.kafka_python()["ssl_context"].check_hostname
