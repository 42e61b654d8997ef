"""Recognises an event that says nothing new: the same bytes as the session's last, but for time and id.

A producer writes the activity of a session in one shape, again and again. An event that was taken in whole
leaves its *likeness*: where its time and id stand, and a hash of all other bytes. The next record with that
likeness is known to be valid JSON, of this session, with nothing new but its time, without decoding a byte of it.
The hash is Python's keyed one (SipHash with a key of this process); likenesses never leave the process.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final

import msgspec

from monitor.core.events import ActivityKind
from monitor.core.instants import Millis
from monitor.core.session import COUNTED_IN
from monitor.wire.bad_record import BadTime
from monitor.wire.events import AccessEvent
from monitor.wire.times import parse_time

_MOST_LAYOUTS: Final = 4096
_MOST_INSTANTS: Final = 16_384
_LONGEST_KEPT: Final = 40
"""Characters of a time; RFC 3339 sets no end to its fraction."""

instants: dict[bytes, Millis] = {}
"""Times as they were written, and what they stand for: what is in flight together was written within a few seconds."""


def instant_of(text: bytes) -> Millis | None:
    """The instant of an event's time, kept in `instants`; None where it is none: the cold way will say why."""
    try:
        instant = parse_time(text.decode("ascii"))
    except (UnicodeDecodeError, BadTime):
        return None
    if len(text) <= _LONGEST_KEPT:
        if len(instants) >= _MOST_INSTANTS:
            instants.clear()
        instants[text] = instant
    return instant


class Layout(msgspec.Struct, frozen=True, gc=False):
    """Where the two things stand that may differ. Shared by all sessions whose events are alike in form."""

    size: int
    parts: Callable[[bytes], tuple[bytes, ...]]
    """Cuts a record of that size in five: what is before the holes, the first of them, what is between them, the second,
    the rest. A hole is empty where the event has no such field."""
    turned: bool
    """The id stands before the time."""
    kind: int
    """The activity's kind, which is among the bytes that don't differ ..."""
    column: int
    """... the column that counts it ..."""
    unit: int
    """... and what one of them adds."""

    def likeness(self, value: bytes) -> int:
        """A hash of everything outside the holes."""
        head, _, middle, _, tail = self.parts(value)
        return hash((head, middle, tail))


_layouts: dict[tuple[int, ...], Layout] = {}


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
    end = len(value)
    time, id_ = holes[0] or (0, 0), holes[1] or (end, end)
    (a, b), (c, d) = sorted((time, id_))
    form = (a, b, c, d, end, id_ < time, kind)
    layout = _layouts.get(form)
    if layout is None:
        if len(_layouts) >= _MOST_LAYOUTS:
            _layouts.clear()
        parts = Struct(f"{a}s{b - a}s{c - b}s{d - c}s{end - d}s").unpack
        layout = _layouts[form] = Layout(end, parts, id_ < time, kind, *COUNTED_IN[ActivityKind(kind)])
    return layout
