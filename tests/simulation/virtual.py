"""Virtual time: event loops that never wait, one for each simulated process, under one clock."""

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine
from typing import Any


class Loop(asyncio.BaseEventLoop):
    """An event loop that runs only when the world steps it, and whose time is the world's."""

    def __init__(self, world: "World") -> None:
        super().__init__()
        self._world = world
        self._selector = self
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        return self._world.now / 1000

    def select(self, _timeout: float | None) -> list[Any]:
        return []

    def _process_events(self, _events: Any) -> None: ...
    def _write_to_self(self) -> None: ...

    def step(self) -> None:
        """Run until nothing is ready; turns that never end are a fault of what is run."""
        events._set_running_loop(self)
        try:
            for _ in range(100_000):
                self._run_once()
                if not self._ready:
                    return
            raise AssertionError("the process turns and turns, and waits for nothing")
        finally:
            events._set_running_loop(None)

    def next_at(self) -> int | None:
        """When it wants to run next, in milliseconds; None: when it is called."""
        if self._ready:
            return self._world.now
        while self._scheduled and self._scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(self._scheduled)._scheduled = False
        return -int(-self._scheduled[0]._when * 1000 // 1) if self._scheduled else None

    def end(self) -> None:
        """Cancel what still runs, so that nothing outlives the simulation."""
        events._set_running_loop(self)
        try:
            for _ in range(50):
                tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
                if not tasks:
                    break
                for task in tasks:
                    task.cancel()
                for _ in range(20):
                    self._run_once()
        finally:
            events._set_running_loop(None)
        self.close()


class World:
    """One clock in whole milliseconds, what is to happen when, and the processes."""

    def __init__(self) -> None:
        self.now = 0
        self._count = 0
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self.loops: dict[Loop, Callable[[], bool]] = {}
        """Each with whether it may run: not when it is frozen."""

    def at(self, when: int, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (max(when, self.now), self._count, happen))

    def after(self, delay: int, happen: Callable[[], None]) -> None:
        self.at(self.now + delay, happen)

    def spawn(self, loop: Loop, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        return loop.create_task(work)

    def run(self, until: int) -> None:
        """Let everything happen up to and at this instant, in order."""
        while True:
            nexts = [(at, order, loop) for order, (loop, may) in enumerate(list(self.loops.items())) if may() and (at := loop.next_at()) is not None]
            loop_at, _, loop = min(nexts, key=lambda one: one[:2], default=(until + 1, 0, None))
            agenda_at = self._agenda[0][0] if self._agenda else until + 1
            if min(loop_at, agenda_at) > until:
                self.now = until
                return
            if loop is None or agenda_at <= loop_at:
                self.now = max(self.now, agenda_at)
                heapq.heappop(self._agenda)[2]()
            else:
                self.now = max(self.now, loop_at)
                loop.step()
