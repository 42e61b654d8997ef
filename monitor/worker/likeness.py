"""Recognises an event that says nothing new: the same bytes as the session's last, but for time and id.

A producer writes the activity of a session in one shape, again and again. An event that was taken in whole
leaves its *likeness*: where its time and id stand, and a hash of all other bytes. The next record with that
likeness is known to be valid JSON, of this session, with nothing new but its time, without decoding a byte of it.
The hash is Python's keyed one (SipHash with a key of this process); likenesses never leave the process.
"""

from typing import Final

import msgspec

from monitor.core.instants import Millis
from monitor.wire.bad_record import BadTime
from monitor.wire.events import AccessEvent
from monitor.wire.times import parse_time

_CANONICAL: Final = 24
_PREFIXES: Final = 4096
_MOST_LAYOUTS: Final = 4096

prefixes: dict[bytes, Millis] = {}
"""The first 20 characters of a canonical time, `2026-11-23T07:09:00.`, and what they stand for."""


class Layout(msgspec.Struct, frozen=True, gc=False):
    """Where the two things stand that may differ. Shared by all sessions whose events are alike in form."""

    size: int
    a: int
    b: int
    """The earlier hole is [a:b], the later one [c:d]; both are empty at the end where there is none."""
    c: int
    d: int
    time: int
    """Where the time begins; -1: there is none."""
    time_end: int
    id: int
    id_end: int
    kind: int
    """The activity's kind, which is among the bytes that don't differ."""
    canonical: bool
    """The time has the form we write ourselves (24 characters)."""

    def likeness(self, value: bytes) -> int:
        """A hash of everything outside the holes."""
        return hash(value[: self.a] + value[self.b : self.c] + value[self.d :])

    def instant(self, value: bytes) -> Millis | None:
        """The event time that stands in the hole; None where it is none: the cold way will say why."""
        text = value[self.time : self.time_end]
        try:
            instant = parse_time(text.decode("ascii"))
        except (UnicodeDecodeError, BadTime):
            return None
        if self.canonical and text[17:19] != b"60":
            if len(prefixes) >= _PREFIXES:
                prefixes.clear()
            prefixes[text[:20]] = instant - int(text[20:23])
        return instant


_layouts: dict[Layout, Layout] = {}


def layout_of(value: bytes, event: AccessEvent, kind: int) -> Layout | None:
    """The layout of a record that was decoded to `event`; None where its holes can't be told for sure.

    Without a backslash every text stands in the record as it is, so a text that stands there once is the field's.
    """
    if b"\\" in value:
        return None
    holes: list[tuple[int, int] | None] = []
    for text in (event.time, event.id):
        if text is None:
            holes.append(None)
            continue
        said = text.encode()
        start = value.find(said)
        if not said or start < 1 or value[start - 1] != 34 or value.find(said, start + 1) >= 0:
            return None
        holes.append((start, start + len(said)))
    time, id_ = holes
    end = len(value)
    both = sorted(hole for hole in holes if hole is not None)
    (a, b), (c, d) = [*both, (end, end), (end, end)][:2]
    text = event.time
    canonical = text is not None and len(text) == _CANONICAL and text[19] == "." and text[23] == "Z"
    layout = Layout(end, a, b, c, d, *(time or (-1, -1)), *(id_ or (end, end)), kind, canonical)
    if len(_layouts) >= _MOST_LAYOUTS:
        _layouts.clear()
    return _layouts.setdefault(layout, layout)
