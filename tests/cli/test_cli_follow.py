"""`commands tail`: every command once, as a line; nothing else."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from monitor.cli import follow
from monitor.core.commands import Command, CommandType, Reauth
from monitor.core.errors import AbsenceError, InputError
from monitor.core.reasons import Reason
from monitor.wire.commands import encode_command, encode_watermark

AT = 1_795_500_000_000


def command(session_id, type_=CommandType.EXPIRE, reason=Reason.IDLE_TIMEOUT, epoch=0):
    return encode_command(
        Command(
            type=type_, session_id=session_id, epoch=epoch, reason=reason, effective_at=AT, cutoff=AT, limit_ms=900_000,
            rule="restricted-data", policy="9b1f04c2", subject="alice", classification=None, reauth=Reauth(allowed=True),
            forget_after=AT, partition=0, offset=7, log_time=AT, due=AT,
        ),
        AT,
    )  # fmt: skip


@pytest.fixture
def told(world):
    """A topic with everything on it that there may be."""
    topic = world.topics.session_commands.name
    world.write(topic, (0, command("s-1")), (0, command("s-1", CommandType.WARN)), (0, (b"s-0", None, [])))
    world.write(
        topic, (1, encode_watermark(1, AT, AT, 0, AT)), (1, (b"s-9", b"\xff", [])), (1, command("~odd"[1:]))
    )
    world.write(topic, (2, command("s-2", CommandType.REVOKE, Reason.ADMIN_REVOKED)))
    return world


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.embedded
class TestTail:
    def test_everything_there_is(self, told, run_verb):
        arguments = ["--from-beginning", "--no-follow", "-o", "ndjson", *told.options]
        result = run_verb(follow, "commands", "tail", *arguments)
        assert result.exit_code == 0, result.output
        found = {(row["partition"], row["offset"], row["type"], row["session_id"]) for row in lines(result)}
        assert found == {
            (0, 0, "session.expire", "s-1"), (0, 1, "session.warn", "s-1"), (1, 2, "session.expire", "odd"),
            (2, 0, "session.revoke", "s-2"),
        }  # fmt: skip
        assert "partition 1 offset 1 is no command" in result.stderr

    def test_of_one_session_and_type(self, told, run_verb):
        arguments = ["--from-beginning", "--no-follow", "-o", "ndjson", *told.options]
        rows = lines(run_verb(follow, "commands", "tail", "--session", "s-1", *arguments))
        assert [row["type"] for row in rows] == ["session.expire", "session.warn"]
        rows = lines(
            run_verb(follow, "commands", "tail", "--type", "revoke", "--type", "session.warn", *arguments)
        )
        assert sorted(row["type"] for row in rows) == ["session.revoke", "session.warn"]

    def test_a_line_for_people(self, told, run_verb):
        arguments = ["--from-beginning", "--no-follow", "--session", "s-2", *told.options]
        result = run_verb(follow, "commands", "tail", *arguments)
        (text,) = result.stdout.splitlines()
        assert "s-2" in text
        assert "admin_revoked" in text

    def test_it_follows_from_the_end(self, told, run_verb):
        topic = told.topics.session_commands.name
        done = threading.Event()

        def write():
            while not done.wait(0.1):
                told.write(topic, (1, command("new")))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            result = run_verb(follow, "commands", "tail", "-n", "2", "-o", "ndjson", *told.options)
        finally:
            done.set()
            writer.join()
        assert [row["session_id"] for row in lines(result)] == ["new", "new"]


@pytest.mark.embedded
def test_ctrl_c_and_a_reader_that_goes_end_it_quietly(told):
    program = (
        "import sys, typer; from monitor.cli import follow; p = typer.Typer(); p.callback()(lambda: None);"
        "follow.register(p); p()"
    )
    arguments = ["commands", "tail", "--from-beginning", "-o", "ndjson", *told.options]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline().startswith("{")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        process.stdout.readline()
        process.stdout.close()
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            told.write(told.topics.session_commands.name, (0, command("more")))
            time.sleep(0.05)
        assert process.poll() == 0
        assert "BrokenPipe" not in process.stderr.read()


def test_an_unknown_type_is_refused(run_verb):
    result = run_verb(follow, "commands", "tail", "--type", "explode")
    assert isinstance(result.exception, InputError)
    assert "expire" in str(result.exception)


def test_no_broker_is_said(run_verb):
    result = run_verb(follow, "commands", "tail", "--bootstrap-servers", "127.0.0.1:1")
    assert isinstance(result.exception, AbsenceError)
    assert "127.0.0.1:1" in str(result.exception)
