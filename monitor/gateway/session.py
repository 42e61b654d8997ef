"""`Session`: what an application is told of the session whose request it serves, and when that session ends."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Final

import msgspec

from monitor.core.events import Principal
from monitor.core.instants import Millis
from monitor.gateway.facts import Facts

KEY: Final = "session_monitor"
"""Where it stands: `scope["session_monitor"]` (ASGI), `environ["session_monitor"]` (WSGI)."""

_CHANGING: Final = threading.Lock()
"""One for all: it is held for as long as a list takes one more."""


class Ending:
    """Whether the session has ended while its request runs, and why. From any thread, on any event loop.

    `if session.ended:` asks, `await session.ended` and `session.ended.wait(seconds)` wait. Nobody is told of the end of a session
    whose request is over.
    """

    __slots__ = ("_callbacks", "_reason")

    def __init__(self) -> None:
        """Not ended yet."""
        self._reason: str | None = None
        self._callbacks: list[Callable[[], object]] | None = None

    def __bool__(self) -> bool:
        """Whether it has ended: the request will be cut when the drain time is over."""
        return self._reason is not None

    @property
    def reason(self) -> str:
        """Why: a word of `core.reasons.Reason`, or of a newer monitor; empty where it has not ended."""
        return self._reason or ""

    def end(self, reason: str) -> None:
        """It has ended. Raises what a callback raises, when all have been called; a second call does nothing."""
        with _CHANGING:
            if self._reason is not None:
                return
            self._reason, callbacks = reason, self._callbacks or ()
        faults = []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - the application's own; raised below
                faults.append(error)
        if faults:
            raise ExceptionGroup("what was to be called at the end of a session failed", faults)

    def tell(self, callback: Callable[[], object]) -> None:
        """Call it when the session ends, in the thread that learns of it: it must not wait. At once, where it has ended."""
        with _CHANGING:
            if self._reason is None:
                self._callbacks = self._callbacks or []
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait in a thread, at most so long; whether it has ended."""
        told = threading.Event()
        self.tell(told.set)
        try:
            return told.wait(seconds)
        finally:
            self._forget(told.set)

    def __await__(self) -> Generator[object, None, str]:
        """Wait on an event loop; the reason."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not told.done():
                told.set_result(None)

        def tell() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(wake)

        self.tell(tell)
        try:
            yield from told
        finally:
            self._forget(tell)
        return self.reason

    def _forget(self, callback: Callable[[], object]) -> None:
        """Of one who no longer waits nothing stays behind."""
        with _CHANGING:
            if self._callbacks is not None and callback in self._callbacks:
                self._callbacks.remove(callback)


class Session(msgspec.Struct, frozen=True):
    """The session of a request. What is not known is None."""

    session_id: str | None
    """As the monitor knows it: a verified claim, or the hash of what the client has sent; None: the request names no session."""
    subject: str | None
    principal: Principal | None
    roles: tuple[str, ...] | None
    tenant: str | None
    acr: str | None
    auth_time: Millis | None
    """When the principal last authenticated; of a whole second, its first millisecond."""
    stale: bool
    """What is known of ended sessions is old, and the request was served all the same (best effort)."""
    ended: Ending

    @classmethod
    def of(cls, facts: Facts, ended: Ending, *, stale: bool = False) -> "Session":
        """The session of an admitted request."""
        return cls(
            facts.session_id, facts.subject, facts.principal, facts.roles, facts.tenant, facts.acr, facts.auth_time, stale, ended
        )
