"""Which activities are worth a record: the first of a burst at once, the last of it at the end of its window.

Theory of operation. A sent activity opens a window of `granularity` for its session and kind. Further ones of
the window that say nothing new are held, and only the latest of them is kept; when the window closes it is
sent and opens the next window, counted from its own time. So no event is left out that is more than
`granularity` later than one that was sent, nor is the last one: a session never looks idle for longer than it
was. What says something new (another attribute, another type of event) goes at once, after what is held.
"""

from enum import Enum
from heapq import heappop, heappush
from itertools import count

from monitor.core.events import EventType
from monitor.core.instants import EventMillis, Millis
from monitor.publish.draft import Draft


class Fate(Enum):
    """What is to become of an event that is offered."""

    SEND = "send"
    HOLD = "hold"
    REPLACE = "replace"
    """It takes the place of the one held: needs no further room."""
    DROP = "drop"
    """A later one is held already."""


class _Window:
    __slots__ = ("closes_at", "first", "held", "held_at", "live")

    def __init__(self, first: EventMillis, closes_at: Millis) -> None:
        self.first = first
        self.closes_at = closes_at
        self.held: Draft | None = None
        self.held_at: Millis = 0
        self.live = True


class _Burst:
    """The open windows of one session by kind, and what its events have said so far."""

    __slots__ = ("known", "windows")

    def __init__(self) -> None:
        self.known: dict[str, object] = {}
        self.windows: dict[str | None, _Window] = {}


class Coalescer:
    """Pure: `now` is the caller's monotonic clock in milliseconds. Memory: one entry per session active within the granularity."""

    def __init__(self, granularity: Millis) -> None:
        """`granularity` 0 sends everything."""
        self.granularity = granularity
        self.held = 0
        self._bursts: dict[str, _Burst] = {}
        self._closing: list[tuple[Millis, int, str, str | None, _Window]] = []
        self._order = count()

    def fate(self, draft: Draft, time: EventMillis, now: Millis) -> Fate:
        """What `take` would do with the event, had it happened at `time`."""
        if draft.type != EventType.ACTIVITY or draft.encoded is not None or not self.granularity:
            return Fate.SEND
        burst = self._bursts.get(draft.session_id)
        if burst is None or _says_something_new(burst, draft):
            return Fate.SEND
        window = burst.windows.get(draft.kind)
        # The event times decide too: a clock that steps, or a time given by the caller, must not hide an
        # event that lies outside of what the sent one vouches for.
        if (
            window is None
            or now >= window.closes_at
            or not window.first <= time <= window.first + self.granularity
        ):
            return Fate.SEND
        if window.held is None:
            return Fate.HOLD
        held_time = window.held.time
        return Fate.DROP if held_time is not None and time < held_time else Fate.REPLACE

    def take(self, draft: Draft, now: Millis) -> list[Draft]:
        """Take one event (its time set); what is to be sent now, in order."""
        assert draft.time is not None  # noqa: S101 - the outbox stamps it
        fate = self.fate(draft, draft.time, now)
        if fate is Fate.DROP:
            return []
        if fate in (Fate.HOLD, Fate.REPLACE):
            window = self._bursts[draft.session_id].windows[draft.kind]
            window.held, window.held_at = draft, now
            self.held += fate is Fate.HOLD
            return []
        return [*self._release(draft.session_id, draft, now), draft]

    def due(self, now: Millis) -> list[Draft]:
        """The held events whose windows have closed; forgets the sessions that fell silent."""
        sent = []
        while self._closing and self._closing[0][0] <= now:
            _, _, session_id, kind, window = heappop(self._closing)
            if not window.live:
                continue
            window.live = False
            burst = self._bursts[session_id]
            del burst.windows[kind]
            if (held := self._let_go(window)) is not None:
                sent.append(held)
                self._open(session_id, burst, held, window.held_at)
            elif not burst.windows:
                del self._bursts[session_id]
        return sent

    def everything(self) -> list[Draft]:
        """All that is held, to be sent now. The windows stay as they are: a flush does not loosen the rate."""
        held = [
            window_held
            for burst in self._bursts.values()
            for window in burst.windows.values()
            if (window_held := self._let_go(window)) is not None
        ]
        return sorted(held, key=lambda one: one.time or 0)

    def next_at(self) -> Millis | None:
        """When `due` may next have something to do."""
        return self._closing[0][0] if self._closing else None

    def _release(self, session_id: str, draft: Draft, now: Millis) -> list[Draft]:
        """What the session holds (all of it, where something new is said), and the window of what is sent."""
        burst = self._bursts.get(session_id)
        released = []
        if burst is not None:
            unsaid = (
                draft.type == EventType.ACTIVITY
                and draft.encoded is None
                and not _says_something_new(burst, draft)
            )
            for kind in [draft.kind] if unsaid else list(burst.windows):
                if (window := burst.windows.pop(kind, None)) is not None:
                    window.live = False
                    if (held := self._let_go(window)) is not None:
                        released.append(held)
            released.sort(key=lambda one: one.time or 0)
        if draft.type == EventType.ACTIVITY and draft.encoded is None and self.granularity:
            burst = self._bursts.setdefault(session_id, _Burst())
            burst.known.update(draft.stated)
            self._open(session_id, burst, draft, now)
        else:
            self._bursts.pop(session_id, None)
        return released

    def _open(self, session_id: str, burst: _Burst, sent: Draft, at: Millis) -> None:
        assert sent.time is not None  # noqa: S101 - as in take
        window = _Window(sent.time, at + self.granularity)
        burst.windows[sent.kind] = window
        heappush(self._closing, (window.closes_at, next(self._order), session_id, sent.kind, window))

    def _let_go(self, window: _Window) -> Draft | None:
        held, window.held = window.held, None
        self.held -= held is not None
        return held


def _says_something_new(burst: _Burst, draft: Draft) -> bool:
    known = burst.known
    return any(name not in known or known[name] != value for name, value in draft.stated.items())
