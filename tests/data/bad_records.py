"""The corpus of bad records: what no decoder may choke on, and why each is bad.

One JSON object a line: `name`, `reason`, one of `text`, `base64`, `repeat` (before, unit, times, after) and
`tombstone`; optionally `key` and `headers` (name, text or {"base64"}).
"""

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from monitor.wire.bad_record import DeadLetterReason

FILE = Path(__file__).with_name("bad_records.ndjson")


class BadCase(NamedTuple):
    name: str
    reason: DeadLetterReason
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def bad_records() -> list[BadCase]:
    """Every case of the corpus."""
    return list(_cases())


def _cases() -> Iterator[BadCase]:
    for line in FILE.read_bytes().splitlines():
        said = orjson.loads(line)
        key = said.get("key")
        headers = [(name, _bytes(text)) for name, text in said.get("headers", ())]
        yield BadCase(
            said["name"], DeadLetterReason(said["reason"]), None if key is None else key.encode(), _value(said), headers
        )


def _value(said: dict[str, Any]) -> bytes | None:
    if "repeat" in said:
        repeat = said["repeat"]
        return (repeat["before"] + repeat["unit"] * repeat["times"] + repeat["after"]).encode()
    if "base64" in said:
        return b64decode(said["base64"])
    return said["text"].encode() if "text" in said else None


def _bytes(text: str | dict[str, str]) -> bytes:
    return text.encode() if isinstance(text, str) else b64decode(text["base64"])
