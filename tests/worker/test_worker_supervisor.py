"""The supervisor: N children, kept alive, told to end, and never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from monitor.core.errors import AbsenceError
from monitor.worker.supervisor import Child, Patience, Supervisor, exit_code, worker_commands

CHILD = """
import os, signal, sys, time
directory, mode = sys.argv[1], sys.argv[2]

def note(what):
    with open(os.path.join(directory, "notes"), "a") as file:
        file.write(f"{what} {os.getpid()}\\n")

def told(number, frame):
    note("told")
    if mode != "deaf":
        sys.exit(0)

signal.signal(signal.SIGTERM, told)
note("started")
if mode.startswith("exit"):
    sys.exit(int(mode[4:]))
while True:
    time.sleep(0.05)
"""
QUICK = Patience(settled_after=0, backoff=10, backoff_most=40, stop=20_000)


class Nest:
    """Where the children write what they do."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.program = directory / "child.py"
        self.program.write_text(CHILD)

    def command(self, mode="stay"):
        return [sys.executable, str(self.program), str(self.directory), mode]

    def notes(self, what):
        try:
            lines = (self.directory / "notes").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [int(line.split()[1]) for line in lines if line.startswith(what)]

    async def until(self, what, count):
        async with asyncio.timeout(30):
            while len(found := self.notes(what)) < count:
                await asyncio.sleep(0.02)
        return found


@pytest.fixture
def nest(tmp_path):
    nest = Nest(tmp_path)
    yield nest
    for pid in nest.notes("started"):
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


async def test_children_run_and_end_when_told(nest):
    supervisor = Supervisor([nest.command(), nest.command()], QUICK)
    running = asyncio.create_task(supervisor.run())
    pids = await nest.until("started", 2)
    supervisor.stop()
    supervisor.stop()
    assert await running == 0
    assert sorted(nest.notes("told")) == sorted(pids)
    assert not any(map(psutil.pid_exists, pids))


async def test_a_terminals_ctrl_c_reaches_the_parent_alone(nest):
    supervisor = Supervisor([nest.command()], QUICK)
    running = asyncio.create_task(supervisor.run())
    (pid,) = await nest.until("started", 1)
    assert os.getsid(pid) == pid
    supervisor.stop()
    assert await running == 0


async def test_a_signal_to_the_parent_is_forwarded(nest):
    running = asyncio.create_task(Supervisor([nest.command()], QUICK).run())
    await nest.until("started", 1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert len(nest.notes("told")) == 1


async def test_a_child_that_dies_is_started_again(nest):
    supervisor = Supervisor([nest.command(), nest.command()], QUICK)
    running = asyncio.create_task(supervisor.run())
    first = (await nest.until("started", 2))[0]
    os.kill(first, signal.SIGKILL)
    pids = await nest.until("started", 3)
    assert len(set(pids)) == 3
    assert sum(child.restarts for child in supervisor.children) == 1
    supervisor.stop()
    assert await running == 0
    assert len(nest.notes("told")) == 2


async def test_a_child_that_goes_on_dying_is_started_later_each_time(nest):
    patience = Patience(settled_after=3_600_000, backoff=10, backoff_most=40)
    child, stopping = Child(nest.command("exit0"), patience, None), asyncio.Event()
    running = asyncio.create_task(child.run(stopping))
    await nest.until("started", 4)
    assert child._delay == 40
    stopping.set()
    assert await running == 0


async def test_failing_at_start_stops_all_with_the_worst_code(nest):
    patience = Patience(settled_after=3_600_000, backoff=10)
    supervisor = Supervisor([nest.command(), nest.command("exit2"), nest.command("exit3")], patience)
    code = await supervisor.run()
    assert code in {2, 3}
    assert not any(map(psutil.pid_exists, nest.notes("started")))


async def test_a_single_failure_at_start_gives_its_code(nest):
    patience = Patience(settled_after=3_600_000)
    assert await Supervisor([nest.command("exit4"), nest.command()], patience).run() == 4


async def test_a_child_that_does_not_listen_is_killed(nest):
    supervisor = Supervisor([nest.command("deaf")], Patience(settled_after=0, stop=300))
    running = asyncio.create_task(supervisor.run())
    pids = await nest.until("started", 1)
    supervisor.stop()
    assert await running == 137
    assert not psutil.pid_exists(pids[0])


async def test_a_cancelled_supervisor_leaves_nobody(nest):
    running = asyncio.create_task(Supervisor([nest.command("deaf")], QUICK).run())
    pids = await nest.until("started", 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not psutil.pid_exists(pids[0])


async def test_a_program_that_is_not_there_says_so(nest):
    with pytest.raises(AbsenceError, match="can't be started"):
        await Supervisor([[str(nest.directory / "nothing")]], QUICK).run()


PARENT = """
import asyncio, sys
from monitor.worker.supervisor import Supervisor
asyncio.run(Supervisor([sys.argv[1:]] * 2).run())
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="a parent's death signal is a thing of Linux"
)
async def test_children_never_outlive_a_parent_that_is_killed(nest):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *nest.command("deaf")])  # noqa: ASYNC220
    try:
        pids = await nest.until("started", 2)
    finally:
        parent.kill()
        parent.wait()
    async with asyncio.timeout(10):
        while any(
            psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids
        ):
            await asyncio.sleep(0.02)


def test_each_worker_has_a_name_and_a_port_of_its_own():
    commands = worker_commands("w", 2, ["--policy", "p.yaml"])
    assert [command[1:] for command in commands] == [
        ["-m", "monitor", "worker", "--policy", "p.yaml", "--name", f"w-{n}", "--api-port", "0"]
        for n in range(2)
    ]


def test_exit_codes_are_those_of_a_shell():
    assert [exit_code(returned) for returned in (0, 3, -9)] == [0, 3, 137]
