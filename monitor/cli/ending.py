"""Ctrl-C, SIGTERM and a closed terminal, made into one clean end."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Final, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The end is wanted now. Not an Exception: nobody on the way up may take it for a failure."""


class Ending:
    """Takes the signals over while it is entered, from the main thread.

    At first the end interrupts whatever runs there: starting may take long. After `patiently` it only sets
    `wanted`: a loop that looks at it ends between two turns, and a clean-up is never cut short.
    """

    def __init__(self) -> None:
        """Nothing is taken over yet."""
        self.wanted = threading.Event()
        self._interrupts = True
        self._before: list[tuple[signal.Signals, object]] = []

    def patiently(self) -> None:
        """From now on only set `wanted`."""
        self._interrupts = False

    def __enter__(self) -> Self:
        """Take over."""
        for number in SIGNALS:
            # nohup has asked to outlive the terminal; a shell that ignores SIGINT for a job has asked for nothing.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before.append((number, signal.signal(number, self._handle)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back."""
        for number, handler in self._before:
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.wanted.set()
        if self._interrupts:
            self._interrupts = False
            raise Interrupted
