"""Bodies of requests, read within bounds: of size before they are held, of time before they are waited for."""

import asyncio
from collections.abc import Iterable
from typing import Final

from monitor.gateway.api.feed import Receive
from monitor.gateway.api.problems import Fault, Refused

LARGEST: Final = 1 << 20
"""Bytes of a body: sixteen events of the largest size, or some thousands of the usual one."""
SECONDS: Final = 20.0
"""That a body may take from its first byte to its last."""

_LENGTH: Final = b"content-length"
_ENCODING: Final = b"content-encoding"
_DIGITS: Final = 16


async def read_body(headers: Iterable[tuple[bytes, bytes]], receive: Receive, limit: int = LARGEST) -> bytes | None:
    """The body; None: its sender has gone. Raises Refused where it is too large, too slow or encoded.

    One that says that it is too large is refused before any of it is read.
    """
    for name, value in headers:
        if name == _LENGTH and (len(value) > _DIGITS or (value.isdigit() and int(value) > limit)):
            raise _too_large(limit)
        if name == _ENCODING and value.strip().lower() not in (b"", b"identity"):
            raise Refused(Fault.MEDIA_TYPE_UNSUPPORTED, "the body has a Content-Encoding; send it as it is")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part: bytes = message.get("body", b"")
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Refused(Fault.BODY_TOO_SLOW, f"the body did not come within {SECONDS:.0f} s") from None


def _too_large(limit: int) -> Refused:
    return Refused(Fault.BODY_TOO_LARGE, f"the body is larger than {limit} bytes; send its events in several requests")
