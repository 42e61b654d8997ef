"""Records of dead-letters: what could not be understood, as it came, with why and whence."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final, Protocol

import msgspec

from monitor.core.errors import InputError
from monitor.wire.codec import Record, decode, encode, reader

PREFIX: Final = "dead_letter_"
MAX_DETAIL: Final = 1024
MAX_KEY: Final = 1024


class Arrived(Protocol):
    """A record as it was read."""

    @property
    def offset(self) -> int:
        """Its place."""

    @property
    def key(self) -> bytes | None:
        """Its key."""

    @property
    def value(self) -> bytes | None:
        """Its bytes."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Its headers."""


class DeadLetter(msgspec.Struct, frozen=True):
    """A record put aside."""

    reason: str
    """A `DeadLetterReason`, or a newer monitor's word."""
    detail: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    """Its own, without ours: with key and value all that a replay needs."""
    digest: "Digest | None" = None
    """Where even the record itself was refused by the broker; `value` is None then."""


class Digest(msgspec.Struct, frozen=True):
    """What is left of a record that could not even be put aside."""

    sha256: str
    """Of its value, in hex."""
    size: int


_reader: Final = reader(Digest)


def encode_dead_letter(record: Arrived, reason: str, detail: str, topic: str, partition: int) -> Record:
    """The record as it came, and where it came from. `topic` and `partition` are its own."""
    return Record(record.key, record.value, [*_own(record.headers), *_why(record, reason, detail, topic, partition)])


def encode_refused_dead_letter(record: Arrived, reason: str, topic: str, partition: int) -> Record:
    """What to write where the broker refuses the record itself: its SHA-256, size and place."""
    value = record.value or b""
    key = record.key if record.key is not None and len(record.key) <= MAX_KEY else None
    detail = "the record itself was refused by the broker: see topic, partition and offset"
    headers = _why(record, reason, detail, topic, partition)
    return Record(key, encode(Digest(sha256(value).hexdigest(), len(value))), [*headers, (PREFIX + "digest", b"sha-256")])


def decode_dead_letter(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
) -> DeadLetter:
    """The dead letter in this record. Raises InputError for what is none (BadRecord for a bad digest)."""
    ours = {name: said or b"" for name, said in headers if name.startswith(PREFIX)}
    try:
        text = {name.removeprefix(PREFIX): said.decode() for name, said in ours.items()}
        partition, offset = int(text["partition"]), int(text["offset"])
        reason, detail, topic = text["reason"], text["detail"], text["topic"]
    except (KeyError, ValueError) as error:
        raise InputError(f"no dead letter: its header {PREFIX}... is missing or unreadable ({error})") from None
    digest = decode(_reader, value) if "digest" in text else None
    return DeadLetter(
        reason, detail, topic, partition, offset, key, value if digest is None else None,
        tuple(_own([(name, said or b"") for name, said in headers])), digest,
    )  # fmt: skip


def _why(record: Arrived, reason: str, detail: str, topic: str, partition: int) -> list[tuple[str, bytes]]:
    said = {"reason": reason, "detail": detail[:MAX_DETAIL], "topic": topic, "partition": partition, "offset": record.offset}
    return [(PREFIX + name, str(word).encode(errors="backslashreplace")) for name, word in said.items()]


def _own(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Without ours: a replayed dead letter that fails again says why it failed last."""
    return [header for header in headers if not header[0].startswith(PREFIX)]
