"""Each wrong use gets an answer that a stranger can act on: what is wrong, where, and what to do. Never a trace."""

import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from monitor.broker.administration import apply_topics
from monitor.broker.connection import Connection
from monitor.broker.port import free_port
from monitor.wire.topics import Topics

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(120)

GOOD = "version: 1\ndefaults: {idle: 30m, absolute: 12h}\n"
WHO = ("--reason", "r", "--by", "b")
ON_A_BROKER = [
    ("worker", "--policy", "good.yaml"), ("topics", "apply"), ("topics", "verify"), ("doctor",),
    ("publish", "--session-id", "s-1"), ("policy", "apply", "good.yaml", *WHO), ("sessions", "list"), ("sessions", "show", "s-1"),
    ("revoke", "--subject", "alice", *WHO), ("lock", "--role", "intern", *WHO), ("unlock", "lock-1", *WHO), ("locks",),
    ("commands", "tail"), ("dead-letters", "list"), ("dead-letters", "replay", "--as-is"),
    ("verify",),
]  # fmt: skip
"""Every verb that talks to a broker."""

BLOCKER = """
import os, sys
from importlib.machinery import PathFinder

class Blocker:
    find_distributions = PathFinder.find_distributions
    invalidate_caches = PathFinder.invalidate_caches

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in os.environ["BLOCKED"].split():
            return None
        return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Blocker
"""


class Said:
    """What the program said to somebody at a shell, and how it ended."""

    def __init__(self, code, out, err):
        # kafka-python complains of its own loop where the machine is slow.
        kept = [line for line in err.splitlines(keepends=True) if "kafka.net.selector" not in line]
        self.code, self.out, self.err = code, out, "".join(kept)

    @property
    def text(self):
        """Everything, in one line: boxes that were drawn around it are taken off."""
        return " ".join(re.sub("[\u2500-\u257f]", " ", self.out + self.err).split())

    def __repr__(self):
        return f"exit code {self.code}\n{self.out}\n{self.err}"


@pytest.fixture
def shell(tmp_path):
    """Types a command in a directory with a good policy, and in an environment without settings of ours."""
    (tmp_path / "good.yaml").write_text(GOOD)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SESSION_MONITOR_", "XDG_", "AIOKAFKA_"))}
    places = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "USER": "stranger", "COLUMNS": "300"}

    def run(*words, path=(), **environ):
        paths = os.pathsep.join([*map(str, path), str(ROOT)])
        done = subprocess.run(
            [sys.executable, "-m", "monitor", *map(str, words)], cwd=tmp_path, stdin=subprocess.DEVNULL,
            env=kept | places | {"PYTHONPATH": paths} | environ, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        return Said(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def here(cli, tmp_path, monkeypatch):
    """The same without a process of its own: for long lists."""
    (tmp_path / "good.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("SESSION_MONITOR_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "USER": "stranger", "COLUMNS": "300"}.items():
        monkeypatch.setenv(name, value)
    return lambda *words: Said(*cli(*map(str, words)))


def refused(said, code, *words):
    """It ends with this code and says all of that, without a trace or the log lines of a library."""
    assert said.code == code, said
    assert [word for word in words if word not in said.text] == [], said
    assert "Traceback" not in said.text, said
    assert "library_message" not in said.text, said
    assert len(said.err.splitlines()) <= 10, said


@pytest.fixture
def no_kafka():
    """The address of something that listens and answers like a web server."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve():
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(100)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        answering = threading.Thread(target=serve, daemon=True)
        answering.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    answering.join(10)


@pytest.fixture
def taken():
    """A port that somebody else has."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("words", ON_A_BROKER, ids=lambda words: "-".join(words[:2]))
def test_no_broker_is_there(here, words):
    address = f"127.0.0.1:{free_port()}"
    refused(here(*words, "--bootstrap-servers", address), 1, address, "refuses connections", "start the broker, or check the port")


def test_no_broker_is_there_as_a_shell_sees_it(shell):
    address = f"127.0.0.1:{free_port()}"
    said = shell("worker", "--policy", "good.yaml", "--bootstrap-servers", address)
    refused(said, 1, f"error: no Kafka broker: {address} refuses connections", "check the port")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("words", ON_A_BROKER[:1] + ON_A_BROKER[3:5], ids=lambda words: words[0])
def test_the_port_is_of_something_else(shell, no_kafka, words):
    said = shell(*words, "--bootstrap-servers", no_kafka)
    refused(said, 1, no_kafka, "is a web server, not a Kafka broker", "check the port")


def test_the_host_is_not_known(here):
    refused(here("topics", "verify", "--bootstrap-servers", "nobody.invalid:9092"), 1, "nobody.invalid:9092", "check the name")


@pytest.mark.parametrize(
    "address", ["localhost", "localhost:kafka", ":9092", "localhost:99999"], ids=["port", "number", "host", "range"]
)
def test_the_address_is_none(here, address):
    refused(here("topics", "verify", "--bootstrap-servers", address), 2, repr(address), "host:port")


@pytest.mark.embedded
@pytest.mark.parametrize(
    "words", [words for words in ON_A_BROKER if words != ("topics", "apply")], ids=lambda words: "-".join(words[:2])
)
def test_the_topics_are_missing(here, embedded, words):
    said = here(*words, "--bootstrap-servers", embedded.bootstrap_servers, "--topic-prefix", "absent-")
    refused(said, 4 if words == ("topics", "verify") else 1, "absent-", "is not there", "session-monitor topics apply")


@pytest.mark.embedded
@pytest.mark.parametrize("words", ON_A_BROKER[:4], ids=lambda words: "-".join(words[:2]))
def test_the_topics_have_another_partition_count(here, embedded, tmp_path, words):
    prefix = f"{tmp_path.name.replace('_', '-')}-"
    apply_topics(Connection(bootstrap_servers=embedded.bootstrap_servers), Topics(prefix, 4), replication=1)
    said = here(*words, "--bootstrap-servers", embedded.bootstrap_servers, "--topic-prefix", prefix)
    code = 4 if words[0] == "topics" else 1
    refused(said, code, f"{prefix}access-events", "has 4 partitions, needs 8", "run everything with --partitions 4")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: 1\ndefaults: {idle: 30 minutes, absolute: 12h}\n", ("wrong.yaml:2:18:", "'30 minutes' is not a duration", "15m")),
        ("version: 1\ndefaults: {idle: 30, absolute: 12h}\n", ("wrong.yaml:2:18:", "'30' has no unit", "m")),
        ("version: 1\nrules:\n  - name: x\n    wen: {roles: [a]}\n    idle: 5m\n", ("wrong.yaml:4:5:", "unknown key 'wen'", "did you mean 'when'")),
        ("version: 1\ndefaults: {idle: 5m\n", ("wrong.yaml:",)),
        ("version: 2\n", ("wrong.yaml:1:10:", "1")),
    ],
    ids=["duration", "unit", "key", "yaml", "version"],
)
def test_the_policy_can_not_be_used(here, tmp_path, text, words):
    (tmp_path / "wrong.yaml").write_text(text)
    refused(here("policy", "check", "wrong.yaml"), 2, *words)


@pytest.mark.parametrize("verb", ["check", "explain", "worker", "up", "apply"])
def test_the_policy_can_not_be_used_by_anybody(shell, tmp_path, verb):
    (tmp_path / "wrong.yaml").write_text("version: 1\ndefaults: {idle: 30 minutes}\n")
    # None of them needs a broker to see it.
    away = ("--bootstrap-servers", f"127.0.0.1:{free_port()}")
    typed = {
        "check": ("policy", "check", "wrong.yaml"), "explain": ("policy", "explain", "wrong.yaml"),
        "worker": ("worker", "--policy", "wrong.yaml", *away), "up": ("up", "--no-view", "--policy", "wrong.yaml"),
        "apply": ("policy", "apply", "wrong.yaml", *WHO, *away),
    }  # fmt: skip
    refused(shell(*typed[verb]), 2, "wrong.yaml:2:18:", "'30 minutes' is not a duration")


@pytest.mark.parametrize(
    "words",
    [("worker", "--policy", "none.yaml"), ("up", "--no-view", "--policy", "none.yaml"), ("policy", "check", "none.yaml")],
    ids=lambda words: words[0],
)
def test_the_policy_file_is_not_there(here, words):
    said = here(*words)
    assert said.code in {1, 2}
    refused(said, said.code, "none.yaml", "can't be read", "No such file")


@pytest.mark.parametrize(
    ("verb", "blocked", "extra"),
    [
        (("worker", "--policy", "good.yaml"), "faust aiokafka aiohttp", "worker"),
        (("worker", "--policy", "good.yaml"), "faust", "worker"),
        (("gateway", "--session-id", "cookie:session"), "uvicorn", "gateway"),
        (("up", "--no-view"), "faust", "worker"),
        (("up", "--no-view"), "noida_db", "embedded"),
    ],
)  # fmt: skip
def test_an_extra_is_not_installed(shell, tmp_path, verb, blocked, extra):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKER)
    said = shell(*verb, path=[tmp_path / "site"], BLOCKED=blocked)
    refused(said, 1, f"pip install 'session-monitor[{extra}]'")


def test_doctor_says_which_extra_is_not_installed(shell, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKER)
    away = f"127.0.0.1:{free_port()}"
    said = shell("doctor", "--bootstrap-servers", away, path=[tmp_path / "site"], BLOCKED="noida_db faust")
    refused(said, 1, "session-monitor[embedded]", "session-monitor[worker]")


def test_the_base_install_does_what_needs_no_extra(shell, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKER)
    extras = "faust aiokafka aiohttp uvloop uvicorn joserfc noida_db jinja2 hypothesis pytest testcontainers confluent_kafka"
    said = shell("policy", "check", "good.yaml", path=[tmp_path / "site"], BLOCKED=extras)
    assert said.code == 0, said
    for verb in ("publish", "sessions", "up", "worker", "gateway", "bench"):
        said = shell(verb, "--help", path=[tmp_path / "site"], BLOCKED=extras)
        assert said.code == 0, said


@pytest.mark.embedded
def test_the_port_of_a_worker_is_taken(shell, embedded, own_topics, taken):
    servers, prefix = own_topics(embedded)
    where = ("--bootstrap-servers", servers, "--topic-prefix", prefix)
    said = shell("worker", "--policy", "good.yaml", "--from", "latest", "--api-port", taken, *where)
    refused(said, 1, f"127.0.0.1:{taken}", "address already in use", "Choose another port, or 0")


def test_the_port_of_up_is_taken(shell, taken):
    refused(shell("up", "--no-view", "--port", taken), 1, str(taken), "Address already in use", "choose another port")


@pytest.mark.embedded
def test_the_compiled_extensions_are_missing(shell, embedded, own_topics):
    servers, prefix = own_topics(embedded)
    where = ("--bootstrap-servers", servers, "--topic-prefix", prefix)
    said = shell("worker", "--policy", "good.yaml", "--from", "latest", *where, AIOKAFKA_NO_EXTENSIONS="1")
    refused(said, 1, "compiled extensions", "unset AIOKAFKA_NO_EXTENSIONS", "from its wheel")
    refused(shell("doctor", *where, AIOKAFKA_NO_EXTENSIONS="1"), 1, "compiled extensions failure", "AIOKAFKA_NO_EXTENSIONS")


@pytest.mark.embedded
def test_a_first_start_does_not_say_from_where(shell, embedded, own_topics):
    servers, prefix = own_topics(embedded)
    said = shell("worker", "--policy", "good.yaml", "--bootstrap-servers", servers, "--topic-prefix", prefix)
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("error: ")
    assert "--from earliest or --from latest" in said.err.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ("revoke", "--subject", "a"), ("lock", "--all"), ("unlock", "lock-1"), ("policy", "apply", "good.yaml"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
@pytest.mark.parametrize("reason", ["", "  "], ids=["empty", "blank"])
def test_the_reason_is_empty(here, words, reason):
    away = f"127.0.0.1:{free_port()}"
    refused(here(*words, "--reason", reason, "--by", "b", "--bootstrap-servers", away), 2, "--reason is empty")
    refused(here(*words, "--by", "b", "--bootstrap-servers", away), 2, "Missing option '--reason'")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("worker", "--from", "never"), ("'--from'", "'never'", "'earliest'", "'latest'")),
        (("worker", "--session-timeout", "1s"), ("--session-timeout is 1s", "6s to 5m")),
        (("worker", "--checkpoint", "often"), ("--checkpoint: 'often'", "500ms")),
        (("policy", "explain", "good.yaml", "--principal", "robot"), ("'--principal'", "'user'", "'service'")),
        (("policy", "check", "good.yaml", "--against", "sox"), ("'sox'", "pci", "iso27001", "soc2", "gdpr")),
        (("policy", "check", "good.yaml", "--against", "hippa"), ("'hippa'", "did you mean 'hipaa'")),
        (("policy", "check", "good.yaml", "--at", "soon"), ("--at 'soon'", "00:00 UTC")),
        (("sessions", "list", "-o", "xml"), ("'table'", "'json'", "'ndjson'")),
        (("topics", "verify", "--security-protocol", "TLS"), ("'TLS'", "PLAINTEXT", "SASL_SSL")),
        (("topics", "verify", "--sasl-mechanism", "MD5", "--security-protocol", "SASL_SSL"), ("'MD5'", "SCRAM-SHA-256")),
        (("commands", "tail", "--type", "expired"), ("'expired'", "expire", "revoke", "reinstate", "warn")),
        (("publish", "--session-id", "s", "--type", "opend"), ("'opend'", "opened", "activity", "reauthenticated", "closed")),
        (("publish", "--session-id", "s", "--kind", "robot"), ("kind", "human", "agent", "inflight", "keepalive")),
        (("lock", "--role", "x", "--expires", "2 hours", *WHO), ("--expires '2 hours'", "15m")),
        (("revoke", *WHO), ("--subject", "--role", "--all")),
        (("--log-level", "loud", "doctor"), ("'--log-level'", "'info'", "'error'")),
        (("verify", "--from", "yesterday"), ("--from 'yesterday'", "earliest", "2026-11-23T07:09:00Z")),
        (("verify", "--to", "12:00"), ("--to '12:00'", "latest")),
        (("verify", "--from", "2026-11-23T08:00:00Z", "--to", "2026-11-23T07:00:00Z"), ("--from", "is not before --to")),
        (("sesions", "list"), ("No such command 'sesions'", "session-monitor -h")),
    ],
    ids=lambda value: "-".join(value[:3]).replace("--", "") if isinstance(value, tuple) else None,
)  # fmt: skip
def test_a_value_that_is_not_allowed(here, words, wanted):
    refused(here(*words), 2, *wanted)


@pytest.mark.embedded
def test_a_reason_of_dead_letters_that_there_is_not(here, embedded, own_topics):
    servers, prefix = own_topics(embedded)
    said = here("dead-letters", "list", "--reason", "nonsense", "--bootstrap-servers", servers, "--topic-prefix", prefix)
    refused(said, 0, "'nonsense'", "not_json", "too_large")
