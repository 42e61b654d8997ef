"""`Hub`: who waits for news of which session, and how they learn of it.

Changes come from the follower's thread, thousands at once; subscribers live on the event loop. The thread only notes which of the
sessions that changed somebody waits for, and wakes the loop once, however many they are. The loop then looks at each of them by the view as
it is: so what a subscriber holds is a state and never a queue, and a change that comes while it is busy costs nothing.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from monitor.gateway.api.advice import Advice
from monitor.gateway.api.problems import Fault, Refused
from monitor.gateway.changes import Change
from monitor.gateway.metrics import GatewayMetrics

PER_SESSION: Final = 32
"""At once of one session: nobody takes all the places with one token."""
SLICE: Final = 100
"""Subscribers looked at between two turns of the loop: a millisecond or two, after which decisions have their turn."""


class Subscription:
    """One subscriber's place. `wake` is set when there may be something to tell, or nothing any more (`over`)."""

    __slots__ = ("news", "over", "session_id", "wake")

    def __init__(self, session_id: str, news: Callable[[], object | None]) -> None:
        """`news` looks what there is to tell; None: nothing."""
        self.session_id, self.news = session_id, news
        self.wake = asyncio.Event()
        self.over = False

    def end(self) -> None:
        """Nothing more is wanted, or to be had."""
        self.over = True
        self.wake.set()


class Hub:
    """Use it on one event loop, between `start` and `stop`; `told` may be called from any thread, at any time."""

    def __init__(self, metrics: GatewayMetrics, *, subscribers: int, per_session: int = PER_SESSION) -> None:
        """`subscribers` and `per_session`: at most, at once."""
        self.advice: Final = Advice()
        self._metrics, self._limit, self._per_session = metrics, subscribers, per_session
        # Changed on the loop alone; the follower's thread looks whether a session is in it.
        self._waiting: dict[str, list[Subscription]] = {}
        self._count = 0
        self._noting = threading.Lock()
        self._named: set[str] = set()
        self._everyone = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Subscribers."""
        return self._count

    def start(self) -> None:
        """From now on there are subscribers, on the running loop. Idempotent."""
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """End every subscription, and admit none. Idempotent."""
        self._loop, sweeping, self._sweeping = None, self._sweeping, None
        for waiting in list(self._waiting.values()):
            for subscription in waiting:
                subscription.end()
        if sweeping is not None:
            sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeping

    def require_place(self, session_id: str) -> None:
        """Raise Refused unless there is a place for one more subscriber of this session."""
        if self._loop is None or self._count >= self._limit:
            raise Refused(Fault.TOO_MANY_SUBSCRIBERS, f"all {self._limit} places of this gateway are taken, or it is about to stop")
        if len(self._waiting.get(session_id, ())) >= self._per_session:
            raise Refused(Fault.TOO_MANY_OF_SESSION, f"this session has {self._per_session} subscribers here; close one of them first")

    @contextlib.contextmanager
    def subscribed(self, session_id: str, news: Callable[[], object | None]) -> Iterator[Subscription]:
        """A place, as long as the block lasts. What changes from here on wakes it; what has changed before is to be looked at."""
        subscription = Subscription(session_id, news)
        self._waiting.setdefault(session_id, []).append(subscription)
        self._set_count(self._count + 1)
        try:
            yield subscription
        finally:
            self._set_count(self._count - 1)
            waiting = self._waiting[session_id]
            waiting.remove(subscription)
            if not waiting:
                del self._waiting[session_id]

    def told(self, changes: Sequence[Change]) -> None:
        """A `Listener` of the follower. 0.1 us a change; neither raises nor waits."""
        self.advice.take(changes)
        waiting = self._waiting
        if not waiting:
            return
        everyone = any(not change.session_id for change in changes)
        named = () if everyone else {change.session_id for change in changes if change.session_id in waiting}
        if not everyone and not named:
            return
        with self._noting:
            asleep = not self._everyone and not self._named
            self._everyone |= everyone
            self._named.update(named)
        loop = self._loop
        if asleep and loop is not None:
            # A loop that has been closed meanwhile has no subscribers.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._loop is not None and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.create_task(self._sweep(), name="hub-sweep")

    async def _sweep(self) -> None:
        while found := self._noted():
            for number, subscription in enumerate(found, 1):
                if subscription.news() is not None:
                    subscription.wake.set()
                if number % SLICE == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0)

    def _noted(self) -> list[Subscription]:
        """Those to be looked at, of what has been noted since the last time."""
        with self._noting:
            everyone, named = self._everyone, self._named
            self._everyone, self._named = False, set()
        if everyone:
            return [one for waiting in self._waiting.values() for one in waiting]
        return [one for session_id in named for one in self._waiting.get(session_id, ())]

    def _set_count(self, count: int) -> None:
        self._count = count
        self._metrics.subscribers(count)
