"""Typed values out of YAML nodes.

A `Reader` never raises for what a person wrote: it notes a finding with its place and goes on, so that one
run tells everything that is wrong. What a method returns after a finding is harmless and never used.
"""

import re
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Final, TypeVar

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from monitor.core.errors import InputError
from monitor.core.instants import NEVER, Millis
from monitor.policy.document import place
from monitor.policy.durations import NONE, parse_duration
from monitor.policy.findings import Finding, PolicyError

_CORE: Final = "tag:yaml.org,2002:"
_NAMES: Final = {
    "str": "a text", "int": "a number", "float": "a number", "bool": "true or false",
    "null": "nothing", "timestamp": "a date", "map": "a mapping", "seq": "a list",
}  # fmt: skip
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE: Final = re.compile(r"[-+]?[0-9]{1,15}")
_REAL: Final = re.compile(r"[-+]?[0-9]{1,15}\.[0-9]{1,15}")
_LONGEST_TEXT: Final = 1000

Value = TypeVar("Value")


def is_nothing(node: Node) -> bool:
    """Whether a key was written without a value."""
    return isinstance(node, ScalarNode) and node.tag == _CORE + "null"


def meant(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` where a known word is close; else the known words."""
    words = sorted(known)
    close = get_close_matches(word, words, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(words)}"


class Reader:
    """Takes values out of nodes and notes what is wrong with them."""

    def __init__(self, name: str) -> None:
        """`name` is the file's name as its author knows it."""
        self.name = name
        self.findings: list[Finding] = []

    def wrong(self, node: Node, message: str) -> None:
        """Note an error at this node."""
        self.findings.append(Finding(*place(node), message))

    def finish(self) -> None:
        """Raise PolicyError if anything was wrong."""
        if self.findings:
            raise PolicyError(self.name, self.findings)

    def _wrong_kind(self, node: Node, what: str, wanted: str) -> None:
        kind = _NAMES.get(str(node.tag).removeprefix(_CORE), f"of an unknown type ({node.tag})")
        quoted = (
            isinstance(node, ScalarNode) and kind not in {"nothing", "a text"} and wanted.startswith("a text")
        )
        self.wrong(node, f"{what} must be {wanted}, not {kind}" + (": put it in quotes" if quoted else ""))

    def pairs(self, node: Node, what: str) -> dict[str, tuple[Node, Node]]:
        """Key -> (key node, value node) of a mapping with any keys; each key once."""
        found: dict[str, tuple[Node, Node]] = {}
        if not isinstance(node, MappingNode):
            self._wrong_kind(node, what, "a mapping")
            return found
        for key_node, value in node.value:
            if not isinstance(key_node, ScalarNode):
                self._wrong_kind(key_node, f"a key of {what}", "a text")
            elif key_node.value in found:
                first, _ = place(found[key_node.value][0])
                self.wrong(key_node, f"{what} has {key_node.value!r} twice (first in line {first})")
            else:
                if is_nothing(value) and not value.value:
                    value.start_mark = key_node.start_mark  # where YAML puts what isn't there is of no use
                found[key_node.value] = (key_node, value)
        return found

    def mapping(
        self, node: Node, what: str, known: Collection[str], required: Collection[str] = ()
    ) -> dict[str, Node]:
        """Key -> value node of a mapping that has these keys and no others."""
        pairs = self.pairs(node, what)
        for key in sorted(pairs.keys() - set(known)):
            self.wrong(pairs.pop(key)[0], f"unknown key {key!r} in {what}{meant(key, known)}")
        if isinstance(node, MappingNode):
            for key in required:
                if key not in pairs:
                    self.wrong(node, f"{what} needs {key!r}")
        return {key: value for key, (_, value) in pairs.items()}

    def items(self, node: Node, what: str) -> list[Node]:
        """The nodes of a list."""
        if not isinstance(node, SequenceNode):
            self._wrong_kind(node, what, "a list")
            return []
        return list(node.value)

    def text(self, node: Node, what: str) -> str:
        """A text that is not empty; what YAML takes for a number, a date or true must stand in quotes."""
        if not isinstance(node, ScalarNode) or node.tag != _CORE + "str":
            self._wrong_kind(node, what, "a text")
            return ""
        text = str(node.value)
        if not text.strip() or len(text) > _LONGEST_TEXT:
            self.wrong(node, f"{what} must be a text of 1 to {_LONGEST_TEXT} characters")
        return text

    def texts(self, node: Node, what: str, *, lone: bool = True) -> tuple[str, ...]:
        """A list of texts, not empty; with `lone`, one text stands for a list of one."""
        if lone and isinstance(node, ScalarNode) and not is_nothing(node):
            return (self.text(node, what),)
        items = self.items(node, what)
        if isinstance(node, SequenceNode) and not items:
            self.wrong(node, f"{what} is an empty list: nothing could ever match it")
        return tuple(self.text(item, f"an entry of {what}") for item in items)

    def word(self, node: Node, what: str, known: Collection[str]) -> str:
        """One of a closed list of words."""
        errors = len(self.findings)
        word = self.text(node, what)
        if len(self.findings) == errors and word not in known:
            self.wrong(node, f"{what} can't be {word!r}{meant(word, known)}")
        return word

    def words(self, node: Node, what: str, known: Collection[str]) -> tuple[str, ...]:
        """A list of words of a closed list, or one of them."""
        if isinstance(node, ScalarNode):
            return (self.word(node, what, known),)
        items = self.items(node, what)
        if isinstance(node, SequenceNode) and not items:
            self.wrong(node, f"{what} is an empty list: nothing could ever match it")
        return tuple(self.word(item, f"an entry of {what}", known) for item in items)

    def whole(self, node: Node, what: str, least: int, most: int) -> int:
        """A whole number between `least` and `most`."""
        if not isinstance(node, ScalarNode) or node.tag != _CORE + "int":
            self._wrong_kind(node, what, "a whole number")
            return least
        number = int(node.value) if _WHOLE.fullmatch(node.value) else -1
        if not least <= number <= most:
            self.wrong(node, f"{what} must be from {least} to {most}")
        return number

    def real(self, node: Node, what: str, wanted: str, fits: Callable[[float], bool]) -> float:
        """A number, written as `3` or `0.99`, that `fits`; `wanted` says which those are."""
        if not isinstance(node, ScalarNode) or node.tag not in {_CORE + "int", _CORE + "float"}:
            self._wrong_kind(node, what, "a number")
            return 0.0
        text = str(node.value)
        number = float(text) if _WHOLE.fullmatch(text) or _REAL.fullmatch(text) else None
        if number is None or not fits(number):
            self.wrong(node, f"{what} must be a number {wanted}")
        return number or 0.0

    def flag(self, node: Node, what: str) -> bool:
        """True or false."""
        if not isinstance(node, ScalarNode) or node.tag != _CORE + "bool":
            self._wrong_kind(node, what, "true or false")
            return False
        return str(node.value).lower() in {"true", "yes", "on"}

    def duration(self, node: Node, what: str, *, least: Millis = 1, none: bool = False) -> Millis:
        """Milliseconds; with `none`, the word `none` is `NEVER`."""
        if not isinstance(node, ScalarNode) or is_nothing(node):
            self._wrong_kind(node, what, "a duration" + (" or none" if none else ""))
            return least
        text = str(node.value)
        if text == NONE and none:
            return NEVER
        try:
            millis = parse_duration(text)
        except InputError as error:
            self.wrong(node, f"{what}: {error}")
            return least
        if millis < least:
            self.wrong(node, f"{what} can't be {text}: it must be longer")
        return millis

    def durations(self, node: Node, what: str) -> tuple[Millis, ...]:
        """Durations, longest first, without repetition: a list (it may be empty) or a single one."""
        items = [node] if isinstance(node, ScalarNode) else self.items(node, what)
        return tuple(sorted({self.duration(item, what) for item in items}, reverse=True))

    def date(self, node: Node, what: str) -> Millis:
        """00:00 UTC of a day."""
        text = str(node.value) if isinstance(node, ScalarNode) else ""
        if not _DATE.fullmatch(text):
            self.wrong(node, f"{what} must be a day, like 2026-12-31")
            return NEVER
        try:
            return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000
        except ValueError:
            self.wrong(node, f"{what}: there is no day {text}")
            return NEVER


def each(reader: Reader, node: Node | None, what: str, read: Callable[[Node], Value]) -> list[Value]:
    """What `read` makes of every item of a list; nothing for a section that is absent or left empty."""
    if node is None or is_nothing(node):
        return []
    return [read(item) for item in reader.items(node, what)]
