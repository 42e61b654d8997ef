"""Silences: records of session-alerts under keys `~silence/<id>`, that keep alerts from people for a while. A tombstone lifts one."""

import re
from typing import Annotated, Final

import msgspec

from monitor.core.instants import Millis
from monitor.wire.alerts import AlertRecord
from monitor.wire.bad_record import BadRecord, DeadLetterReason
from monitor.wire.cloudevents import write_headers
from monitor.wire.codec import Record, decode, encode, reader
from monitor.wire.events import Text
from monitor.wire.matchers import BadMatcher, Matcher, parse_matcher
from monitor.wire.times import Instant

KEY_PREFIX: Final = "~silence/"
SOURCE: Final = "/session-monitor/silences"
TYPE: Final = "monitor.silence"
"""The CloudEvents type; the record itself has none."""
MOST_MATCHERS: Final = 20

_ID: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")


class SilenceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A silence as it stands on the topic: alerts that meet every matcher are kept from people, from `since` on and before `until`."""

    id: str
    matchers: Annotated[tuple[str, ...], msgspec.Meta(max_length=MOST_MATCHERS)]
    """As they were written: `name=value`, `name!=value`, `name=~regex`, `name!~regex`."""
    by: Text
    reason: Text
    since: Instant
    until: Instant


class Silence(msgspec.Struct, frozen=True):
    """A silence that was checked."""

    record: SilenceRecord
    matchers: tuple[Matcher, ...]

    @property
    def id(self) -> str:
        """Its name."""
        return self.record.id

    def stands(self, now: Millis) -> bool:
        """Whether it has begun, and is not over."""
        return self.record.since <= now < self.record.until

    def meets(self, alert: AlertRecord) -> bool:
        """Whether it is about this alert, at whatever time."""
        return all(matcher.meets(alert) for matcher in self.matchers)


_reader: Final = reader(SilenceRecord)


def silence_id(key: bytes | None) -> str | None:
    """The id of the silence that stands under this key; None: another record."""
    text = (key or b"").decode(errors="replace")
    return text[len(KEY_PREFIX) :] if text.startswith(KEY_PREFIX) else None


def checked(record: SilenceRecord) -> Silence:
    """The silence that this record says. Raises BadRecord: what is wrong, and what to write."""
    if not _ID.fullmatch(record.id):
        raise BadRecord(DeadLetterReason.BAD_VALUE, "id is not 1 to 64 of the characters 0-9 A-Z a-z . _ -")
    for name in ("by", "reason"):
        if not getattr(record, name).strip():
            raise BadRecord(DeadLetterReason.MISSING_FIELD, f"{name} is empty: a silence says who ordered it, and why")
    if record.until <= record.since:
        raise BadRecord(DeadLetterReason.BAD_VALUE, "until is not after since: a silence has an end, and that comes after its beginning")
    if not record.matchers:
        raise BadRecord(DeadLetterReason.MISSING_FIELD, "matchers is empty: say which alerts, such as alert=timeout_churn")
    matchers = tuple(_matcher(place, text) for place, text in enumerate(record.matchers))
    if all(matcher.accepts("") for matcher in matchers):
        raise BadRecord(
            DeadLetterReason.BAD_VALUE, "matchers name nobody, so every alert would be met; if that is meant, write alert=~.+"
        )
    return Silence(record, matchers)


def _matcher(place: int, text: str) -> Matcher:
    try:
        return parse_matcher(text)
    except BadMatcher as error:
        raise BadRecord(DeadLetterReason.BAD_VALUE, f"matchers[{place}]: {error.detail}") from None


def encode_silence(record: SilenceRecord, time: Millis) -> Record:
    """The record of a silence, ordered at `time`. Raises BadRecord for one that would be refused when read."""
    checked(record)
    return Record(f"{KEY_PREFIX}{record.id}".encode(), encode(record), write_headers(TYPE, f"{record.id}/{time}", SOURCE, time))


def encode_lifted(id_: str) -> Record:
    """The tombstone that lifts a silence."""
    return Record(f"{KEY_PREFIX}{id_}".encode(), None, [])


def decode_silence(value: bytes | None) -> Silence:
    """The silence in these bytes. Raises BadRecord; a tombstone is one: `silence_id` of its key says which is lifted."""
    return checked(decode(_reader, value))
