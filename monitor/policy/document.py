"""YAML with positions: a text becomes nodes, or an error that says where it stops being YAML."""

from typing import Final

import orjson
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node

from monitor.policy.findings import Finding, PolicyError

LARGEST: Final = 60_000
"""Bytes, as a JSON string: a policy travels in one record of at most 64 KiB (DESIGN section 4)."""


def compose(text: str, name: str) -> Node:
    """The root node of the one YAML document in `text`. Raises PolicyError, and nothing else, for any text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PolicyError(name, [_at_offset(text, error.start, "this is not a Unicode character")]) from None
    if (size := len(orjson.dumps(text))) > LARGEST:
        raise PolicyError(name, [Finding(1, 1, f"it takes {size} bytes as JSON: the limit is {LARGEST}")])
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False
    try:
        root: Node | None = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(str(part).strip() for part in (error.context, error.problem) if part)
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise PolicyError(name, [Finding(line, column, f"this is not YAML: {said}")]) from None
    except YAMLError as error:
        offset = getattr(error, "position", 0)
        raise PolicyError(name, [_at_offset(text, offset, "this character is not allowed in YAML")]) from None
    except RecursionError:
        raise PolicyError(name, [Finding(1, 1, "nested too deeply")]) from None
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError) as error:
        # The parser's own slips on strange texts are still a text that can't be read.
        raise PolicyError(name, [Finding(1, 1, f"this is not YAML: {error}")]) from None
    if root is None:
        raise PolicyError(name, [Finding(1, 1, "there is nothing in it: a policy begins with 'version: 1'")])
    return root


def _at_offset(text: str, offset: int, message: str) -> Finding:
    before = text[:offset]
    return Finding(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1, message)


def place(node: Node) -> tuple[int, int]:
    """Line and column of a node, from 1."""
    return node.start_mark.line + 1, node.start_mark.column + 1
