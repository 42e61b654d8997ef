"""`Background`: an event loop in a thread of its own, for what goes on by itself in applications that have none, or several."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from monitor.core.errors import InvariantError

T = TypeVar("T")

_STOP_WAIT: Final = 10.0


class Background:
    """Use it with `start` and `stop`. Thread-safe."""

    def __init__(self, name: str) -> None:
        """`name` is the thread's."""
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop. Raises InvariantError before `start`."""
        if self._loop is None:
            raise InvariantError("the event loop in the background has not been started")
        return self._loop

    def start(self) -> None:
        """Begin. A second call does nothing."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End what goes on there, within 10 s. Idempotent."""
        loop, self._loop = self._loop, None
        thread, self._thread = self._thread, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_STOP_WAIT)

    def wait(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        """What the coroutine gives, run there; from any thread but that one. Raises TimeoutError, and ends it, after so long."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(seconds)
        finally:
            future.cancel()

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            loop.close()
