"""Asking a sidecar in process, as proxies do over HTTP."""

import json
from typing import NamedTuple

from monitor.gateway import MemoryView, Now
from monitor.gateway.decide import DEFAULTS
from monitor.gateway.enforcer import Enforcer
from monitor.gateway.identity import parse_sources
from monitor.gateway.sidecar import Sidecar
from monitor.publish import hashed_session_id
from tests.gateway.worlds import T

NOW = Now(T, 0)
COOKIE = "abc123"
SESSION = hashed_session_id(COOKIE)
WITH_COOKIE = {"Cookie": f"session={COOKIE}"}


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict:
        return json.loads(self.body)


def sidecar(
    view: MemoryView | None = None, *, sources: str = "cookie:session", now=NOW, settings=DEFAULTS, metrics=None, witnesses=(), **more
) -> Sidecar:
    """One whose view is fresh, unless another is given."""
    enforcer = Enforcer(view or fresh(), lambda: now, settings=settings, metrics=metrics, witnesses=witnesses)
    return Sidecar(enforcer, parse_sources(sources), **more)


def fresh(**settings) -> MemoryView:
    view = MemoryView(**settings)
    view.watermark(T, 0)
    return view


def pairs(headers) -> list[tuple[bytes, bytes]]:
    """As ASGI has them."""
    items = headers.items() if isinstance(headers, dict) else headers
    return [
        (name.lower() if isinstance(name, bytes) else name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in items
    ]


async def ask(app, path="/check", headers=(), *, method="GET") -> Answered:
    """The answer, after it was looked at: one start, one body of the length that was said, and nothing that HTTP can't carry."""
    raw, _, query = (path if isinstance(path, bytes) else path.encode()).partition(b"?")
    scope = {"type": "http", "method": method, "path": raw.decode("latin-1"), "raw_path": raw, "query_string": query, "headers": pairs(headers)}
    sent = []

    async def receive():
        raise AssertionError("no body is read")

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    said = [(name.decode("ascii"), value.decode("ascii")) for name, value in sent[0]["headers"]]
    assert all(name == name.lower() and value.isprintable() for name, value in said)
    headers = dict(said)
    assert len(headers) == len(said)
    assert headers["content-length"] == str(len(sent[1]["body"]))
    assert headers["cache-control"] == "no-store"
    return Answered(sent[0]["status"], headers, sent[1]["body"])
