"""`Figures`: what has become of the activity that a gateway tells of."""

import msgspec


class Figures(msgspec.Struct, frozen=True):
    """Counts of events since the start, but for the last."""

    published: int = 0
    """The broker has them."""
    coalesced: int = 0
    """They needed no record of their own."""
    lost: int = 0
    buffered: int = 0
    """They wait for the broker now."""
