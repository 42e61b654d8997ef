"""Records of session-commands: commands, warnings and watermarks, and the keys they stand under."""

from enum import Enum
from typing import Annotated, Final

import msgspec
import orjson

from monitor.core.commands import Command, CommandType, Reauth, decision, decision_id
from monitor.core.instants import NEVER, LogMillis, Millis
from monitor.core.reasons import Reason
from monitor.wire.bad_record import BadRecord, DeadLetterReason
from monitor.wire.cloudevents import partition_source, write_headers
from monitor.wire.codec import Record, decode, encode, reader
from monitor.wire.times import Instant, format_time

WARNING_PREFIX: Final = "~warn/"
WATERMARK_PREFIX: Final = "~watermark/"
WATERMARK: Final = "monitor.watermark"

_KNOWN_TYPES: Final = frozenset(CommandType)
_KNOWN_REASONS: Final = frozenset(Reason)


def _absent() -> Instant:
    """Stands where a record of an unknown type says nothing."""
    return Instant(-1)


class Place(msgspec.Struct, frozen=True):
    """A place in access-events."""

    partition: int = -1
    offset: int = -1


class CommandRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command as it stands on the topic: readable also where a newer monitor wrote it.

    `type` and `reason` are words. Of a type that is not known here only `type` and `session_id` can be relied on:
    a gateway refuses that session. A reason that is not known is shown as it is.
    """

    type: str
    session_id: str
    id: str = ""
    epoch: int = -1
    reason: str = ""
    effective_at: Instant = msgspec.field(default_factory=_absent)
    cutoff: Instant = msgspec.field(default_factory=_absent)
    limit_ms: int | None = None
    rule: str | None = None
    policy: str = ""
    subject: str | None = None
    classification: str | None = None
    reauth: Reauth = Reauth(allowed=False)
    message: str = ""
    forget_after: Instant = msgspec.field(default_factory=_absent)
    src: Place = Place()
    """The offset at which it was decided; a strike before record o counts as o - 1."""
    issued_at: Instant = msgspec.field(default_factory=_absent)
    """When it was written; no part of the decision."""
    log_time: Instant = msgspec.field(default_factory=_absent)
    """The log time at which it was decided ..."""
    due: Instant = msgspec.field(default_factory=_absent)
    """... and from which it could have been."""
    control_id: str = ""
    lead_ms: int | None = None
    """Of a warning only: how long before the deadline it was due."""

    @property
    def known_type(self) -> CommandType | None:
        """The type, or None where this program does not know it."""
        return CommandType(self.type) if self.type in _KNOWN_TYPES else None

    @property
    def known_reason(self) -> Reason | None:
        """The reason, or None where this program does not know it."""
        return Reason(self.reason) if self.reason in _KNOWN_REASONS else None

    def to_command(self) -> Command:
        """The decision. Raises BadRecord where its type or reason is not known here."""
        kind, reason = self.known_type, self.known_reason
        if kind is None or reason is None:
            raise BadRecord(DeadLetterReason.UNKNOWN_TYPE, "a newer monitor wrote this command: upgrade this one")
        return Command(
            type=kind, session_id=self.session_id, epoch=self.epoch, reason=reason, effective_at=int(self.effective_at),
            cutoff=int(self.cutoff), limit_ms=self.limit_ms, rule=self.rule, policy=self.policy, subject=self.subject,
            classification=self.classification, reauth=self.reauth, forget_after=int(self.forget_after),
            partition=self.src.partition, offset=self.src.offset, log_time=int(self.log_time), due=int(self.due),
            control_id=self.control_id, message=self.message, lead_ms=self.lead_ms,
        )  # fmt: skip


class _Head(msgspec.Struct):
    type: str
    session_id: str


class Watermark(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag=WATERMARK):
    """Every deadline up to `decided_to` on this partition has been decided, and stands before this record."""

    partition: int
    decided_to: Instant
    log_time: Instant
    controls_to: int
    """The last control offset that rules the partition; -1: none."""
    issued_at: Instant
    owner: str | None = None
    api: Annotated[str | None, msgspec.Meta(description="Where the owner answers for the partition's live sessions.")] = None


class KeyKind(Enum):
    """What stands under a key of session-commands."""

    SESSION = "session"
    WARNING = "warning"
    WATERMARK = "watermark"
    OTHER = "other"
    """A newer monitor's: to be skipped."""


_command_reader: Final = reader(CommandRecord)
_head_reader: Final = reader(_Head)
_watermark_reader: Final = reader(Watermark)
_WORDS: Final = {kind: kind.value for kind in CommandType}
"""Reading an enum's value costs more than looking it up."""
_NEEDED: Final = ("id", "epoch", "reason", "effective_at", "cutoff")


def warning_key(session_id: str) -> bytes:
    """The key of a session's warning: apart from its command, so that it can't weaken one."""
    return f"{WARNING_PREFIX}{session_id}".encode()


def watermark_key(partition: int) -> bytes:
    """The key of a partition's watermark."""
    return f"{WATERMARK_PREFIX}{partition}".encode()


def read_key(key: bytes | None) -> tuple[KeyKind, str]:
    """What a key speaks of: its kind, and the session id (or partition). Raises BadRecord where it is no text."""
    if not key:
        return KeyKind.OTHER, ""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise BadRecord(DeadLetterReason.NOT_UTF8, "the key is not UTF-8") from None
    if text[0] != "~":
        return KeyKind.SESSION, text
    if text.startswith(WARNING_PREFIX):
        return KeyKind.WARNING, text.removeprefix(WARNING_PREFIX)
    if text.startswith(WATERMARK_PREFIX):
        return KeyKind.WATERMARK, text.removeprefix(WATERMARK_PREFIX)
    return KeyKind.OTHER, text


class CommandForm:
    """Commands that say the same but for whom they are about: worked out once, and filled in for each in 2 us.

    Written member by member, not through `CommandRecord`: where everything ends at once, this is on its way.
    """

    def __init__(self, command: Command, issued_at: Millis) -> None:
        """`command` is one of them; session id, epoch and subject are those of each."""
        type_ = _WORDS[command.type]
        said: dict[str, object] = {
            "reason": command.reason, "effective_at": format_time(command.effective_at), "cutoff": format_time(command.cutoff),
        }  # fmt: skip
        limit = command.limit_ms
        if limit is not None and limit < NEVER:
            said["limit_ms"] = limit
        if command.rule is not None:
            said["rule"] = command.rule
        said["policy"] = command.policy
        self._before_subject = b"," + encode(said)[1:-1]
        said = {} if command.classification is None else {"classification": command.classification}
        said["reauth"] = command.reauth
        if command.message:
            said["message"] = command.message
        said["forget_after"] = format_time(command.forget_after)
        said["src"] = {"partition": command.partition, "offset": command.offset}
        said["issued_at"] = format_time(issued_at)
        said["log_time"] = format_time(command.log_time)
        said["due"] = format_time(command.due)
        if command.control_id:
            said["control_id"] = command.control_id
        if command.lead_ms is not None:
            said["lead_ms"] = command.lead_ms
        self._begin = b'{"type":"%b","session_id":' % type_.encode()
        self._after_subject = b"," + encode(said)[1:]
        self._decision = decision(command.type, command.reason, command.effective_at, command.control_id)
        self._warns = command.type is CommandType.WARN
        self._headers = write_headers(type_, "", partition_source(command.partition), issued_at)

    def fill(self, session_id: str, epoch: int, subject: str | None) -> Record:
        """The record of one of them: under its session's id, a warning under a key of its own."""
        quoted = orjson.dumps(session_id)
        id_ = decision_id(quoted, epoch, self._decision).encode()
        whose = b"" if subject is None else b',"subject":' + orjson.dumps(subject)
        parts = self._begin, quoted, id_, epoch, self._before_subject, whose, self._after_subject
        value = b'%b%b,"id":"%b","epoch":%d%b%b%b' % parts
        key = warning_key(session_id) if self._warns else session_id.encode()
        version, _, *others = self._headers
        return Record(key, value, [version, ("ce_id", id_), *others])


def encode_command(command: Command, issued_at: Millis) -> Record:
    """The record of a command."""
    return CommandForm(command, issued_at).fill(command.session_id, command.epoch, command.subject)


def decode_command(value: bytes | None) -> CommandRecord:
    """The command in these bytes. Raises BadRecord; an unknown type or reason is no error."""
    try:
        record = decode(_command_reader, value)
    except BadRecord:
        # A newer type may say other things under our names; who it speaks of is what matters then.
        head = decode(_head_reader, value)
        if head.type in _KNOWN_TYPES:
            raise
        return CommandRecord(head.type, head.session_id)
    if record.type in _KNOWN_TYPES and not (
        record.id and record.reason and record.epoch >= 0 and record.effective_at >= 0 and record.cutoff >= 0
    ):
        raise BadRecord(DeadLetterReason.MISSING_FIELD, f"a command needs {', '.join(_NEEDED)}")
    return record


def encode_watermark(
    partition: int, decided_to: LogMillis, log_time: LogMillis, controls_to: int, issued_at: Millis,
    *, owner: str | None = None, api: str | None = None,
) -> Record:  # fmt: skip
    """The record of a watermark. Before the first event a partition has decided nothing: that is 1970."""
    mark = Watermark(
        partition, Instant(max(decided_to, 0)), Instant(max(log_time, 0)), controls_to, Instant(issued_at), owner, api
    )
    source = partition_source(partition)
    return Record(watermark_key(partition), encode(mark), write_headers(WATERMARK, f"{partition}/{issued_at}", source, issued_at))


def decode_watermark(value: bytes | None) -> Watermark:
    """The watermark in these bytes. Raises BadRecord."""
    return decode(_watermark_reader, value)
