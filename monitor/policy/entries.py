"""The entries of a policy out of their nodes: defaults, rules, exceptions, and the conditions they stand under."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from ruamel.yaml.nodes import MappingNode, Node

from monitor.core.events import ActivityKind, Principal
from monitor.core.instants import HOUR, MINUTE, SECOND, Millis
from monitor.core.when import EVERYBODY, When
from monitor.policy.document import place
from monitor.policy.reader import Reader, is_nothing
from monitor.policy.rules import DEFAULTS, OnExceed, Origin, Rule

DEFAULT_IDLE: Final[Millis] = 30 * MINUTE
DEFAULT_ABSOLUTE: Final[Millis] = 12 * HOUR
"""What holds where `defaults` does not say: the seed guidance for general use."""

_ASKS: Final = (
    "idle", "absolute", "warn_before", "reauth", "concurrent", "on_exceed", "idle_counts", "abnormal_after",
)  # fmt: skip
_WHEN: Final = ("principal", "roles", "classification", "workload", "route", "subject", "tenant")
_COUNTABLE: Final = {kind.name.lower(): kind for kind in ActivityKind if kind is not ActivityKind.KEEPALIVE}
_LONGEST_NAME: Final = 100
_MOST_SESSIONS: Final = 1_000_000
_ACR: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""What may stand in `acr_values="..."` of a challenge (RFC 9470, section 3: separated by spaces)."""


def read_defaults(reader: Reader, node: Node | None) -> Rule:
    """The defaults, with the built-in ones for what they leave out. `none` is never among the built-in ones."""
    if node is None or is_nothing(node):
        return Rule(DEFAULTS, Origin.DEFAULTS, idle=DEFAULT_IDLE, absolute=DEFAULT_ABSOLUTE, warn_before=())
    found = reader.mapping(node, DEFAULTS, _ASKS)
    line, column = place(node)
    said = Rule(DEFAULTS, Origin.DEFAULTS, **_asks(reader, found), line=line, column=column)
    return msgspec.structs.replace(
        said,
        idle=DEFAULT_IDLE if said.idle is None else said.idle,
        absolute=DEFAULT_ABSOLUTE if said.absolute is None else said.absolute,
        warn_before=said.warn_before or (),
    )


def read_rule(reader: Reader, classifications: tuple[str, ...], origin: Origin, node: Node) -> Rule:
    """One rule, of a preset or of the policy itself."""
    found = reader.mapping(node, "a rule", ("name", "when", *_ASKS, "enforce"), required=("name",))
    line, column = place(node)
    enforce = reader.word(found["enforce"], "enforce", ("observe", "enforce")) if "enforce" in found else ""
    rule = Rule(
        _name(reader, found.get("name"), "a rule"),
        origin,
        read_when(reader, found["when"], classifications) if "when" in found else EVERYBODY,
        **_asks(reader, found),
        observe=enforce == "observe",
        line=line,
        column=column,
    )
    if isinstance(node, MappingNode) and not rule.speaks:
        reader.wrong(
            node, f"rule {rule.name!r} asks for nothing: give it {', '.join(_ASKS[:-1])} or {_ASKS[-1]}"
        )
    return rule


def read_exception(reader: Reader, classifications: tuple[str, ...], node: Node) -> Rule:
    """One exception: named, conditioned, reasoned, approved, with an end."""
    needed = ("name", "when", "until", "reason", "approved_by")
    found = reader.mapping(node, "an exception", (*needed, "idle", "absolute"), required=needed)
    line, column = place(node)
    rule = Rule(
        _name(reader, found.get("name"), "an exception"),
        Origin.EXCEPTION,
        read_when(reader, found["when"], classifications) if "when" in found else EVERYBODY,
        **_asks(reader, {key: found[key] for key in ("idle", "absolute") if key in found}),
        line=line,
        column=column,
    )
    if isinstance(node, MappingNode) and not rule.speaks:
        reader.wrong(node, f"exception {rule.name!r} lengthens nothing: give it idle or absolute")
    told: dict[str, Any] = {
        key: reader.text(found[key], key) for key in ("reason", "approved_by") if key in found
    }
    if "until" in found:
        told["until"] = reader.date(found["until"], "until")
    return msgspec.structs.replace(rule, **told)


def _name(reader: Reader, node: Node | None, what: str) -> str:
    """A name that can stand in one line of a table."""
    if node is None:
        return ""
    errors = len(reader.findings)
    name = reader.text(node, f"the name of {what}")
    if len(reader.findings) > errors:
        return name
    if len(name) > _LONGEST_NAME or not name.isprintable():
        reader.wrong(node, f"the name of {what} must be one line of at most {_LONGEST_NAME} characters")
    if name == DEFAULTS:
        reader.wrong(node, f"{DEFAULTS!r} is what plans call the defaults: choose another name")
    return name


def _asks(reader: Reader, found: Mapping[str, Node]) -> dict[str, Any]:
    """The members of `Rule` that say what is asked for."""
    asks: dict[str, Any] = {}
    for key in ("idle", "absolute"):
        if key in found:
            asks[key] = reader.duration(found[key], key, none=True)
    if "warn_before" in found:
        asks["warn_before"] = reader.durations(found["warn_before"], "warn_before")
    if "abnormal_after" in found:
        asks["abnormal_after"] = reader.duration(found["abnormal_after"], "abnormal_after")
    if "concurrent" in found:
        asks["concurrent"] = reader.whole(found["concurrent"], "concurrent", 1, _MOST_SESSIONS)
    if "on_exceed" in found:
        word = reader.word(found["on_exceed"], "on_exceed", tuple(OnExceed))
        asks["on_exceed"] = OnExceed(word) if word in tuple(OnExceed) else None
    if "idle_counts" in found:
        asks["counts"] = _mask(reader.words(found["idle_counts"], "idle_counts", _COUNTABLE))
    if "reauth" in found:
        members = reader.mapping(found["reauth"], "reauth", ("acr_values", "max_age"))
        if "acr_values" in members:
            asks["acr_values"] = words = reader.texts(members["acr_values"], "reauth.acr_values")
            if not all(_ACR.fullmatch(word) for word in words):
                reader.wrong(
                    members["acr_values"],
                    "reauth.acr_values holds a word with blanks, quotes or control characters",
                )
        if "max_age" in members:
            asks["max_age"] = reader.duration(members["max_age"], "reauth.max_age", least=SECOND)
    return asks


def _mask(words: Iterable[str]) -> int:
    mask = 0
    for word in words:
        mask |= _COUNTABLE.get(word, 0)
    return mask


def read_when(reader: Reader, node: Node, classifications: tuple[str, ...], what: str = "when") -> When:
    """The conditions of one entry; `what` is what messages call them."""
    found = reader.mapping(node, what, _WHEN)
    if isinstance(node, MappingNode) and not node.value:
        reader.wrong(
            node, "an empty 'when': name a condition (a rule for every session has no 'when' at all)"
        )
    given: dict[str, Any] = {}
    for key, value in found.items():
        if key == "classification" and isinstance(value, MappingNode):
            members = reader.mapping(value, f"{what}.classification", ("at_least",), required=("at_least",))
            if "at_least" in members:
                given["at_least"] = reader.word(members["at_least"], "at_least", classifications)
        elif key == "classification":
            given[key] = reader.words(value, f"{what}.classification", classifications)
        elif key == "principal":
            given[key] = reader.word(value, f"{what}.principal", tuple(Principal))
        else:
            given[key] = reader.texts(value, f"{what}.{key}")
    return msgspec.convert(given, When)
