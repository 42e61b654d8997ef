"""`worker --processes N`: a parent that keeps N worker processes, and does nothing else.

Kafka spreads the partitions over them; they share nothing. A child that dies is started again, later each time;
one that can't even start stops all, for its fault is most likely everybody's. Children end with the parent.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from monitor.core.errors import AbsenceError
from monitor.core.instants import SECOND, Millis

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Patience(msgspec.Struct, frozen=True):
    """How long to wait for what."""

    settled_after: Millis = 15 * SECOND
    """A child that fails earlier, on its first run, has failed at start."""
    backoff: Millis = SECOND // 2
    """Before the first restart; doubled at each further one ..."""
    backoff_most: Millis = 30 * SECOND
    """... up to this. A child that has settled begins anew."""
    stop: Millis = 60 * SECOND
    """For a child to end when told; then it is killed."""


class Child:
    """One worker process, again and again."""

    def __init__(self, command: Sequence[str], patience: Patience, environ: Mapping[str, str] | None) -> None:
        """`command` is what to run, the program first."""
        self.command = command
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0
        self._patience = patience
        self._environ = environ
        self._delay = patience.backoff

    async def run(self, stopping: asyncio.Event) -> int:
        """Keep it running until `stopping`. Returns its last exit code, at once if it fails at start."""
        loop = asyncio.get_running_loop()
        first = True
        while True:
            began = loop.time()
            try:
                # A session of its own: Ctrl-C in a terminal reaches the parent alone, which tells each child once.
                self.process = await asyncio.create_subprocess_exec(
                    *self.command,
                    env=self._environ,
                    start_new_session=True,
                    preexec_fn=_follow_parent(os.getpid()),
                )
            except OSError as error:
                raise AbsenceError(f"{self.command[0]} can't be started: {error.strerror}") from error
            if stopping.is_set():
                self.tell(signal.SIGTERM)
            code = exit_code(await self.process.wait())
            self.process = None
            if stopping.is_set():
                # One that was told before it could listen died of the signal: that is as good.
                return 0 if code == exit_code(-signal.SIGTERM) else code
            settled = (loop.time() - began) * 1000 >= self._patience.settled_after
            if first and not settled and code != 0:
                return code
            self._delay = (
                self._patience.backoff if settled else min(2 * self._delay, self._patience.backoff_most)
            )
            first = False
            self.restarts += 1
            log.error(
                "worker_process_died",
                extra={"code": code, "again_in_ms": self._delay, "restarts": self.restarts},
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), self._delay / 1000)
            if stopping.is_set():
                return 0

    def tell(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        process = self.process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


class Supervisor:
    """Runs one child for each command until told to stop, or until one fails at start."""

    def __init__(
        self, commands: Sequence[Sequence[str]], patience: Patience = Patience(),  # noqa: B008 - frozen
        environ: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`environ` is what the children see; None: what we see."""
        self.children = [Child(command, patience, environ) for command in commands]
        self._patience = patience
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """The exit code: 0 when told to stop and every child ended well, else the worst child's."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.stop)
        tasks = [asyncio.create_task(child.run(self._stopping)) for child in self.children]
        told = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([*tasks, told], return_when=asyncio.FIRST_COMPLETED)
            # All are told to end, or one has failed at start and the rest follow it.
            self.stop()
            _, late = await asyncio.wait(tasks, timeout=self._patience.stop / 1000)
            if late:
                log.error("worker_processes_killed", extra={"count": len(late)})
                for child in self.children:
                    child.tell(signal.SIGKILL)
            codes = await asyncio.gather(*tasks)
            return max(codes)
        finally:
            self._stopping.set()
            for child in self.children:
                child.tell(signal.SIGKILL)
            await asyncio.gather(*tasks, return_exceptions=True)
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Tell every child to end. Idempotent: they are told once."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        for child in self.children:
            child.tell(signal.SIGTERM)


def worker_commands(name: str, processes: int, arguments: Sequence[str]) -> list[list[str]]:
    """The command of each of N workers: the same arguments, a name of its own, and a free port for its API."""
    program = [sys.executable, "-m", "monitor", "worker"]
    return [
        [*program, *arguments, "--name", f"{name}-{number}", "--api-port", "0"] for number in range(processes)
    ]


def exit_code(returned: int) -> int:
    """The exit code as a shell has it: 128 + n for signal n."""
    return returned if returned >= 0 else 128 - returned


def _follow_parent(parent: int) -> Callable[[], None] | None:
    """What a child does before it becomes the program: ask to be killed when the parent dies. Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    # Loaded here: between fork and exec nothing may be imported.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    killed = int(signal.SIGKILL)

    def follow() -> None:
        prctl(_PR_SET_PDEATHSIG, killed, 0, 0, 0)
        if os.getppid() != parent:
            # It died before we asked.
            os._exit(128 + killed)

    return follow
