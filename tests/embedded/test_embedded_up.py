"""`up --demo` as a stranger runs it: the first expiry within 15 s, and nothing left after Ctrl-C, however it ends."""

import contextlib
import fcntl
import http.client
import os
import pty
import queue
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from monitor.publish import hashed_session_id

ROOT = Path(__file__).resolve().parents[2]
FIRST_EXPIRY_SECONDS = 15
END_SECONDS = 5

pytestmark = [pytest.mark.embedded, pytest.mark.slow, pytest.mark.timeout(90)]

for part in ("noida_db", "faust", "uvicorn"):
    pytest.importorskip(part, reason="up needs the extras 'embedded', 'worker' and 'gateway'")


def environment(directory):
    """Ours, with temporary files and a home of its own below this directory, and settings for another installation."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SESSION_MONITOR_", "XDG_"))}
    places = {"TMPDIR": directory / "tmp", "HOME": directory / "home"}
    for place in places.values():
        place.mkdir()
    return kept | {name: str(place) for name, place in places.items()} | {
        "PYTHONPATH": str(ROOT),
        "SESSION_MONITOR_TOPIC_PREFIX": "elsewhere-",
        "SESSION_MONITOR_WORKER_PROCESSES": "7",
    }


class Up:
    """`python -m monitor up` as a child in a session of its own, with temporary files and settings of its own."""

    def __init__(self, directory, *options):
        environ = environment(directory)
        self.temporary, self.home = Path(environ["TMPDIR"]), Path(environ["HOME"])
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "monitor", "up", *options], env=environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, cwd=directory,
        )  # fmt: skip
        self.said = []
        self._lines = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.children = []

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def until(self, found, seconds):
        """The first line that contains this; fails with all that was said where none comes in time."""
        deadline = self.began + seconds
        while (line := self._next(deadline)) is not None:
            self.said.append(line)
            if found in line:
                return line
        pytest.fail(f"no {found!r} within {seconds} s:\n" + "\n".join(self.said))

    def _next(self, deadline):
        try:
            return self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            return None

    def remember_children(self):
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        return self.children

    def end(self, number):
        """Send a signal; the exit code, and the seconds it took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(30)
        return code, time.monotonic() - begun

    def left_over(self, seconds=END_SECONDS):
        """Processes that outlived it."""
        _, alive = psutil.wait_procs(self.children, timeout=seconds)
        return alive

    def files(self):
        return [path for place in (self.temporary, self.home) for path in place.rglob("*") if path.is_file()]

    def close(self):
        for process in [*self.children, self.process]:
            if isinstance(process, psutil.Process) or process.poll() is None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait(10)
        self._reading.join(10)
        self.process.stdout.close()


@pytest.fixture
def up(tmp_path):
    started = []

    def start(*options):
        started.append(Up(tmp_path, *options))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_the_first_expiry_is_on_screen_within_fifteen_seconds_and_ctrl_c_leaves_nothing(up):
    demo = up("--demo", "--no-view")
    line = demo.until("session.expire", FIRST_EXPIRY_SECONDS)
    assert "idle_timeout" in line
    assert "rule=restricted-data" in line
    assert any("session.warn" in said for said in demo.said)
    assert len(demo.remember_children()) >= 3  # broker, worker and sidecar
    code, seconds = demo.end(signal.SIGINT)
    assert code == 0
    assert seconds < END_SECONDS
    assert demo.left_over() == []
    assert demo.files() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_a_closed_terminal_end_it_as_well(up, number):
    one = up("--no-view")
    one.until("Session Monitor is up", 30)
    one.remember_children()
    code, seconds = one.end(number)
    assert (code, seconds < END_SECONDS) == (0, True)
    assert one.left_over() == []
    assert one.files() == []


def test_an_end_in_the_middle_of_the_start_leaves_nothing(up):
    one = up("--demo", "--no-view")
    one.until("topics", 30)
    one.remember_children()
    code, seconds = one.end(signal.SIGINT)
    assert (code, seconds < END_SECONDS) == (0, True)
    assert one.left_over() == []
    assert one.files() == []


def test_children_die_with_a_parent_that_is_killed(up):
    one = up("--no-view")
    one.until("Session Monitor is up", 30)
    assert len(one.remember_children()) >= 2
    one.end(signal.SIGKILL)
    assert one.left_over() == []


@pytest.mark.parametrize("part", ["worker", "gateway"])
def test_a_part_that_hangs_does_not_hold_up_the_end(up, part):
    one = up("--demo", "--no-view")
    one.until("Session Monitor is up", 30)
    hanging = [child for child in one.remember_children() if part in child.cmdline()]
    hanging[0].suspend()
    code, seconds = one.end(signal.SIGINT)
    assert (code, seconds < END_SECONDS) == (0, True)
    assert one.left_over() == []
    assert one.files() == []


@pytest.mark.parametrize(("part", "said"), [("worker", "worker"), ("kafka", "broker"), ("gateway", "sidecar")])
def test_a_part_that_dies_is_named_and_ends_the_rest(up, part, said):
    one = up("--no-view")
    one.until("Session Monitor is up", 30)
    dying = [child for child in one.remember_children() if part in child.cmdline()]
    dying[0].kill()
    assert one.process.wait(END_SECONDS) == 1
    one.until(f"error: the {said} has ended by itself", 120)
    assert one.left_over() == []
    assert one.files() == []


def test_several_processes_share_the_partitions_and_end_together(up):
    one = up("--no-view", "--processes", "2")
    one.until("Session Monitor is up", 30)
    assert len([child for child in one.remember_children() if "worker" in child.cmdline()]) == 3
    code, seconds = one.end(signal.SIGTERM)
    assert (code, seconds < END_SECONDS) == (0, True)
    assert one.left_over() == []
    assert one.files() == []


def test_the_curl_line_shows_a_session_admitted_and_refused_after_its_limit(up, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\ntiming: {lateness: 100ms, outage_grace: 1s, source_grace: 2s}\ndefaults: {idle: 3s, absolute: 1m}\n")
    one = up("--no-view", "--policy", str(policy))
    command = shlex.split(one.until("ask:", 40).split(":", 1)[1], comments=True)
    assert command[0] == "curl"
    header, url = command[3].split(": "), command[4]
    # The request is all that the monitor hears of the session.
    assert asked(url, header)[0] == 200
    assert hashed_session_id(header[1]) in one.until("session.expire", 60)
    deadline = time.monotonic() + 10
    while asked(url, header)[0] == 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    status, headers = asked(url, header)
    assert (status, headers["WWW-Authenticate"][:6], headers["Cache-Control"]) == (401, "Bearer", "no-store")
    one.remember_children()
    code, seconds = one.end(signal.SIGINT)
    assert (code, seconds < END_SECONDS) == (0, True)
    assert one.left_over() == []


def asked(url, header):
    """Status and headers of what curl would ask for."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        connection.request("GET", parts.path, headers=dict([header]))
        response = connection.getresponse()
        response.read()
        return response.status, response.headers
    finally:
        connection.close()


def test_in_a_terminal_it_shows_the_live_view_and_gives_the_screen_back(tmp_path):
    environ = environment(tmp_path) | {"TERM": "xterm-256color", "NO_COLOR": "1"}
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    command = [sys.executable, "-m", "monitor", "up", "--demo"]
    process = subprocess.Popen(
        command, env=environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=tmp_path,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no thread of ours holds a lock here
    )  # fmt: skip
    os.close(slave)
    try:
        seen = read_until(master, b"session.expire", FIRST_EXPIRY_SECONDS)
        assert b"\x1b[?1049h" in seen
        assert b"idle: time left, rule" in seen
        assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", seen)
        begun = time.monotonic()
        os.write(master, b"\x03")
        after = read_until(master, b"Ending after", END_SECONDS)
        assert b"\x1b[?1049l" in after
        assert b"\x1b[?25h" in after
        assert process.wait(END_SECONDS) == 0
        assert time.monotonic() - begun < END_SECONDS
    finally:
        process.kill()
        process.wait()
        os.close(master)


def read_until(descriptor, wanted, seconds):
    """What comes from a terminal, up to this."""
    deadline, seen = time.monotonic() + seconds, b""
    while wanted not in seen:
        ready, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            pytest.fail(f"no {wanted!r} within {seconds} s, but {seen[-2000:]!r}")
        seen += os.read(descriptor, 65_536)
    return seen


def test_a_port_that_is_taken_is_said_before_anything_starts(up, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        one = up("--no-view", "--port", str(port))
        assert one.process.wait(20) == 1
    assert str(port) in one.until(str(port), 30)
    assert len(one.said) == 1
    assert one.files() == []


def test_a_bad_policy_is_refused_with_its_place(up, tmp_path):
    policy = tmp_path / "bad.yaml"
    policy.write_text("version: 1\ndefaults: {idle: 15 parsecs}\n")
    one = up("--no-view", "--policy", str(policy))
    assert one.process.wait(20) == 2
    assert "bad.yaml:2" in one.until("parsecs", 30)
