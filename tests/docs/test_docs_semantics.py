"""docs/semantics.md and tests/README.md name only tests, clauses and files that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.model.histories import CORPUS

ROOT = Path(__file__).parents[2]
SEMANTICS = (ROOT / "docs" / "semantics.md").read_text()
README = (ROOT / "tests" / "README.md").read_text()
PAGES = pytest.mark.parametrize("page", [SEMANTICS, README], ids=["semantics", "tests"])
SHORT = {
    "P": "tests/core/test_core_properties.py",
    "S": "tests/simulation/test_simulation.py",
    "K": "tests/kafka/test_kafka_faults.py",
}
"""The letters of the table of invariants."""
JUDGE = "tests/simulation/judge.py"


@cache
def functions(path):
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def paths(page):
    return set(re.findall(r"`(tests/[\w/.-]+?\.py)(?=`|::)", page))


@PAGES
def test_every_file_that_is_named_is_there(page):
    found = paths(page)
    assert len(found) >= 5
    assert not [path for path in found if not (ROOT / path).is_file()]


@PAGES
def test_every_test_that_is_named_exists(page):
    named = re.findall(r"`(tests/[\w/.-]+\.py)::(\w+)`", page)
    assert named
    assert not [f"{path}::{name}" for path, name in named if name not in functions(path)]


def test_every_clause_that_is_named_is_one_of_the_corpus():
    # Everything in straight quotation marks behind "clause" or "clauses", up to the end of the line.
    lines = re.findall(r"[Cc]lauses? (\".+)", SEMANTICS)
    named = [clause for line in lines for clause in re.findall(r"\"([^\"]+)\"", line) if clause != "..."]
    assert len(named) > 25
    assert not set(named) - {name for name, *_ in CORPUS}


def test_every_section_of_the_page_but_its_last_names_what_holds_it():
    sections = re.split(r"^## ", SEMANTICS, flags=re.MULTILINE)[1:]
    assert sections.pop().startswith("What is not promised")
    bare = [text.splitlines()[0] for text in sections if "tests/" not in text and "lause" not in text]
    assert not bare


def invariants():
    return re.findall(r"^\| (I\d) [^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|$", README, re.MULTILINE)


def test_every_invariant_has_its_three_tests_and_they_exist():
    rows = invariants()
    assert [row[0] for row in rows] == [f"I{number}" for number in range(1, 9)]
    for _, *cells in rows:
        for cell in cells:
            letters = re.findall(r"\b([PSK])\b", cell)
            named = re.findall(r"`(\w+)`", cell)
            assert letters or paths(cell), cell
            known = {name for letter in letters for name in functions(SHORT[letter])}
            if "S" in letters:
                known |= functions(JUDGE)
            assert not set(named) - known, cell
    for letter, path in SHORT.items():
        assert f"{letter} is `{path}`" in README
