"""The feed of one session, as server-sent events (WHATWG HTML section 9.2): what is to be told next, and how it is told.

`session.expiring`    the monitor has warned: it will end at `effective_at`
`session.expired`     it has ended, or is locked: `reason`, `effective_at`, `reauth`
`session.reinstated`  it lives again

A subscriber is told how its session stands, not what has happened to it: of several changes while it was busy, or away, the last one counts.
The id of an event names what was told; a client that comes back with it (`Last-Event-ID`) is told only what is new to it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import msgspec

from monitor.core.instants import SECOND, Millis
from monitor.core.reasons import MESSAGE
from monitor.gateway.api.hub import Hub, Subscription
from monitor.gateway.api.standing import Look, Standing, State
from monitor.wire.codec import encode

HEARTBEAT: Final[Millis] = 15 * SECOND
"""Proxies close what is silent for longer than half a minute or so."""
RETRY: Final[Millis] = 3 * SECOND
"""What a browser waits before it comes back."""
STUCK: Final = 30.0
"""Seconds that a subscriber has to take what is sent; who takes nothing for so long is let go."""

_HEADERS: Final = [
    (b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"),
    # nginx and those who learned from it keep a response back until their buffer is full.
    (b"x-accel-buffering", b"no"),
]  # fmt: skip
_BEGINNING: Final = b"retry: %d\n\n" % RETRY
_BEAT: Final = b":\n\n"
_OVER: Final = frozenset({State.ENDED, State.LOCKED})
_EXPIRED: Final = "expired"
_REFUSED: Final = "refused"
"""By a lock, a revocation of many or the absolute limit: what no command has done, none takes back."""
_LIVE: Final = "live"

Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[Any]]


class Told(msgspec.Struct, frozen=True):
    """One event."""

    event: str
    id: str
    data: bytes

    @property
    def frame(self) -> bytes:
        """It on the wire. Neither of its parts has a line break."""
        return b"event: %b\nid: %b\ndata: %b\n\n" % (self.event.encode(), self.id.encode(), self.data)


def next_told(look: Look, last: str) -> Told | None:
    """What is to be told to a subscriber whose last event has the id `last` (empty: none, or not known here); None: nothing."""
    standing = look.standing
    if standing.state in _OVER:
        said_id = f"{_EXPIRED if look.commanded else _REFUSED}-{_digest(encode(standing))}"
        members = _members(standing, "session_id", "reason", "effective_at", "reauth") | {"message": MESSAGE}
        return None if said_id == last else Told("session.expired", said_id, encode(members))
    if standing.state is State.UNKNOWN:
        return None
    # A session that ended by a command and lives without one is forgotten: nobody has brought it back.
    if last.startswith(_REFUSED) or (last.startswith(_EXPIRED) and look.reinstated):
        return Told("session.reinstated", _LIVE, encode({"session_id": standing.session_id}))
    if standing.ends_at is None:
        return None
    said_id = f"expiring-{_digest(b'%d %b' % (standing.ends_at, (standing.ends_for or '').encode()))}"
    members = {"reason": standing.ends_for, "effective_at": standing.ends_at, "time_left_ms": standing.time_left_ms}
    return None if said_id == last else Told("session.expiring", said_id, encode(_members(standing, "session_id") | members))


def _members(standing: Standing, *names: str) -> dict[str, object]:
    return {name: value for name in names if (value := getattr(standing, name)) is not None}


def _digest(said: bytes) -> str:
    return blake2b(said, digest_size=8).hexdigest()


class Feed:
    """One subscriber's."""

    def __init__(self, look: Callable[[], Look], wall: Callable[[], Millis], last: str, until: Millis | None) -> None:
        """`last` is the id that the client was told last; `until` when its token expires, None: it does not."""
        self._look, self._wall, self._last, self._until = look, wall, last, until
        self._ends_by: Millis | None = None

    def news(self) -> Told | None:
        """What there is to tell."""
        look = self._look()
        self._ends_by = look.standing.ends_by
        return next_told(look, self._last)

    async def serve(self, hub: Hub, session_id: str, receive: Receive, send: Send) -> None:
        """Tell, until the subscriber is gone or has its time, or the hub stops."""
        with hub.subscribed(session_id, self.news) as subscription:
            watching = asyncio.create_task(_watch(receive, subscription), name="feed-watch")
            try:
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await self._tell(subscription, send)
            except TimeoutError:
                return
            finally:
                watching.cancel()

    async def _tell(self, subscription: Subscription, send: Send) -> None:
        loop, beat = asyncio.get_running_loop(), _BEGINNING

        def ring() -> None:
            nonlocal beat
            beat = _BEAT
            subscription.wake.set()

        while not subscription.over:
            # Before the look: what changes after it sets the flag again.
            subscription.wake.clear()
            said = self.news()
            if said is not None or beat:
                await _send(send, beat + (b"" if said is None else said.frame))
                self._last = self._last if said is None else said.id
            left, beat = self._left(), b""
            if left <= 0:
                break
            timer = loop.call_later(left / SECOND, ring)
            await subscription.wake.wait()
            timer.cancel()
        await _send(send, b"", more=False)

    def _left(self) -> Millis:
        """Until it must be looked at again; nothing: the token has expired."""
        wall = self._wall()
        left = HEARTBEAT
        if self._ends_by is not None and self._ends_by > wall:
            left = min(left, self._ends_by - wall)
        return left if self._until is None else min(left, self._until - wall)


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    async with asyncio.timeout(STUCK):
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _watch(receive: Receive, subscription: Subscription) -> None:
    """See the client go. Whatever body it sends is let go of."""
    while (await receive())["type"] != "http.disconnect":
        pass
    subscription.end()
