"""From the main loop to the loop of another thread, and back with the answer.

`asyncio.run_coroutine_threadsafe` wants a coroutine that exists already, and leaves it lying, never awaited,
where the other loop ends first; here nothing exists before it runs.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Crossing(Generic[T]):
    """One call on its way: made on the main loop, run on another. Both ends touch only their own loop."""

    def __init__(
        self, there: asyncio.AbstractEventLoop, call: Callable[..., Coroutine[Any, Any, T]], *args: Any
    ) -> None:
        """Begin `call(*args)` on the loop `there`; calls keep their order. RuntimeError where that loop is closed."""
        self._here = asyncio.get_running_loop()
        self._there = there
        self._task: asyncio.Task[T] | None = None
        self._unwanted = False
        self.answer: asyncio.Future[T] = self._here.create_future()
        """Never done where the other loop ends first."""
        there.call_soon_threadsafe(self._begin, call, args)

    async def wait(self) -> T:
        """The answer, or its error; being cancelled cancels the call."""
        try:
            return await self.answer
        except asyncio.CancelledError:
            with contextlib.suppress(RuntimeError):  # that loop has ended, and the call with it
                self._there.call_soon_threadsafe(self._cancel)
            raise

    def _begin(self, call: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...]) -> None:
        if not self._unwanted:
            self._task = self._there.create_task(call(*args))
            self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        self._unwanted = True
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: "asyncio.Task[T]") -> None:
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits any more
        with contextlib.suppress(RuntimeError):
            self._here.call_soon_threadsafe(self._bring, task)

    def _bring(self, task: "asyncio.Task[T]") -> None:
        if self.answer.done():
            return
        if task.cancelled():
            self.answer.cancel()
        elif (error := task.exception()) is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(task.result())


async def across(
    there: asyncio.AbstractEventLoop, call: Callable[..., Coroutine[Any, Any, T]], *args: Any
) -> T:
    """`await call(*args)` on another thread's loop."""
    return await Crossing(there, call, *args).wait()
