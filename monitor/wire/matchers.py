"""Matchers of alerts, as Alertmanager writes them: `name=value`, `name!=value`, `name=~regex`, `name!~regex`.

A value may stand in double quotes. A member that an alert does not have is as good as an empty one. Regexes are held against the whole
value (`monitor.wire.patterns`).
"""

import re
from enum import StrEnum
from typing import Final

import msgspec

from monitor.core.errors import InputError
from monitor.wire.alerts import AlertRecord
from monitor.wire.patterns import BadPattern, Pattern

NAMES: Final = ("alert", "severity", "subject", "session_id", "gateway", "workload", "tenant", "fingerprint")
"""The members of an alert that can be matched."""
LONGEST: Final = 1100
"""Characters of a matcher: a name and a value as long as any."""

_FORM: Final = re.compile(r"\s*([A-Za-z0-9_]{0,40})\s*(=~|!~|!=|=)(.*)", re.DOTALL)
_ESCAPES: Final = {"\\": "\\", '"': '"', "n": "\n"}


class Operator(StrEnum):
    """How a value is held against the member."""

    IS = "="
    IS_NOT = "!="
    MATCHES = "=~"
    MATCHES_NOT = "!~"


class BadMatcher(InputError):  # noqa: N818 - as BadRecord
    """A matcher that is not understood; `detail` is the same without its text."""

    def __init__(self, text: str, detail: str) -> None:
        """`detail` says what is wrong, and what to write."""
        super().__init__(f"matcher {text[:80]!r}: {detail}")
        self.detail = detail


class Matcher(msgspec.Struct, frozen=True):
    """One condition on an alert."""

    name: str
    operator: Operator
    value: str
    pattern: Pattern | None = None

    def meets(self, alert: AlertRecord) -> bool:
        """Whether this alert meets it."""
        return self.accepts(getattr(alert, self.name) or "")

    def accepts(self, value: str) -> bool:
        """Whether a member with this value does."""
        met = self.value == value if self.pattern is None else self.pattern.matches(value)
        return met is (self.operator in {Operator.IS, Operator.MATCHES})


def parse_matcher(text: str) -> Matcher:
    """The matcher that is written there. Raises BadMatcher."""
    if len(text) > LONGEST:
        raise BadMatcher(text, f"longer than {LONGEST} characters")
    form = _FORM.fullmatch(text)
    if form is None:
        raise BadMatcher(text, "not name=value, name!=value, name=~regex or name!~regex")
    name, operator, value = form[1], Operator(form[2]), _unquoted(text, form[3].strip())
    if name not in NAMES:
        raise BadMatcher(text, f"no such name; there are {', '.join(NAMES)}")
    if operator in {Operator.IS, Operator.IS_NOT}:
        return Matcher(name, operator, value)
    try:
        return Matcher(name, operator, value, Pattern(value))
    except BadPattern as error:
        raise BadMatcher(text, error.detail) from None


def _unquoted(text: str, value: str) -> str:
    if not value.startswith('"'):
        return value
    if len(value) < 2 or not value.endswith('"'):
        raise BadMatcher(text, "a value that begins with a double quote has to end with one")
    found, inside, place = [], value[1:-1], 0
    while place < len(inside):
        one = inside[place]
        place += 1
        if one == '"':
            raise BadMatcher(text, 'a double quote within the value; write \\"')
        if one == "\\":
            # As in Alertmanager's classic form: what is no escape stays as it is, so that regexes need no doubled backslashes.
            escape = inside[place : place + 1]
            if not escape:
                raise BadMatcher(text, "the closing double quote is escaped; write \\\\ for a backslash at the end")
            one = _ESCAPES.get(escape, "\\" + escape)
            place += 1
        found.append(one)
    return "".join(found)
