"""README.md is true: its snippets and commands are run, as a stranger would run them one after the other."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from kafka import KafkaProducer

from monitor.cli.program import program
from monitor.wire.events import decode_record
from monitor.wire.partitioner import partition_for
from tests.kafka.plain import read_all

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WORLDS = [
    pytest.param("embedded", marks=pytest.mark.embedded, id="embedded"),
    pytest.param("kafka", marks=pytest.mark.kafka, id="kafka"),
]


def fences(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text, language="sh"):
    """The arguments of each `session-monitor` in the fences, as a shell would give them."""
    lines = [line for code in fences(text, language) for line in code.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("session-monitor ")]


PYTHON = fences(README, "python")
SHELL = commands(README)
WRITTEN = [
    pytest.param(words, id=f"{page.name}-{number}-{words[0]}")
    for page in PAGES
    for number, words in enumerate(commands(page.read_text()))
]


@pytest.fixture(params=WORLDS)
def place(request, own_topics):
    """Topics of this test's own, made as `topics apply` makes them, on each kind of broker."""
    return own_topics(request.getfixturevalue(request.param))


def run(code, place):
    """Run a snippet on these topics in place of the page's."""
    servers, prefix = place
    code = code.replace('Publisher(bootstrap_servers="localhost:9092"', f'Publisher(topic_prefix="{prefix}", bootstrap_servers="localhost:9092"')
    for topic in ("access-events", "session-commands"):
        code = code.replace(f'"{topic}"', f'"{prefix}{topic}"')
    code = code.replace("localhost:9092", servers)
    namespace = {"__name__": "snippet"}
    exec(compile(code, "README.md", "exec"), namespace)
    return namespace


def test_the_page_has_its_snippets():
    assert len(PYTHON) == 3
    assert len(SHELL) >= 12
    assert len(fences(README, "yaml")) == 1


@pytest.mark.parametrize("words", WRITTEN)
def test_every_command_is_one_that_the_program_takes(words, monkeypatch):
    monkeypatch.setenv("USER", "somebody")
    command = typer.main.get_command(program)
    context = command.make_context("session-monitor", list(words))
    rest = words
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, list(rest), parent=context)
        rest = [*context._protected_args, *context.args]
    assert rest == []


def test_what_make_is_asked_for_is_there():
    asked = re.findall(r"`?make ([a-z-]+)", README)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"up", "test"} <= set(asked) <= set(targets)


def test_the_pages_that_are_named_are_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("number", [0, 1])
def test_what_a_snippet_publishes_the_monitor_understands(number, place):
    assert '"access-events"' in PYTHON[1]
    run(PYTHON[number], place)
    records = read_all(place.bootstrap_servers, place.topics.access_events.name)
    assert len(records) == (2, 1)[number]
    for record in records:
        event = decode_record(record.value, record.headers, record.key, record.timestamp)
        assert (event.session_id, record.key) == ("s-81f2", b"s-81f2")
        assert record.partition == partition_for(record.key, 8)


def test_a_gateway_of_the_page_knows_what_has_ended(place):
    topic = place.topics.session_commands.name

    def order(session, kind, **members):
        said = {"type": kind, "session_id": session, "epoch": 0, "reason": "idle_timeout", **members}
        return session, json.dumps(said).encode()

    records = [
        order("expired", "session.expire"), order("revoked", "session.revoke", reason="admin_revoked"),
        order("back", "session.expire"), order("back", "session.reinstate", epoch=1),
        order("forgotten", "session.expire"), ("forgotten", None),
        order("of the future", "session.suspend"),
        ("~warn/warned", order("warned", "session.warn")[1]), ("~watermark/0", b'{"type":"monitor.watermark","partition":0}'),
        *[order(f"many-{number}", "session.expire") for number in range(2000)],
    ]  # fmt: skip
    with contextlib.closing(KafkaProducer(bootstrap_servers=place.bootstrap_servers)) as producer:
        for key, value in records:
            producer.send(topic, key=key.encode(), value=value)
        producer.flush()
    ended = run(PYTHON[2], place)["ended"]
    many = {f"many-{number}": "idle_timeout" for number in range(2000)}
    assert ended == many | {"expired": "idle_timeout", "revoked": "admin_revoked", "of the future": "idle_timeout"}


class Stranger:
    """Somebody with the README, a shell and a broker."""

    def __init__(self, directory, place):
        self.directory, self.place = directory, place
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SESSION_MONITOR_", "XDG_"))}
        self.environ = kept | {
            "HOME": str(directory), "USER": "stranger", "PYTHONPATH": str(ROOT),
            "SESSION_MONITOR_BOOTSTRAP_SERVERS": place.bootstrap_servers, "SESSION_MONITOR_TOPIC_PREFIX": place.prefix,
        }  # fmt: skip
        (directory / "policy.yaml").write_text(fences(README, "yaml")[0])

    def find(self, *beginning):
        """The one command of the page that begins so."""
        (words,) = [words for words in SHELL if tuple(words[: len(beginning)]) == beginning]
        return [sys.executable, "-m", "monitor", *(self.place.bootstrap_servers if word == "kafka:9092" else word for word in words)]

    def types(self, *beginning, also=()):
        """Types a command of the page; what it prints. It must succeed."""
        command = [*self.find(*beginning), *also]
        done = subprocess.run(
            command, cwd=self.directory, env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def leaves_running(self, *beginning):
        log = self.directory / "running.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.find(*beginning), cwd=self.directory, env=self.environ, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
        try:
            yield
            assert process.poll() is None, log.read_text()
            process.terminate()
            assert process.wait(20) == 0, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)

    def sees(self, wanted, *beginning, also=(), seconds=45):
        """Types it again until it says that."""
        deadline, said = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            done = subprocess.run(
                [*self.find(*beginning), *also],
                cwd=self.directory, env=self.environ, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            said = done.stdout + done.stderr
            if done.returncode == 0 and re.search(wanted, said):
                return said
            time.sleep(0.2)
        pytest.fail(f"{beginning}: no {wanted!r} in {said}\n{(self.directory / 'running.log').read_text()[-3000:]}")


def test_the_policy_commands_say_what_the_page_says(tmp_path, place):
    stranger = Stranger(tmp_path, place)
    assert "8.2.8" in stranger.types("policy", "check")
    assert "restricted-data" in stranger.types("policy", "explain")
    assert "applied at 0 of" in stranger.types("policy", "apply")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_stranger_follows_the_page_from_its_topics_to_a_revocation(tmp_path, place):
    stranger = Stranger(tmp_path, place)
    stranger.types("topics", "apply")
    stranger.types("doctor")
    with stranger.leaves_running("worker"):
        stranger.sees("", "sessions", "list")  # every partition has its worker
        run(PYTHON[0], place)
        stranger.sees("s-81f2", "sessions", "list")
        shown = stranger.types("sessions", "show")
        assert "restricted-data" in shown
        assert "alice@example.com" in shown
        stranger.types("policy", "apply")
        stranger.types("revoke")
        assert "s-81f2" in stranger.sees("session.revoke", "commands", "tail", also=["--from-beginning", "--no-follow"])
        stranger.types("lock")
        stranger.types("dead-letters", "list")
