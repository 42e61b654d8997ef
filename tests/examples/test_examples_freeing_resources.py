"""The worked example of docs/freeing-resources.md, on a broker."""

import importlib.util
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.core.commands import CommandType
from monitor.core.instants import MINUTE
from monitor.gateway import Facts, Posture
from monitor.gateway.changes import ChangeKind
from monitor.gateway.follower import Follower, FollowerState
from tests.gateway.worlds import Clocks, monitor, until

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples" / "freeing_resources.py"
PAGE = (ROOT / "docs" / "freeing-resources.md").read_text()

spec = importlib.util.spec_from_file_location("freeing_resources", PROGRAM)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)


def facts(session_id: str, subject: str | None = None) -> Facts:
    return Facts(session_id=session_id, subject=subject, posture=Posture.BEST_EFFORT)


@pytest.fixture
def world(embedded, own_topics):
    return own_topics(embedded)


@pytest.fixture
def writer(world):
    with monitor(world) as one:
        yield one


class Worker:
    """A model worker: what it has freed, and the follower it stands on."""

    def __init__(self, world, left_over=(), clocks=None) -> None:
        self.freed: list[tuple[str, object]] = []
        self.follower = Follower(world.connection, world.topics, **({} if clocks is None else {"now": clocks}))
        self.memory = example.SessionMemory(self.follower, lambda *one: self.freed.append(one), left_over)

    def names(self) -> list[str]:
        return sorted(name for name, _ in self.freed)


@contextmanager
def worker(world, **settings):
    one = Worker(world, **settings)
    one.follower.start()
    try:
        assert one.memory.start(30)
        yield one
    finally:
        one.follower.stop()
        one.memory.stop()


@pytest.mark.embedded
def test_what_ends_is_freed_and_the_rest_stays(world, writer) -> None:
    with worker(world) as one:
        assert [one.memory.hold(facts(name), name) for name in ("s-1", "s-2", "s-3")] == [True] * 3
        writer.end("s-1")
        writer.forget("s-2")
        writer.end("s-3", type_=CommandType.REINSTATE, epoch=1)
        writer.end("s-9")
        until(lambda: one.names() == ["s-1"])
        assert not one.memory.hold(facts("s-1"), "again")
        writer.end("s-1", epoch=1, type_=CommandType.REINSTATE)
        until(lambda: one.memory.hold(facts("s-1"), "again"))
        writer.end("s-3", epoch=1)
        until(lambda: one.names() == ["s-1", "s-3"])
        writer.end("s-2")
        until(lambda: one.names() == ["s-1", "s-2", "s-3"])


@pytest.mark.embedded
def test_what_is_forgotten_is_freed_as_well(world, writer) -> None:
    # Of a session whose end is known, something was brought along: its tombstone ends that too.
    writer.end("s-1")
    with worker(world) as one:
        one.memory._held["s-1"] = facts("s-1"), "brought along"
        writer.forget("s-1")
        until(lambda: one.freed == [("s-1", "brought along")])


@pytest.mark.embedded
def test_a_lock_frees_what_its_subject_holds(world, writer) -> None:
    with worker(world) as one:
        assert one.memory.hold(facts("s-1", "alice"), "a")
        assert one.memory.hold(facts("s-2", "bob"), "b")
        writer.lock("alice")
        until(lambda: one.freed == [("s-1", "a")])
        assert not one.memory.hold(facts("s-3", "alice"), "c")


@pytest.mark.embedded
def test_what_ended_while_it_was_away_is_freed_when_it_is_back(world, writer) -> None:
    writer.end("s-1")
    writer.lock("alice")
    brought = [(facts("s-1"), "a"), (facts("s-2"), "b"), (facts("s-3", "alice"), "c")]
    with worker(world, left_over=brought) as one:
        until(lambda: one.names() == ["s-1", "s-3"])


@pytest.mark.embedded
def test_what_a_reload_finds_ended_is_freed(world, writer) -> None:
    clocks = Clocks()
    with worker(world, clocks=clocks) as one:
        assert one.memory.hold(facts("s-1"), "a")
        one.follower.stop()
        writer.end("s-1")
        clocks.ahead = 61 * MINUTE
        one.follower.start()
        until(lambda: one.follower.state is FollowerState.FOLLOWING and one.names() == ["s-1"])


@pytest.mark.embedded
def test_an_end_between_the_question_and_the_holding_is_not_missed(world, writer, monkeypatch) -> None:
    check, asked, going = example.check, threading.Event(), threading.Event()

    def slow(*question):
        verdict = check(*question)
        asked.set()
        assert going.wait(30)
        return verdict

    with worker(world) as one:
        monkeypatch.setattr(example, "check", slow)
        holding = threading.Thread(target=one.memory.hold, args=(facts("s-1"), "a"))
        holding.start()
        assert asked.wait(30)
        writer.end("s-1")
        until(lambda: one.names() == ["s-1"])
        going.set()
        holding.join()
        assert one.memory._held == {}


@pytest.mark.embedded
def test_the_program_holds_and_frees(world, writer) -> None:
    command = [sys.executable, str(PROGRAM), world.bootstrap_servers, world.prefix]
    program = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)})
    with program:
        try:
            assert program.stdout.readline() == "ready\n"
            program.stdin.write("s-1\n")
            program.stdin.flush()
            assert program.stdout.readline() == "held s-1\n"
            writer.end("s-1")
            assert program.stdout.readline() == "freed s-1: 1048576 bytes\n"
            program.stdin.write("s-1\n")
            program.stdin.close()
            assert program.stdout.readline() == "refused s-1\n"
            assert program.wait(20) == 0
            assert "Traceback" not in program.stderr.read()
        finally:
            program.kill()


def test_the_page_names_every_change_and_only_what_is_there() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == {kind.value for kind in ChangeKind}
    assert [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if not (ROOT / "docs" / link).exists()] == []
    assert [path for path in re.findall(r"`(tests/[\w/.-]+)`", PAGE) if not (ROOT / path).exists()] == []
    lines = len(PROGRAM.read_text().partition("class SessionMemory")[2].partition("def main")[0].splitlines())
    assert 50 <= lines <= 70, "the page says some 60"
