"""A child never outlives its parent, and a scratch directory never outlives its owner for long."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from monitor.broker.child import Child
from monitor.broker.scratch import Scratch

SLEEP = ["/bin/sleep", "600"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]
PARENT = """
import pathlib, sys, time
from monitor.broker.child import Child
child = Child(["/bin/sleep", "600"], pathlib.Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""


def until(true: Callable[[], object], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_child_dies_with_its_parent_however_that_ends(tmp_path, end):
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "out")],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with parent:
        pid = int(parent.stdout.readline())
        # Not before it has become what it is to be: until then its launcher looks after itself.
        assert until(lambda: psutil.Process(pid).name() == "sleep")
        parent.send_signal(end)
        parent.wait(10)
        assert until(lambda: gone(pid))


def test_a_child_outlives_the_thread_that_started_it(tmp_path):
    child = Child(SLEEP, tmp_path / "out")

    def started() -> bool:
        return until(lambda: child.alive and psutil.Process(child.pid).name() == "sleep")

    # The thread stays until the child is what it is to be: only then has the kernel been asked for its help.
    thread = threading.Thread(target=lambda: (child.start(), started()))
    thread.start()
    thread.join()
    try:
        assert started()
        assert not until(lambda: not child.alive, seconds=0.3)
    finally:
        child.stop()


def test_a_stubborn_child_is_ended_in_bounded_time(tmp_path):
    child = Child(STUBBORN, tmp_path / "out")
    child.start()
    assert until(lambda: child.said() == "up")
    began = time.monotonic()
    child.stop(timeout=0.3)
    assert not child.alive
    assert 0.3 <= time.monotonic() - began < 5
    child.stop()


def test_ctrl_c_in_a_terminal_does_not_reach_it(tmp_path):
    child = Child(SLEEP, tmp_path / "out")
    child.start()
    try:
        assert os.getpgid(child.pid) != os.getpgid(os.getpid())
    finally:
        child.stop()


def test_what_it_said_is_kept(tmp_path):
    child = Child([sys.executable, "-c", "import sys; sys.exit('no such luck')"], tmp_path / "out")
    child.start()
    assert until(lambda: not child.alive)
    assert child.said() == "no such luck"


def test_scratch_goes_with_its_owner(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch = Scratch("test")
    (scratch.path / "data").mkdir()
    scratch.remove()
    scratch.remove()
    assert list(tmp_path.iterdir()) == []


def test_scratch_of_the_dead_is_swept_and_that_of_the_living_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = Scratch("living")
    dead = tmp_path / "session-monitor-dead-x"
    dead.mkdir()
    (dead / "owner.lock").touch()
    young = tmp_path / "session-monitor-young-x"
    young.mkdir()
    (young / "owner.lock").touch()
    for owner in (living.path, dead):
        os.utime(owner / "owner.lock", (0, 0))
    another = Scratch("another")
    assert living.path.is_dir()
    assert young.is_dir()
    assert not dead.exists()
    living.remove()
    another.remove()
