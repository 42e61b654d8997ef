"""A process of ours that never outlives us: started with a log of its own, told to end, and killed where it won't."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

TAIL_LINES: Final = 15
TAIL_BYTES: Final = 16_384
LEASH_SECONDS: Final = 2.0
"""What a process has for a clean end after its parent has gone."""


class Child:
    """One child process in a session of its own, so that a terminal's Ctrl-C reaches the parent alone.

    Its stdin is a leash: a pipe that nobody writes to, and that ends with us, however we end. The child holds
    on to it with `on_leash`.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        """Nothing runs before `start`. What it says goes to `log`."""
        self.name = name
        self._command = command
        self._log = log
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a command of ours
                self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=dict(self._environ), start_new_session=True
            )  # fmt: skip

    @property
    def ended(self) -> int | None:
        """Its exit code where it has ended: 128 + n for signal n, as a shell has it. None where it runs."""
        code = None if self._process is None else self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def stop(self, seconds: float) -> None:
        """Tell it to end, and wait; after `seconds` kill it with whatever it has started. Idempotent."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            # Its group (it leads one), and before it is waited for: afterwards the number may be somebody else's.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def tail(self) -> str:
        """The last lines of its log."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, self._log.stat().st_size - TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError as error:
            return f"(its log can't be read: {error})"
        return "\n".join(lines[-TAIL_LINES:]) or "(it said nothing)"


def on_leash(descriptor: int = 0) -> None:
    """End this process when its parent does: told by SIGTERM at first, and after `LEASH_SECONDS` without ceremony."""

    def hold() -> None:
        with contextlib.suppress(OSError):
            while os.read(descriptor, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LEASH_SECONDS)
        os._exit(1)

    threading.Thread(target=hold, name="leash", daemon=True).start()
