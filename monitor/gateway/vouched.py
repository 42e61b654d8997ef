"""What the application itself knows of a request and vouches for: facts for the decision, beside those of the session id and the token."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from monitor.core.errors import InputError
from monitor.gateway.facts import Facts
from monitor.gateway.question import Question

Vouched: TypeAlias = Mapping[str, Any]
"""Members of `Facts` by their names. What is left out stays as the token says, or unknown."""

REST: Final = "..."
_ALLOWED: Final = frozenset(Facts.__struct_fields__) - {"session_id", "auth_time", "whole_second"}


class Excluded:
    """Paths that are nobody's session's business: the login, health, static files."""

    def __init__(self, paths: Sequence[str]) -> None:
        """A path as it is, or with everything below it: `/static/...`. Raises InputError."""
        for path in paths:
            if not path.startswith("/") or path == f"/{REST}" or REST in path.removesuffix(f"/{REST}"):
                raise InputError(f"excluded path {path!r}: allowed are a path like /login, and what is below one, like /static/{REST}")
        self._exact = frozenset(path for path in paths if not path.endswith(f"/{REST}"))
        self._below = tuple(path.removesuffix(REST) for path in paths if path.endswith(f"/{REST}"))

    def __contains__(self, path: str) -> bool:
        """Whether a path (percent-decoded) is among them. One that could be read as another, as by `..`, is not."""
        if path in self._exact:
            return True
        return path.startswith(self._below) and not _ambiguous(path) if self._below else False


def _ambiguous(path: str) -> bool:
    return "\\" in path or "//" in path or not {".", ".."}.isdisjoint(path.split("/"))


def vouch(question: Question, vouched: Vouched) -> Question:
    """The question with the application's facts. Raises InputError for a name that is none: a fault of the application."""
    if not vouched or question.turned_away is not None:
        return question
    if unknown := vouched.keys() - _ALLOWED:
        raise InputError(f"facts_of: {min(unknown)!r} is no fact that an application can tell; allowed are {', '.join(sorted(_ALLOWED))}")
    return replace(question, facts=replace(question.facts, **vouched))
