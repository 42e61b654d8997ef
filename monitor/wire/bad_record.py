"""Records that can't be understood: the closed list of reasons, and the one error that carries them."""

from enum import StrEnum

from monitor.core.errors import InputError


class DeadLetterReason(StrEnum):
    """Why a record is in `dead-letters`. Closed: it is a metric label."""

    EMPTY = "empty"
    TOMBSTONE = "tombstone"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    TOO_LONG = "too_long"
    """One field: a text or a list above its limit."""
    BAD_VALUE = "bad_value"
    BAD_TIME = "bad_time"
    UNKNOWN_TYPE = "unknown_type"
    RESERVED_TYPE = "reserved_type"
    """A `monitor.*` record that is not the monitor's own."""
    UNSUPPORTED_CLOUDEVENT = "unsupported_cloudevent"
    """Another version or format than CloudEvents 1.0 with JSON."""
    SUBJECT_MISMATCH = "subject_mismatch"
    """Understood, but of another subject or tenant than its session: `core` decides that."""


class BadRecord(InputError):  # noqa: N818 - the name that the glossary of the wire has for it
    """A record that can't be understood: the only error that decoding raises, whatever the bytes."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        """`detail` names the field and what was expected; never what stood there."""
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class BadTime(BadRecord):
    """An instant that can't be understood."""

    def __init__(self, detail: str) -> None:
        """`detail` says what was expected."""
        super().__init__(DeadLetterReason.BAD_TIME, detail)
