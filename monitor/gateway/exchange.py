"""`HttpExchange`, `WebSocketExchange`: one exchange with a client over ASGI: what state it is in, how it is refused, and how it is cut.

| cut                            | the client sees                                                                   |
|--------------------------------|-----------------------------------------------------------------------------------|
| before the response has begun  | the refusal, as if it had come with the request                                   |
| while the response is sent     | a connection that ends before the response does                                   |
| during a WebSocket's handshake | the refusal, where the server can send one; else 403                              |
| while a WebSocket is open      | close code 4000 + the status (4401, 4403), with the title of the refusal as reason |

A response that is cut is not brought to its end, as if it were whole: an ASGI application that returns too early makes its server
close the connection. From then on the application sends nothing more: its `send` raises `SessionCut`, an OSError, as it does
where a client has gone.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from monitor.gateway.answers import STALE, Reply
from monitor.gateway.question import encoded

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

CLOSE_CODES: Final = 4000
"""Plus the status of the refusal: of the range that RFC 6455 section 7.4.2 leaves to applications."""
TRY_AGAIN: Final = 1013
"""For 503: the registry of RFC 6455 has a code for it."""

_STALE: Final = encoded(STALE)
_DENIAL: Final = "websocket.http.response"
_LONGEST_REASON: Final = 123
"""Bytes (RFC 6455 section 5.5)."""


class SessionCut(OSError):  # noqa: N818 - what has happened; to an application it is a client that has gone
    """The session has ended, and this request with it."""


class HttpExchange:
    """A request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, on_subscribed: Callable[[], None], on_complete: Callable[[], None]) -> None:
        """`on_subscribed` is called where the response is a feed of events to be listened to, `on_complete` when it has been sent."""
        self.receive: Final = receive
        self._send, self._listens = send, scope["method"] == "GET"
        self._on_subscribed, self._on_complete = on_subscribed, on_complete
        self._began = self._complete = self._over = False
        self.stale = False
        """To be marked: the view was too old to be sure."""

    async def send(self, message: Message) -> None:
        """The application's `send`."""
        if self._over:
            raise SessionCut("the session has ended: nothing more is sent to its client")
        kind = message["type"]
        if kind == "http.response.start":
            self._began = True
            headers = message.get("headers") or ()
            if self._listens and any(name.lower() == b"content-type" and is_feed(value.decode("latin-1")) for name, value in headers):
                self._on_subscribed()
            if self.stale:
                message = {**message, "headers": [*headers, *_STALE]}
        elif (kind == "http.response.body" and not message.get("more_body", False)) or kind == "http.response.pathsend":
            self._complete = True
        await self._send(message)
        if self._complete:
            self._on_complete()

    async def refuse(self, reply: Reply, title: str) -> None:
        """Answer in the application's place: whole, where nothing has been sent; else not at all."""
        self._over = True
        if not self._began:
            length = (b"content-length", str(len(reply.body)).encode())
            await self._send({"type": "http.response.start", "status": reply.status, "headers": [*encoded(reply.headers), length]})
            await self._send({"type": "http.response.body", "body": reply.body})


class WebSocketExchange:
    """A WebSocket, from its handshake on."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, may_pass: Callable[[Message], bool]) -> None:
        """`may_pass` is asked about each message of the client; where it may not, the client is gone for the application."""
        self._receive, self._send, self._may_pass = receive, send, may_pass
        self._denies = _DENIAL in (scope.get("extensions") or {})
        self._asked = self._open = self._closed = self._over = False
        self.stale = False

    async def receive(self) -> Message:
        """The application's `receive`."""
        message = await self._receive()
        kind = message["type"]
        if kind == "websocket.receive":
            if not self._may_pass(message):
                return {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        elif kind == "websocket.connect":
            self._asked = True
        elif kind == "websocket.disconnect":
            self._closed = True
        return message

    async def send(self, message: Message) -> None:
        """The application's `send`."""
        if self._over:
            raise SessionCut("the session has ended: nothing more is sent to its client")
        kind = message["type"]
        if kind == "websocket.accept":
            self._open = True
            if self.stale:
                message = {**message, "headers": [*(message.get("headers") or ()), *_STALE]}
        elif kind in ("websocket.close", "websocket.http.response.start"):
            self._closed = True
        await self._send(message)

    async def refuse(self, reply: Reply, title: str) -> None:
        """Refuse the handshake, or close what is open; `title` says why."""
        self._over = True
        if self._closed:
            return
        if self._open:
            code = TRY_AGAIN if reply.status == 503 else CLOSE_CODES + reply.status
            await self._send({"type": "websocket.close", "code": code, "reason": title.encode()[:_LONGEST_REASON].decode(errors="ignore")})
            return
        if not self._asked:
            # The specification has the handshake heard before it is answered.
            await self._receive()
        if self._denies:
            await self._send({"type": f"{_DENIAL}.start", "status": reply.status, "headers": encoded(reply.headers)})
            await self._send({"type": f"{_DENIAL}.body", "body": reply.body})
        else:
            await self._send({"type": "websocket.close", "code": 1008, "reason": ""})


def is_feed(content_type: str) -> bool:
    """Whether a response to GET is a feed of events: its client listens, and uses nothing (WHATWG HTML, section 9.2)."""
    return content_type.lower().startswith("text/event-stream")
