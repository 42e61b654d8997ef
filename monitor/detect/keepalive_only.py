"""`keepalive_only`: a session that nothing but keep-alives has held open for a while."""

from collections.abc import Callable

import msgspec

from monitor.core.events import Attributes
from monitor.core.instants import SECOND, Millis
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.living import Living
from monitor.detect.settings import Detector, KeepaliveOnly
from monitor.detect.words import many, rounded
from monitor.policy.durations import format_duration

_LOOKS = 12
"""Of one that has been silent for `after`: so many in each `after`."""


class Held(msgspec.Struct, frozen=True, array_like=True):
    """Since when a session has been without use, as far as looks at it can tell. It may be written by msgspec as it is."""

    since: Millis
    last_activity: Millis
    used: int
    """Events of every kind but keep-alives, by then."""
    before: int
    """Keep-alives that may have come before `since`."""


def hold(living: Living, now: Millis, held: Held | None = None) -> Held:
    """What is to be kept of this look, with what was kept of the one before.

    A session has counts, and not the instants of its keep-alives. At the first look those of one that has done nothing
    since it opened are all taken for such as hold it open; of another, those that it has had already are not.
    """
    used, keepalives = _used(living), living.counts[3]
    if held is None:
        return Held(living.last_activity, living.last_activity, used, 0 if used <= 1 else keepalives)
    if (living.last_activity, used) == (held.last_activity, held.used):
        return held
    # Use that does not reset the idle clock leaves no instant behind.
    since = living.last_activity if living.last_activity > held.last_activity else now
    return Held(since, living.last_activity, used, keepalives)


def judge(
    living: Living, now: Millis, settings: KeepaliveOnly, exempt: Callable[[Attributes], bool], held: Held | None = None
) -> Finding | Cleared | None:
    """Whether it stands out at `now`; `held` is what `hold` says of this look. None: it has had no keep-alive, or is exempt."""
    if not living.counts[3] or exempt(living.attributes):
        return None
    held = hold(living, now) if held is None else held
    about = Subject(
        Detector.KEEPALIVE_ONLY, subject=living.attributes.subject, session_id=living.session_id, tenant=living.attributes.tenant
    )
    keepalives, lasted = living.counts[3] - held.before, now - held.since
    if lasted < settings.after or keepalives < settings.count:
        return Cleared(about, now)
    return Finding(
        about, now,
        f"held open for {rounded(lasted)} by {many(keepalives, 'keep-alive')} alone: "
        f"use was expected within {format_duration(settings.after)}",
        expected={"use_within_ms": settings.after},
        seen={
            "without_use_ms": lasted, "keepalives": keepalives, "last_activity": held.since, "opened_at": living.opened_at,
            "used": _used(living), "sessions": 1,
        },
        sessions=(living.session_id,),
    )  # fmt: skip


def next_look(held: Held, now: Millis, settings: KeepaliveOnly) -> Millis:
    """When to look next: as soon as it may stand out, and now and then where it does, or lacks keep-alives."""
    due = held.since + settings.after
    return due if due > now else now + max(SECOND, settings.after // _LOOKS)


def _used(living: Living) -> int:
    return sum(living.counts[:3])
