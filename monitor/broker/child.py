"""`Child`: a program run by this process that never outlives it, however this process ends.

On Linux the kernel itself kills the child when its parent dies (`prctl(2)`, PR_SET_PDEATHSIG). That "parent" is the
thread that made the child, so a thread of its own makes it and waits for it: whoever called `start` may be gone by
then. Elsewhere only an orderly end takes the child along.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from monitor.core.errors import InvariantError

# The check after prctl closes the race with a parent that died before it. -I -S: nothing of ours is imported.
_LAUNCH: Final = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Child:
    """One program. Its output goes to a file of the caller's; Ctrl-C in a terminal does not reach it.

    `start` and `stop` are for one thread at a time; `stop` is idempotent and bounded.
    """

    def __init__(self, command: Sequence[str], output: Path) -> None:
        """`command[0]` is the path of the program; `output` is appended to."""
        self._command = list(command)
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        self._begun = threading.Event()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the running program."""
        return self._running().pid

    def start(self) -> None:
        """Run it. Raises OSError where that can't be done."""
        threading.Thread(target=self._keep, name="child-keeper", daemon=True).start()
        self._begun.wait()
        if self._failure is not None:
            raise self._failure
        atexit.register(self.kill)

    def stop(self, timeout: float = 10.0) -> None:
        """Ask it to end; end it after `timeout` seconds."""
        if self._process is None:
            return
        self._process.terminate()
        deadline = time.monotonic() + timeout
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End it at once: SIGKILL."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        atexit.unregister(self.kill)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal (SIGSTOP and SIGCONT make a broker that hangs)."""
        self._running().send_signal(number)

    def said(self, tail: int = 2000) -> str:
        """The last of its output, to be shown when it failed."""
        try:
            return self._output.read_bytes()[-tail:].decode(errors="replace").strip()
        except OSError:
            return ""

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise InvariantError(f"{self._command[0]} was asked for before it was started")
        return self._process

    def _keep(self) -> None:
        try:
            with self._output.open("ab") as output:
                self._process = subprocess.Popen(  # noqa: S603 - our own command
                    [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *self._command],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                    cwd=self._output.parent,
                )  # fmt: skip
        except OSError as error:
            self._failure = error
            return
        finally:
            self._begun.set()
        self._process.wait()
