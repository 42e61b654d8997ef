"""Regular expressions that can't hang: those of RE2, whose time is linear in the text, as Alertmanager's are."""

from typing import Any, Final

import re2

from monitor.core.errors import InputError

LONGEST: Final = 256
"""Characters of a pattern."""
MOST_MEMORY: Final = 1 << 20
"""Bytes that a pattern may come to: what repeats repetitions is refused."""


class BadPattern(InputError):  # noqa: N818 - as BadRecord
    """A pattern that is not understood here."""

    def __init__(self, what: str) -> None:
        """`what` is wrong with it."""
        self.detail = f"regular expression: {what}; the syntax is that of RE2"
        super().__init__(self.detail)


class Pattern:
    """A pattern that is held against a whole text; `.` meets line breaks too."""

    __slots__ = ("_match",)

    def __init__(self, text: str) -> None:
        """Raises BadPattern."""
        if len(text) > LONGEST:
            raise BadPattern(f"longer than {LONGEST} characters")
        options = re2.Options()
        options.log_errors, options.dot_nl, options.max_mem = False, True, MOST_MEMORY
        try:
            self._match: Any = re2.compile(text, options).fullmatch
        except UnicodeEncodeError:
            raise BadPattern("not valid Unicode") from None
        except re2.error as error:
            what = error.args[0]
            raise BadPattern(what.decode(errors="replace") if isinstance(what, bytes) else str(what)) from None

    def matches(self, text: str) -> bool:
        """Whether all of the text is met."""
        return self._match(text) is not None
