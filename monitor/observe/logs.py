"""Logs: a stable snake_case event name and fields, on the standard library's logging; secrets never.

Ours: `logging.getLogger(__name__).warning("policy_differs", extra={"file": ..., "ruling": ...})`. What libraries
say is carried as `library_message`.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TextIO

import orjson

_EVENT: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_SECRET: Final = re.compile(r"password|secret|token|authorization|cookie|credential", re.IGNORECASE)
_HIDDEN: Final = "***"
# Everything that the library itself puts on a record; the rest are fields.
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_NOISY: Final = {
    "kafka": logging.WARNING,
    "aiokafka": logging.WARNING,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
}
"""Libraries that tell their whole life at `info`."""


class LogFormat(StrEnum):
    """How a line looks."""

    AUTO = "auto"
    JSON = "json"
    HUMAN = "human"


class Level(StrEnum):
    """From which level on."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, logger, the fields, and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Never raises: what JSON can't hold becomes text."""
        event, fields = _said(record)
        line: dict[str, Any] = {
            "time": _time(record), "level": record.levelname.lower(), "event": event, "logger": record.name,
        } | {name: value for name, value in fields.items() if name not in ("time", "level", "event", "logger")}  # fmt: skip
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # orjson: integers beyond 64 bits, text that is not UTF-8
            return orjson.dumps({name: _safe(value) for name, value in line.items()}).decode()


class Human(logging.Formatter):
    """One line for people: time of day, level, event, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """What a terminal would obey is replaced."""
        event, fields = _said(record)
        text = fields.pop("message", "") if event == "library_message" else event
        said = [_time(record)[11:23], f"{record.levelname.lower():<8}", str(text)]
        said += [f"{name}={value}" for name, value in fields.items()]
        line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(said))
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure_logs(
    fmt: LogFormat = LogFormat.AUTO, level: Level = Level.INFO, stream: TextIO | None = None
) -> None:
    """Send every log of this process to `stream` (stderr) in this form, and nowhere else. May be called again."""
    stream = stream or sys.stderr
    human = fmt is LogFormat.HUMAN or (fmt is LogFormat.AUTO and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Human() if human else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(logging.NOTSET if level is Level.DEBUG else least)
    logging.captureWarnings(True)


def _said(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """The event, and its fields without secrets."""
    fields = {
        name: _HIDDEN if _SECRET.search(name) else value
        for name, value in vars(record).items()
        if name not in _OWN
    }
    if isinstance(record.msg, str) and not record.args and _EVENT.fullmatch(record.msg):
        return record.msg, fields
    try:
        text = record.getMessage()
    except (TypeError, ValueError):
        text = f"{record.msg!r} {record.args!r}"
    return "library_message", {"message": text, "library": record.name.partition(".")[0], **fields}


def _safe(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.encode(errors="replace").decode()


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
