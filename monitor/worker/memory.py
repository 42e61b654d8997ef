"""How the process keeps its memory: when garbage is collected, and how the C library lays out what is large."""

import asyncio
import ctypes
import gc
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Parameters of mallopt(3)."""
LARGE: Final = 256 << 10
SPARE: Final = 32 << 20
USUAL: Final = 0.25
"""Seconds between two collections of what is young: each holds up all else as long as there is much of it ..."""
WHOLE: Final = 240
"""... and how many of them to one of everything."""


def keep_large_apart() -> None:
    """Map blocks of LARGE bytes and more on their own; with a C library other than GNU's nothing changes.

    By default the library learns from the first large fetch that large blocks are short-lived, and takes them from its
    heap from then on. There, columns of sessions that grow leave holes as large as themselves.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGE)
    mallopt(M_TRIM_THRESHOLD, SPARE)  # else the heap's end would be given back and asked for again with every fetch


async def tidy_forever() -> None:
    """Collect garbage by the clock: records come and go by the ten thousand, all of them tracked, and a collection
    after every 700 of them would cost a tenth of all time. Nothing long-lived is tracked; see `Session`.
    """  # fmt: skip
    usual = gc.get_threshold()
    gc.set_threshold(1_000_000, *usual[1:])
    try:
        turn = 0
        while True:
            await asyncio.sleep(USUAL)
            turn += 1
            gc.collect(2 if turn % WHOLE == 0 else 1)
    finally:
        gc.set_threshold(*usual)
