"""Processes under measurement: started, ended, and their CPU time and memory as the operating system accounts them (Linux)."""

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from monitor.core.errors import AbsenceError

_TICKS = os.sysconf("SC_CLK_TCK")
_OURS = "SESSION_MONITOR_"


class Usage(msgspec.Struct, frozen=True):
    """What a process and its children have used so far."""

    cpu_seconds: float
    rss_bytes: int


class Program:
    """One program, in Python unless another is given. Its report is what it prints on stdout; whatever else it says goes to a log."""

    def __init__(self, arguments: Sequence[str], log: Path, program: str = sys.executable) -> None:
        """`arguments` follow the program's name. Settings in the environment are not passed on: those shipped count."""
        self._command = [program, *arguments]
        self._log = log
        self._report = log.with_suffix(".report")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Run it."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        with self._log.open("ab") as log, self._report.open("wb") as report:
            self._process = subprocess.Popen(  # noqa: S603 - a command of ours
                self._command, stdout=report, stderr=log, stdin=subprocess.DEVNULL, env=environ
            )
        return self

    @property
    def pid(self) -> int:
        """Of the running program."""
        if self._process is None:
            raise AbsenceError(f"{self._log.stem} was not started")
        return self._process.pid

    def usage(self) -> Usage:
        """What it has used so far; of a living program only."""
        self.require()
        return usage(self.pid)

    def require(self) -> None:
        """Raise AbsenceError, with the end of its log, if it has ended."""
        if self._process is None or self._process.poll() is not None:
            raise AbsenceError(f"{self._log.stem} ended too soon:\n{self.said()}")

    def wait(self, seconds: float) -> None:
        """Until it has ended by itself. Raises AbsenceError where it failed, or takes longer."""
        if self._process is None:
            raise AbsenceError(f"{self._log.stem} was not started")
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AbsenceError(f"{self._log.stem} was not done after {seconds:.0f} s:\n{self.said()}") from None
        if code:
            raise AbsenceError(f"{self._log.stem} failed with exit code {code}:\n{self.said()}")

    def stop(self, seconds: float = 30.0) -> None:
        """SIGTERM; SIGKILL after so many seconds. Idempotent."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def reported(self) -> bool:
        """Whether it has printed a line."""
        return b"\n" in self._report.read_bytes()

    def report(self) -> bytes:
        """The last line it printed."""
        lines = self._report.read_bytes().splitlines()
        if not lines:
            raise AbsenceError(f"{self._log.stem} reported nothing:\n{self.said()}")
        return lines[-1]

    def said(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
        return ""


def usage(pid: int) -> Usage:
    """User and system time of a process, its threads and its living and reaped children; resident memory."""
    cpu, rss = 0.0, 0
    for member in _family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rsplit(")", 1)[1].split()
            status = Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        cpu += sum(int(fields[place]) for place in (11, 12, 13, 14)) / _TICKS
        rss += next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
    return Usage(cpu, rss)


def _family(pid: int) -> list[int]:
    members = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            members.extend(_family(int(child)))
    return members


def machine() -> dict[str, Any]:
    """What this machine is, and how busy it was with other things just now: for the figures to mean something."""
    model = ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": round(os.getloadavg()[0], 1),
    }
