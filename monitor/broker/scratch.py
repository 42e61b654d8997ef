"""`Scratch`: a temporary directory that goes away even when its owner was killed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

_PREFIX: Final = "session-monitor-"
_LOCK: Final = "owner.lock"
_GRACE_SECONDS: Final = 60.0
"""A directory this young may be between its making and its locking."""


class Scratch:
    """A directory of this process, made at once. `remove` takes it away.

    Those whose owner died without `remove` (their lock is free) are swept by the next one made on this machine.
    """

    def __init__(self, purpose: str) -> None:
        """`purpose` becomes part of the name, for people who look."""
        _sweep()
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{purpose}-"))
        self._lock = (self.path / _LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Take the directory away, with all that is in it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _sweep() -> None:
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):
            known = lock.stat()
            if known.st_uid != os.getuid() or time.time() - known.st_mtime < _GRACE_SECONDS:
                continue
            with lock.open("rb") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its owner lives
                shutil.rmtree(lock.parent, ignore_errors=True)
