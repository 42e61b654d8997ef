"""Where clients come from: networks that keep their prefix while the last digits change, and what they call themselves."""

import re
from random import Random
from typing import Final

BROWSERS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/{}.0.0.0", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/{}.1",
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/{}.0",
)  # fmt: skip
PHONES: Final = ("AcmeMobile/{} (iOS 26)", "AcmeMobile/{} (Android 16)")
TOOLS: Final = ("python-requests/2.32", "curl/8.11", "Go-http-client/2.0", "okhttp/4.12")
_V6_HOMES: Final = 0.3


class Network:
    """A home, an office, a carrier or a data centre: addresses that share 16 bits (IPv6: 48)."""

    def __init__(self, source: Random) -> None:
        """Any network."""
        self._v6 = source.random() < _V6_HOMES
        high, low = source.randint(11, 223), source.randrange(256)
        self._prefix = f"2001:{high:x}{low:02x}:{source.randrange(1 << 16):x}" if self._v6 else f"{high}.{low}"

    def address(self, source: Random) -> str:
        """One of its addresses: leases, carriers and privacy extensions change them within the network."""
        if self._v6:
            return f"{self._prefix}:1::{source.randrange(1, 1 << 16):x}"
        return f"{self._prefix}.{source.randrange(256)}.{source.randrange(1, 255)}"


def browser(source: Random) -> str:
    """What a browser calls itself."""
    return source.choice(BROWSERS).format(source.randint(140, 150))


def phone(source: Random) -> str:
    """What an app calls itself."""
    return source.choice(PHONES).format(source.randint(3, 9))


def updated(agent: str) -> str:
    """The same client, one version later."""
    return re.sub(r"(?<=Chrome/|Safari/)\d+|(?<=Firefox/)\d+", lambda found: str(int(found[0]) + 1), agent)
