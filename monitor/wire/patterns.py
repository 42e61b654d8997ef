"""Regular expressions that can't hang: time is at most proportional to the text times the size of the pattern.

Python's `re` goes back and forth, so that a pattern of twenty characters (`(a|a)*b`, `.*.*.*.*x`) takes longer than anybody waits, and a
check for nested quantifiers sees only the first of these two. Here all ways through the pattern are followed at once (Thompson 1968), as
RE2 does for Alertmanager. The syntax is the part of RE2's that matchers need; anything else is refused, never read differently.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from monitor.core.errors import InputError

LONGEST: Final = 256
"""Characters of a pattern."""
MOST_STEPS: Final = 1000
"""What a pattern comes to when its repetitions are written out."""
DEEPEST: Final = 20
"""Groups within groups."""
MOST_READ: Final = 4096
"""Of a longer text a pattern matches nothing."""

Test: TypeAlias = Callable[[str], bool]
"""Whether one character is met."""


class BadPattern(InputError):  # noqa: N818 - as BadRecord
    """A pattern that is not understood here: at which character, and what to write."""

    def __init__(self, at: int, detail: str) -> None:
        """`detail` never repeats the pattern."""
        super().__init__(f"regular expression, character {at + 1}: {detail}")
        self.detail = str(self)


class _Step(msgspec.Struct):
    """One character that is met and leads on; or, without a test, a fork."""

    test: Test | None
    onward: list[int]
    edge: str = ""
    """`^` and `$`: passed at the beginning of the text, at its end."""


class _Node(msgspec.Struct, frozen=True):
    """A part of a pattern, as it was read."""

    kind: str
    """`one`, `edge`, `all`, `any` (of several), `repeat`."""
    at: int
    test: Test | None = None
    edge: str = ""
    parts: "tuple[_Node, ...]" = ()
    least: int = 0
    most: int | None = None


def _is(wanted: frozenset[str]) -> Test:
    return wanted.__contains__


_DIGIT: Final = frozenset("0123456789")
_WORD: Final = _DIGIT | frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_SPACE: Final = frozenset(" \t\n\r\f\v")
_CLASSES: Final[dict[str, Test]] = {
    "d": _is(_DIGIT), "w": _is(_WORD), "s": _is(_SPACE),
    "D": lambda one: one not in _DIGIT, "W": lambda one: one not in _WORD, "S": lambda one: one not in _SPACE,
}  # fmt: skip
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r"}
_SPECIAL: Final = frozenset("|*+?(){}[]^$.\\")


def _character(wanted: str, fold: bool) -> Test:
    if fold:
        return frozenset((wanted, wanted.lower(), wanted.upper())).__contains__
    return wanted.__eq__


def _range(first: str, last: str, fold: bool) -> Test:
    if fold:
        return lambda one: first <= one <= last or first <= one.lower() <= last or first <= one.upper() <= last
    return lambda one: first <= one <= last


def _any(tests: tuple[Test, ...], negated: bool) -> Test:
    return lambda one: any(test(one) for test in tests) is not negated


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.place, self.depth = text, 0, 0
        self.fold = text.startswith("(?i)")
        if self.fold:
            self.place = 4

    def whole(self) -> _Node:
        found = self.alternatives()
        if self.place < len(self.text):
            raise BadPattern(self.place, "this ')' closes nothing; write \\) for the character")
        return found

    def next(self) -> str:
        return self.text[self.place : self.place + 1]

    def alternatives(self) -> _Node:
        at, parts = self.place, [self.sequence()]
        while self.next() == "|":
            self.place += 1
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else _Node("any", at, parts=tuple(parts))

    def sequence(self) -> _Node:
        at, parts = self.place, []
        while self.next() not in {"", "|", ")"}:
            parts.append(self.repeated())
        return _Node("all", at, parts=tuple(parts))

    def repeated(self) -> _Node:
        at, part = self.place, self.atom()
        bounds = self.bounds()
        if bounds is None:
            return part
        if self.next() == "?":  # which way is tried first does not matter where the whole text has to match
            self.place += 1
        if self.next() in {"*", "+", "?", "{"}:
            raise BadPattern(self.place, "a repetition of a repetition; put the first into ( )")
        if part.kind == "edge":
            raise BadPattern(at, "'^' and '$' can't be repeated")
        return _Node("repeat", at, parts=(part,), least=bounds[0], most=bounds[1])

    def bounds(self) -> tuple[int, int | None] | None:
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        found = simple.get(self.next())
        if found is not None:
            self.place += 1
            return found
        return self.counted() if self.next() == "{" else None

    def counted(self) -> tuple[int, int | None]:
        at, close = self.place, self.text.find("}", self.place)
        inside = self.text[at + 1 : close] if close > 0 else ""
        low, comma, high = inside.partition(",")
        numbers = [low] if not comma or not high else [low, high]
        if not all(number.isascii() and number.isdigit() and len(number) < 5 for number in numbers):
            raise BadPattern(at, "not a repetition such as {3}, {2,} or {2,5}; write \\{ for the character")
        least, most = int(low), (int(low) if not comma else int(high) if high else None)
        if most is not None and most < least:
            raise BadPattern(at, "the most is less than the least")
        self.place = close + 1
        return least, most

    def atom(self) -> _Node:
        at, one = self.place, self.next()
        if one == "(":
            return self.group()
        self.place += 1
        if one == "[":
            return _Node("one", at, self.set(at))
        if one == ".":
            return _Node("one", at, lambda _: True)
        if one in {"^", "$"}:
            return _Node("edge", at, edge=one)
        if one == "\\":
            return _Node("one", at, self.escaped(at))
        if one in {"*", "+", "?", "{"}:
            raise BadPattern(at, f"there is nothing that it could repeat; write \\{one} for the character")
        if one in _SPECIAL:
            raise BadPattern(at, f"this closes nothing; write \\{one} for the character")
        return _Node("one", at, _character(one, self.fold))

    def group(self) -> _Node:
        at = self.place
        self.place += 1
        if self.next() == "?":
            if not self.text.startswith("?:", self.place):
                raise BadPattern(at, "of groups there are ( ) and (?: ), and (?i) at the very beginning; no looking around, no names")
            self.place += 2
        self.depth += 1
        if self.depth > DEEPEST:
            raise BadPattern(at, f"groups nested deeper than {DEEPEST}; write it flatter")
        found = self.alternatives()
        if self.next() != ")":
            raise BadPattern(at, "this group is not closed; add ')', or write \\( for the character")
        self.place += 1
        self.depth -= 1
        return found

    def escaped(self, at: int) -> Test:
        one = self.next()
        self.place += 1
        if one in _CLASSES:
            return _CLASSES[one]
        return _character(self.literal(at, one), self.fold)

    def literal(self, at: int, one: str) -> str:
        """The character that stands for itself, or for another, after a backslash."""
        if one in _CONTROLS:
            return _CONTROLS[one]
        if not one or (one.isascii() and one.isalnum()):
            raise BadPattern(at, "not an escape that is known here: \\d \\w \\s \\D \\W \\S \\n \\t \\r, or \\ and a character that is no letter or digit")
        return one

    def set(self, at: int) -> Test:
        negated = self.next() == "^"
        self.place += negated
        tests: list[Test] = []
        while self.next() != "]" or not tests:
            one, test = self.member(at)
            last = self.text[self.place + 1 : self.place + 2]
            if one and self.next() == "-" and last not in {"]", ""}:
                self.place += 1
                other, _ = self.member(at)
                if not one <= other:
                    raise BadPattern(at, "a range in [ ] that ends before it begins, or with a class")
                test = _range(one, other, self.fold)
            tests.append(test)
        self.place += 1
        return _any(tuple(tests), negated)

    def member(self, at: int) -> tuple[str, Test]:
        """A character of a set and its test; of a class of characters the test alone."""
        here, one = self.place, self.next()
        self.place += 1
        if not one:
            raise BadPattern(at, "this set is not closed; add ']', or write \\[ for the character")
        if one == "[" and self.next() == ":":
            raise BadPattern(here, "classes such as [:alpha:] are not known here; write a-zA-Z")
        if one == "\\":
            one = self.next()
            self.place += 1
            if one in _CLASSES:
                return "", _CLASSES[one]
            one = self.literal(here, one)
        return one, _character(one, self.fold)


class Pattern:
    """A regular expression that is held against whole texts."""

    __slots__ = ("_first", "_steps", "text")

    def __init__(self, text: str) -> None:
        """Raises BadPattern: not understood, too long, or more than `MOST_STEPS` when its repetitions are written out."""
        if len(text) > LONGEST:
            raise BadPattern(LONGEST, f"longer than {LONGEST} characters; write several matchers")
        self.text = text
        self._steps: list[_Step] = []
        self._first = self._add(_Reader(text).whole(), self._step(0, _Step(None, [])))

    def matches(self, text: str) -> bool:
        """Whether the whole text is met. O(length * steps); False above `MOST_READ` characters."""
        if len(text) > MOST_READ:
            return False
        steps, end = self._steps, len(text)
        now = self._open([self._first], 0, end)
        for place, one in enumerate(text, 1):
            if not now:
                return False
            onward = []
            for number in now:
                test = steps[number].test
                if test is not None and test(one):
                    onward += steps[number].onward
            now = self._open(onward, place, end)
        return 0 in now

    def _open(self, numbers: Iterable[int], place: int, end: int) -> set[int]:
        """These and all that can be reached from them without a character."""
        found: set[int] = set()
        ahead = list(numbers)
        while ahead:
            number = ahead.pop()
            if number in found:
                continue
            step = self._steps[number]
            if (step.edge == "^" and place > 0) or (step.edge == "$" and place < end):
                continue
            found.add(number)
            if step.test is None:
                ahead += step.onward
        return found

    def _step(self, at: int, step: _Step) -> int:
        if len(self._steps) >= MOST_STEPS:
            raise BadPattern(at, f"more than {MOST_STEPS} steps when its repetitions are written out; repeat less")
        self._steps.append(step)
        return len(self._steps) - 1

    def _add(self, node: _Node, then: int) -> int:
        """The step at which this part begins, when `then` is what follows it. Step 0 is the end."""
        if node.kind in {"one", "edge"}:
            return self._step(node.at, _Step(node.test, [then], node.edge))
        if node.kind == "any":
            return self._step(node.at, _Step(None, [self._add(part, then) for part in node.parts]))
        if node.kind == "all":
            for part in reversed(node.parts):
                then = self._add(part, then)
            return then
        return self._repeat(node, then)

    def _repeat(self, node: _Node, then: int) -> int:
        (part,) = node.parts
        if node.most is None:
            again = self._step(node.at, _Step(None, [then]))
            self._steps[again].onward.append(self._add(part, again))
            then = again
        else:
            out = then
            for _ in range(node.most - node.least):
                then = self._step(node.at, _Step(None, [out, self._add(part, then)]))
        for _ in range(node.least):
            # An empty part adds no step, however often it is repeated.
            before, then = then, self._add(part, then)
            if before == then:
                break
        return then
