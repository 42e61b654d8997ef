"""A policy as it is written, checked and with its presets resolved, before it is compiled for speed."""

from collections.abc import Mapping
from functools import cache, partial
from importlib.resources import files
from typing import Final

import msgspec
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from monitor.core.instants import Millis
from monitor.core.plan import Timing
from monitor.detect.settings import Settings
from monitor.policy.detection import read_detection
from monitor.policy.document import compose
from monitor.policy.entries import read_defaults, read_exception, read_rule
from monitor.policy.findings import Finding
from monitor.policy.reader import Reader, each, is_nothing
from monitor.policy.rules import Origin, Rule

CLASSIFICATIONS: Final = ("public", "internal", "confidential", "restricted")
PRESETS: Final = ("seed", "pci", "fedramp-high", "aal2", "aal3")

_SECTIONS: Final = (
    "version", "classifications", "extends", "timing", "defaults", "rules", "exceptions", "detect",
)  # fmt: skip


class Sheet(msgspec.Struct, frozen=True):
    """Everything that a policy file says."""

    classifications: tuple[str, ...]
    """Lowest first."""
    timing: Timing
    source_graces: Mapping[str, Millis]
    """By classification, for every word of the list."""
    extends: tuple[str, ...]
    defaults: Rule
    rules: tuple[Rule, ...]
    """Those of the presets first, in the order of `extends`."""
    exceptions: tuple[Rule, ...]
    detection: Settings


def read_sheet(text: str, name: str) -> Sheet:
    """The sheet that `text` says. Raises PolicyError with everything that is wrong, and nothing else."""
    reader = Reader(name)
    root = compose(text, name)
    sections = reader.mapping(root, "the policy", _SECTIONS, required=("version",))
    if "version" in sections:
        reader.whole(sections["version"], "version", 1, 1)
    classifications = _classifications(reader, sections.get("classifications"))
    timing, graces = _timing(reader, sections.get("timing"), classifications)
    extends, rules = _presets(reader, sections.get("extends"), classifications)
    defaults = read_defaults(reader, sections.get("defaults"))
    own = partial(read_rule, reader, classifications, Origin.RULE)
    rules += each(reader, sections.get("rules"), "rules", own)
    excepted = partial(read_exception, reader, classifications)
    exceptions = each(reader, sections.get("exceptions"), "exceptions", excepted)
    _name_once(reader, (*rules, *exceptions))
    detection = read_detection(reader, classifications, sections.get("detect"))
    reader.finish()
    return Sheet(classifications, timing, graces, extends, defaults, tuple(rules), tuple(exceptions), detection)


def _name_once(reader: Reader, entries: tuple[Rule, ...]) -> None:
    first: dict[str, Rule] = {}
    for entry in entries:
        other = first.setdefault(entry.name, entry)
        if other is not entry and entry.name:
            where = "in a preset" if other.origin is Origin.PRESET else f"in line {other.line}"
            message = f"the name {entry.name!r} is used twice (first {where})"
            reader.findings.append(Finding(entry.line, entry.column, message))


def _classifications(reader: Reader, node: Node | None) -> tuple[str, ...]:
    if node is None:
        return CLASSIFICATIONS
    words = reader.texts(node, "classifications", lone=False)
    if len(set(words)) < len(words):
        reader.wrong(node, "classifications has a word twice")
    return words or CLASSIFICATIONS


def _timing(
    reader: Reader, node: Node | None, classifications: tuple[str, ...]
) -> tuple[Timing, Mapping[str, Millis]]:
    usual = Timing()
    found: dict[str, Node] = {}
    if node is not None and not is_nothing(node):
        found = reader.mapping(node, "timing", Timing.__struct_fields__)
    given: dict[str, Millis] = {}
    own: dict[str, Millis] = {}
    for key, value in found.items():
        if key == "source_grace" and isinstance(value, MappingNode):
            members = reader.mapping(value, "timing.source_grace", classifications)
            own = {
                word: reader.duration(inner, f"timing.source_grace.{word}", least=0)
                for word, inner in members.items()
            }
        else:
            least = 1 if key in {"tick", "credential_lifetime", "inflight_cap"} else 0
            given[key] = reader.duration(value, f"timing.{key}", least=least)
    grace = given.get("source_grace", usual.source_grace)
    graces = dict.fromkeys(classifications, grace) | {classifications[-1]: 0} | own
    given["source_grace"] = max(graces.values()) if own else grace
    return msgspec.structs.replace(usual, **given), graces


@cache
def _preset_root(name: str) -> Node:
    text = (files("monitor.policy") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return compose(text, f"{name}.yaml")


def _presets(
    reader: Reader, node: Node | None, classifications: tuple[str, ...]
) -> tuple[tuple[str, ...], list[Rule]]:
    """The presets named, and their rules. What a preset says wrongly of this policy stands at its name."""
    rules: list[Rule] = []
    if node is None or is_nothing(node):
        return (), rules
    items = [node] if isinstance(node, ScalarNode) else reader.items(node, "extends")
    names: list[str] = []
    for item in items:
        errors = len(reader.findings)
        name = reader.word(item, "extends", PRESETS)
        if len(reader.findings) > errors:
            continue
        if name in names:
            reader.wrong(item, f"extends names {name!r} twice")
            continue
        names.append(name)
        within = Reader(name)
        sections = within.mapping(_preset_root(name), "the preset", ("version", "rules"))
        own = partial(read_rule, within, classifications, Origin.PRESET)
        rules += each(within, sections.get("rules"), "rules", own)
        if within.findings:
            told = "; ".join(finding.message for finding in within.findings)
            reader.wrong(item, f"the preset {name!r} does not fit this policy: {told}")
    return tuple(names), rules
