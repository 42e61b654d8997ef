"""`RefusedOnce`: which refusals have been told, in bounded memory."""

import threading
from typing import Final

MOST: Final = 50_000
"""Sessions that are remembered: those that were refused last. One that comes back after so many others is told again, which harms nobody."""


class RefusedOnce:
    """Of each session the last command by which it was refused. Thread-safe; all is O(1)."""

    def __init__(self, most: int = MOST) -> None:
        """At most so many sessions are remembered."""
        self._most, self._lock = most, threading.Lock()
        self._told: dict[str, int] = {}

    def first(self, session_id: str, command: int) -> bool:
        """Whether this is the first time; from now on it is not. `command` stands for one command, in whatever way."""
        if self._told.get(session_id) == command:
            return False
        with self._lock:
            if self._told.pop(session_id, None) == command:
                self._told[session_id] = command
                return False
            if len(self._told) >= self._most:
                # The one that came first: a dict keeps the order.
                del self._told[next(iter(self._told))]
            self._told[session_id] = command
            return True
