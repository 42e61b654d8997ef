"""What people read of an alert: its name, and what was expected and seen, in words. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from monitor.wire.alerts import AlertRecord

LONGEST: Final = 2000
"""Characters of a description; the record on session-alerts has it all."""
_PARTS: Final = ("expected", "seen", "sessions", "cohort")


def alert_name(name: str) -> str:
    """The detector's name as names of alerts are written: `timeout_churn` is `TimeoutChurn`."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


def description(alert: AlertRecord) -> str:
    """A sentence for each part of the evidence; empty where there is none."""
    evidence = alert.evidence
    names = [name for name in _PARTS if name in evidence] + sorted(evidence.keys() - set(_PARTS))
    sentences = [f"{name.capitalize().replace('_', ' ')}: {said}." for name in names if (said := _words(evidence[name]))]
    text = " ".join(sentences)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {said}" for name, one in value.items() if (said := _words(one)))
    if isinstance(value, list | tuple):
        return ", ".join(_words(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
