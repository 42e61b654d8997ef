"""The section `detect:` out of its nodes: thresholds, exemptions and acts of the nine detectors, by the names of their fields."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from monitor.core.instants import SECOND
from monitor.core.when import When
from monitor.detect.settings import DEFAULTS, Act, Common, Settings, Severity, Storm
from monitor.policy.entries import read_when
from monitor.policy.reader import Reader, each, is_nothing

LARGEST_COUNT: Final = 1000
"""What a detector counts up to: its state holds no more of one principal or gateway."""
MOST_EXEMPT: Final = 100
"""Exemptions of one detector."""

_DURATIONS: Final = MappingProxyType({
    "hold": 0, "resolve_after": 0, "act_for": SECOND, "at_least": 0, "known_for": 0, "fades": SECOND, "window": SECOND,
    "gap": 0, "after": SECOND, "past": 0, "within": SECOND, "silent": SECOND,
})  # fmt: skip
"""Field -> the shortest that it may be."""

_COUNTS: Final = MappingProxyType({
    "minimum": (1, 1_000_000), "count": (1, LARGEST_COUNT), "parts": (2, LARGEST_COUNT),
    "networks": (2, 64), "user_agents": (2, 64), "prefix_v4": (1, 32), "prefix_v6": (1, 128),
    "per_subject": (1, 1_000_000), "per_alert": (1, 1_000_000),
})  # fmt: skip
"""Field -> the least and the most."""

_REALS: Final[Mapping[str, tuple[str, Callable[[float], bool]]]] = MappingProxyType({
    "quantile": ("above 0 and below 1, like 0.99", lambda number: 0 < number < 1),
    "factor": ("from 1 to 1000", lambda number: 1 <= number <= 1000),
})  # fmt: skip

_WORDS: Final = MappingProxyType({"severity": Severity, "act": Act})


def read_detection(reader: Reader, classifications: tuple[str, ...], node: Node | None) -> Settings:
    """The settings that the section says, with the defaults for what it leaves out."""
    if node is None or is_nothing(node):
        return DEFAULTS
    sections = reader.mapping(node, "detect", Settings.__struct_fields__)
    told = {name: _section(reader, classifications, name, inner) for name, inner in sections.items()}
    return msgspec.structs.replace(DEFAULTS, **told)


def _section(reader: Reader, classifications: tuple[str, ...], name: str, node: Node) -> Common | Storm:
    """One detector, or the storm."""
    usual: Common | Storm = getattr(DEFAULTS, name)
    if is_nothing(node):
        return usual
    what = f"detect.{name}"
    found = reader.mapping(node, what, usual.__struct_fields__)
    told = {key: _field(reader, classifications, f"{what}.{key}", key, value) for key, value in found.items()}
    return msgspec.structs.replace(usual, **told)


def _field(reader: Reader, classifications: tuple[str, ...], what: str, key: str, node: Node) -> Any:
    """The value of one field, by its name: a name means the same in every detector."""
    if key in _DURATIONS:
        return reader.duration(node, what, least=_DURATIONS[key])
    if key in _COUNTS:
        return reader.whole(node, what, *_COUNTS[key])
    if key in _REALS:
        return reader.real(node, what, *_REALS[key])
    if key in _WORDS:
        kind = _WORDS[key]
        word = reader.word(node, what, tuple(kind))
        return kind(word) if word in tuple(kind) else None
    if key == "exempt":
        return _exempt(reader, classifications, what, node)
    return reader.flag(node, what)


def _exempt(reader: Reader, classifications: tuple[str, ...], what: str, node: Node) -> tuple[When, ...]:
    def one(inner: Node) -> When:
        if isinstance(inner, MappingNode) and not inner.value:
            reader.wrong(inner, f"an empty entry of {what} would exempt every session: say 'enabled: false' for that")
            return When()
        return read_when(reader, inner, classifications, what)

    if isinstance(node, SequenceNode) and len(node.value) > MOST_EXEMPT:
        reader.wrong(node, f"{what} has more than {MOST_EXEMPT} entries")
        return ()
    return tuple(each(reader, node, what, one))
