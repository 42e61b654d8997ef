"""`Living`: a live session as the worker's tables have it, for detectors that judge sessions while they live."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from monitor.core.events import Attributes
from monitor.core.instants import Millis
from monitor.core.plan import Plan


class Living(msgspec.Struct, frozen=True):
    """One session, as it was when it was looked at."""

    session_id: str
    epoch: int
    attributes: Attributes
    opened_at: Millis
    """Of the session, in whatever epoch it is."""
    started_at: Millis
    """Of this epoch."""
    last_activity: Millis
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Events by kind, in all its epochs: human, agent, inflight, keepalive."""
    abnormal_after: Millis | None = None
    """The least that a rule which bears on it says."""


Plans: TypeAlias = Callable[[Attributes, Millis], Plan]
"""The limits of these attributes at this instant: `CompiledPolicy.plan`."""
