"""What would hold up all answers of a sidecar at once, and how its process avoids that. Not for the process of somebody else's service."""

import asyncio
import gc
import sys
from typing import Final

SWITCH: Final = 0.0005
"""Seconds after which a thread lets others go on."""
WHOLE: Final = 600.0
"""Seconds between two collections of everything: 60 us a feed, so a third of a second with 5,000 of them."""
_NEVER: Final = 1_000_000


def switch_quickly() -> None:
    """Threads feed the view and publish: one that computes must not keep those who ask for the interpreter's 5 ms each time."""
    sys.setswitchinterval(SWITCH)


async def collect_whole_by_the_clock() -> None:
    """Collect what is young as ever, and everything every `WHOLE` seconds alone.

    The interpreter does it whenever a quarter of all objects is new, which with connections that come and go is every few seconds.
    Hardly anything needs it: what refers to itself in a circle, and has outlived two collections of what is young.
    """
    usual = gc.get_threshold()
    gc.set_threshold(*usual[:2], _NEVER)
    try:
        while True:
            await asyncio.sleep(WHOLE)
            gc.collect()
    finally:
        gc.set_threshold(*usual)
