"""Calling the sidecar's own API in process, as clients do over HTTP."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from monitor.gateway import Now
from monitor.gateway.access import Access, ApiToken
from monitor.gateway.api import Api, Hub, Intake
from monitor.gateway.api.delivery import Delivered, Post
from monitor.gateway.enforcer import Enforcer
from monitor.gateway.identity import parse_sources
from monitor.gateway.sidecar import Sidecar
from tests.gateway.asking import Answered, fresh, pairs
from tests.gateway.signing import NOW, said, signed, verifier

SECRET = "the-token-of-the-api-0123456789"
HOLDER = {"Authorization": f"Bearer {SECRET}"}


def client(**changes) -> dict[str, str]:
    """The headers of a client that shows a token of the issuer; its session is `s-81f2`."""
    return {"Authorization": f"Bearer {signed(said(**changes))}"}


class Clock:
    """The present of a test."""

    def __init__(self, wall: int = NOW) -> None:
        self.now = Now(wall, 0)

    def __call__(self) -> Now:
        return self.now

    def pass_by(self, millis: int) -> None:
        self.now = Now(self.now.wall + millis, self.now.monotonic)


class Log:
    """A log that takes everything, but for the records whose indexes it is told to lose."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.loses: tuple[int, ...] = ()

    async def deliver(self, posts: Sequence[Post]) -> Delivered:
        self.posts += [post for index, post in enumerate(posts) if index not in self.loses]
        return Delivered(tuple(index for index in self.loses if index < len(posts)), "told to lose them" if self.loses else "")

    @property
    def events(self) -> list[dict]:
        return [json.loads(post.record.value) for post in self.posts]


class Called(NamedTuple):
    """An API, and what it is made of."""

    app: Sidecar
    hub: Hub
    enforcer: Enforcer
    log: Log
    clock: Clock


def api(view=None, *, clock=None, token=SECRET, issuer=True, subscribers=100, per_session=32, log=None, metrics=None) -> Called:
    """The API of a sidecar whose view is fresh, started: call it on an event loop."""
    view, clock, log = view or fresh(), clock or Clock(), log or Log()
    enforcer = Enforcer(view, clock, metrics=metrics)
    hub = Hub(enforcer.metrics, subscribers=subscribers, per_session=per_session)
    if hasattr(view, "subscribe"):
        view.subscribe(hub.told)
    access = Access(ApiToken(token, "the test") if token else None, verifier() if issuer else None)
    one = Api(enforcer, access, hub, Intake(log, enforcer.metrics) if token else None)
    one.start()
    return Called(Sidecar(enforcer, parse_sources("cookie:session"), api=one), hub, enforcer, log, clock)


def scope(path, headers=(), method="GET") -> dict:
    raw, _, query = (path if isinstance(path, bytes) else path.encode()).partition(b"?")
    return {"type": "http", "method": method, "path": raw.decode("latin-1"), "raw_path": raw, "query_string": query, "headers": pairs(headers)}


async def call(app, path, headers=(), body=b"", *, method="GET", parts=None) -> Answered:
    """The answer. The body comes in `parts`, or in one; nobody may ask for more of it than there is."""
    coming = list([body] if parts is None else parts)
    sent = []

    async def receive():
        part = coming.pop(0)
        return {"type": "http.disconnect"} if part is None else {"type": "http.request", "body": part, "more_body": bool(coming)}

    async def send(message):
        sent.append(message)

    await app(scope(path, headers, method), receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    told = [(name.decode("ascii"), value.decode("ascii")) for name, value in sent[0]["headers"]]
    assert all(name == name.lower() and value.isprintable() for name, value in told)
    answered = Answered(sent[0]["status"], dict(told), sent[1]["body"])
    assert answered.headers["content-length"] == str(len(answered.body))
    assert answered.headers["cache-control"] == "no-store"
    return answered


class Feed:
    """One feed as its client sees it."""

    def __init__(self) -> None:
        self.start: dict = {}
        self.over = False
        self._text = b""
        self._came = asyncio.Event()
        self.gone = asyncio.Event()

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self._text += message["body"]
            self.over = not message.get("more_body", False)
        self._came.set()

    @property
    def text(self) -> str:
        return self._text.decode()

    @property
    def events(self) -> list[tuple[str, dict]]:
        """Those that have come, with their data."""
        return [(lines["event"], json.loads(lines["data"])) for lines in self.frames if "event" in lines]

    @property
    def frames(self) -> list[dict[str, str]]:
        blocks = [block for block in self.text.split("\n\n") if block and not block.startswith(":")]
        return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]

    async def until(self, holds) -> None:
        """Wait for what comes, up to the test's own limit."""
        async with asyncio.timeout(30):
            while not holds(self):
                await self._came.wait()
                self._came.clear()

    async def event(self, name: str) -> dict:
        """The last event, once it is one of this name."""
        await self.until(lambda feed: feed.events and feed.events[-1][0] == name)
        return self.events[-1][1]


@asynccontextmanager
async def following(app, session_id="s-81f2", headers=None):
    """A feed that has begun; its client goes at the end of the block."""
    feed = Feed()
    path = f"/v1/sessions/{session_id}/events"
    serving = asyncio.create_task(app(scope(path, HOLDER if headers is None else headers), feed.receive, feed.send))
    try:
        await feed.until(lambda one: "retry: " in one.text)
        yield feed
    finally:
        feed.gone.set()
        await asyncio.wait_for(serving, 30)
