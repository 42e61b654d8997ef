"""`AsyncPublisher`: the publisher for asyncio. The loop never waits: not for room, not for the broker."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from monitor.core.events import EventType
from monitor.core.instants import Millis
from monitor.publish.draft import Draft, Fields, draft
from monitor.publish.errors import DeliveryError, DeliveryFailure, PublisherClosed
from monitor.publish.producer import KafkaSettings
from monitor.publish.publisher import Publisher


class Settings(TypedDict, total=False):
    """The settings of `Publisher`, by the same names and with the same meaning."""

    connection: KafkaSettings
    bootstrap_servers: str | Sequence[str]
    source: str | None
    topic_prefix: str
    granularity: Millis
    buffer_limit: int
    on_full: Any
    block_timeout: float | None
    on_error: Callable[[DeliveryFailure], object] | None
    announce: bool
    cloudevents: bool
    connect_timeout: float
    delivery_timeout: Millis
    linger: Millis


class AsyncPublisher:
    """As `Publisher`, awaited. Use it with `async with`, or `start()` and `close()`.

    Where there is room, a call takes the event at once, without a switch of task. Where there is none it waits in
    a thread (`on_full="block"`), and a cancelled call takes its event back. Coroutines that publish for the
    same session at the same time have no order; one that awaits each call has. `on_error` runs in a thread.
    """

    def __init__(self, **settings: Unpack[Settings]) -> None:
        """Nothing is connected before `start`."""
        self._settings = settings
        self._started: Publisher | None = None
        # One thread: those who wait are served in the order they came.
        self._waiters = ThreadPoolExecutor(1, thread_name_prefix="session-monitor-room")

    async def start(self) -> Self:
        """Connect. Raises as `Publisher` does."""
        if self._started is None:
            self._started = await asyncio.to_thread(lambda: Publisher(**self._settings))
        return self

    @property
    def published(self) -> int:
        """Events acknowledged by the broker."""
        return self._publisher.published

    @property
    def coalesced(self) -> int:
        """Activities that needed no record of their own."""
        return self._publisher.coalesced

    @property
    def failed(self) -> int:
        """Records that were taken and are lost."""
        return self._publisher.failed

    @property
    def buffered(self) -> int:
        """Events taken and not yet acknowledged or failed."""
        return self._publisher.buffered

    async def opened(self, session_id: str, **fields: Unpack[Fields]) -> None:
        """A session began."""
        await self._publish(draft(EventType.OPENED, session_id, fields))

    async def activity(self, session_id: str, **fields: Unpack[Fields]) -> None:
        """The session was used; repetitions are coalesced."""
        await self._publish(draft(EventType.ACTIVITY, session_id, fields))

    async def reauthenticated(self, session_id: str, **fields: Unpack[Fields]) -> None:
        """The principal proved again who it is."""
        await self._publish(draft(EventType.REAUTHENTICATED, session_id, fields))

    async def closed(self, session_id: str, **fields: Unpack[Fields]) -> None:
        """The session ended by itself (logout)."""
        await self._publish(draft(EventType.CLOSED, session_id, fields))

    async def alive(self, *, final: bool = False, timeout: float | None = 30.0) -> None:  # noqa: ASYNC109 - as Publisher
        """Tell every partition that all events of this source up to now are on the log; `final` withdraws."""
        await asyncio.to_thread(self._publisher.alive, final=final, timeout=timeout)

    async def flush(self, timeout: float | None = 30.0) -> None:  # noqa: ASYNC109 - as Publisher
        """Return when every event taken so far is acknowledged. Raises DeliveryError."""
        await asyncio.to_thread(self._publisher.flush, timeout)

    async def close(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109 - as Publisher
        """Flush and end. Idempotent. Raises DeliveryError where events were lost."""
        try:
            if self._started is not None:
                await asyncio.to_thread(self._started.close, timeout)
        finally:
            self._waiters.shutdown(wait=False, cancel_futures=True)

    async def __aenter__(self) -> Self:
        """Connected."""
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close. An error of the body goes first."""
        try:
            await self.close()
        except DeliveryError:
            if error is None:
                raise

    @property
    def _publisher(self) -> Publisher:
        if self._started is None:
            raise PublisherClosed(
                "the AsyncPublisher is not started; use `async with AsyncPublisher(...)` or `await publisher.start()`"
            )
        return self._started

    async def _publish(self, event: Draft) -> None:
        publisher = self._publisher
        if (wait := publisher.take(event)) is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._waiters, wait)
        except asyncio.CancelledError:
            publisher.forget(event)
            raise
