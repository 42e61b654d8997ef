"""`Intake`: access events that came over HTTP, to the log. Every event of a request is good, or none is published.

What a request may hold (CloudEvents 1.0, HTTP protocol binding section 3):

`application/json`                     one event as in DESIGN section 4.1; with `ce-...` headers a CloudEvent in binary mode
`application/cloudevents+json`         one CloudEvent, structured
`application/cloudevents-batch+json`   a list of them

They are judged by the decoder of the worker, so what is taken here becomes no dead letter there. What is written is the bare event that
it has read: members that no reader knows are left out.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec

from monitor.core.events import SourceAlive
from monitor.core.instants import Millis
from monitor.gateway.api.delivery import Delivers, Post
from monitor.gateway.api.problems import Fault, Refused, RefusedEvent
from monitor.gateway.metrics import GatewayMetrics
from monitor.publish.encode import ALIVE_KEY
from monitor.wire.bad_record import BadRecord, DeadLetterReason
from monitor.wire.codec import Record
from monitor.wire.events import (
    MAX_RECORD_BYTES,
    encode_access_event,
    encode_source_alive,
    read_access_event,
    understand,
)

Said: TypeAlias = tuple[bytes, list[tuple[str, bytes]]]
"""One event as a record would have it: value and headers."""

BARE: Final = "application/json"
STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
ACCEPTED: Final = (BARE, STRUCTURED, BATCH)

MOST: Final = 1000
"""Events of one request."""
AT_ONCE: Final = 64
"""Requests whose bodies are held."""
SHOWN: Final = 20
"""Bad events that an answer names."""
_SLICE: Final = 50
"""Events judged between two turns of the loop: a millisecond."""

_UNREADABLE: Final = frozenset({
    DeadLetterReason.EMPTY, DeadLetterReason.NOT_JSON, DeadLetterReason.NOT_UTF8, DeadLetterReason.NOT_AN_OBJECT, DeadLetterReason.TOO_DEEP,
})  # fmt: skip
_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_STRUCTURED_HEADERS: Final = [("content-type", STRUCTURED.encode())]


class Published(msgspec.Struct, frozen=True):
    """The answer: so many events are on the log, acknowledged by the broker."""

    published: int


class Intake:
    """Use it on one event loop."""

    def __init__(self, delivery: Delivers, metrics: GatewayMetrics) -> None:
        """`delivery` brings records to the log."""
        self._delivery, self._metrics = delivery, metrics
        self._held = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Room for one more body, as long as the block lasts. Raises Refused."""
        if self._held >= AT_ONCE:
            raise Refused(Fault.BUSY, f"{AT_ONCE} requests are publishing already")
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    async def take(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, now: Millis) -> Published:
        """Publish the events of a request; returns once the broker has them all. Raises Refused, which tells what has become of them."""
        posts = await self._judge(read_events(headers, body), now)
        delivered = await self._delivery.deliver(posts)
        published = len(posts) - len(delivered.lost)
        self._metrics.events(published=published, lost=len(delivered.lost))
        if delivered.lost:
            raise Refused(
                Fault.NOT_PUBLISHED, f"{len(delivered.lost)} of {len(posts)} events are not known to be on the log: {delivered.why}. Publish them again:"
                " an event that comes twice changes no deadline", published=published, unpublished=delivered.lost,
            )  # fmt: skip
        return Published(published)

    async def _judge(self, said: list[Said], now: Millis) -> list[Post]:
        posts: list[Post] = []
        bad: list[RefusedEvent] = []
        for index, one in enumerate(said):
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            try:
                posts.append(judge(one, now))
            except BadRecord as error:
                bad.append(RefusedEvent(index, error.reason.value, error.detail))
        if bad:
            self._metrics.events(refused=len(said))
            raise _refusal(bad, len(said))
        return posts


def read_events(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> list[Said]:
    """The events of a request, still to be judged. Raises Refused where it can't be told what they are."""
    media = _media(headers)
    if media == BATCH:
        return [(bytes(item), _STRUCTURED_HEADERS) for item in _batch(body)]
    if media == STRUCTURED:
        return [(body, _STRUCTURED_HEADERS)]
    attributes = [(name, value) for name, value in headers if name.startswith(b"ce-")]
    if media != BARE and not (not media and attributes and not body):
        raise Refused(Fault.MEDIA_TYPE_UNSUPPORTED, f"the Content-Type must be one of {', '.join(ACCEPTED)}, in UTF-8", ("Accept-Post", ", ".join(ACCEPTED)))
    said = [(f"ce_{name[3:].decode('latin-1')}", _plain(value)) for name, value in attributes]
    return [(body, [*said, ("content-type", BARE.encode())] if said else [])]


def judge(said: Said, now: Millis) -> Post:
    """The record to be written. Raises BadRecord, as the worker would."""
    value, headers = said
    event = read_access_event(value, headers)
    understood = understand(event, None, now)
    if isinstance(understood, SourceAlive):
        return Post(_bounded(Record(ALIVE_KEY, encode_source_alive(understood), [])), everywhere=True)
    event.final = event.owner = event.controls_to = None
    return Post(_bounded(encode_access_event(event)))


def _bounded(record: Record) -> Record:
    # A CloudEvent's attributes come on top of its data.
    if record.value is not None and len(record.value) > MAX_RECORD_BYTES:
        raise BadRecord(DeadLetterReason.TOO_LARGE, f"the event has {len(record.value)} bytes; at most {MAX_RECORD_BYTES} are allowed")
    return record


def _media(headers: Sequence[tuple[bytes, bytes]]) -> str:
    values = {value.decode("latin-1").strip().lower() for name, value in headers if name == b"content-type"}
    if len(values) > 1:
        return "several"
    media, _, parameters = (values.pop() if values else "").partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    return media.strip() if charset in ("", "charset=utf-8") else "other charset"


def _plain(value: bytes) -> bytes:
    """An attribute as it was before it was made fit for a header (HTTP protocol binding section 3.1.3.2)."""
    text = value.strip(b" \t")
    if len(text) > 1 and text[:1] == text[-1:] == b'"':
        text = text[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
    return unquote_to_bytes(text)


def _batch(body: bytes) -> list[msgspec.Raw]:
    try:
        items = _items(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused(Fault.EVENTS_UNREADABLE, "the body is not a JSON list") from None
    if len(items) > MOST:
        raise Refused(Fault.BODY_TOO_LARGE, f"the batch has {len(items)} events; allowed are up to {MOST}")
    return items


def _refusal(bad: list[RefusedEvent], count: int) -> Refused:
    """One event in a form that can't be read is a 400, one that is too large a 413; all else is a 422."""
    reasons = {one.reason for one in bad}
    fault = Fault.EVENTS_REFUSED
    if count == 1 and reasons <= {reason.value for reason in _UNREADABLE}:
        fault = Fault.EVENTS_UNREADABLE
    elif count == 1 and reasons == {DeadLetterReason.TOO_LARGE.value}:
        fault = Fault.BODY_TOO_LARGE
    return Refused(fault, f"{len(bad)} of {count} events can't be published, so none was; the first: {bad[0].detail}", events=bad[:SHOWN], published=0)
