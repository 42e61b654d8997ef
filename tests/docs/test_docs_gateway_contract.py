"""docs/gateway-contract.md names only files and tests that exist, and every reason that a gateway may give by itself."""

import ast
import re
from pathlib import Path

import pytest

from monitor.core.reasons import ORDERABLE
from monitor.wire.problem import Refusal

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gateway-contract.md").read_text()
TOKENS = {Refusal.TOKEN_INVALID, Refusal.TOKEN_UNJUDGED}
"""What is said of tokens is no part of the contract on the topics."""


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert len(links) >= 8
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_every_test_and_file_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/.-]+?)(?:::(\w+))?`", PAGE)
    assert len(named) >= 3
    for path, name in named:
        text = (ROOT / path).read_text()
        if name:
            assert name in {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}, name


def test_every_reason_of_a_gateways_own_is_explained() -> None:
    assert [word.value for word in set(Refusal) - TOKENS if f"`{word.value}`" not in PAGE] == []
    assert [word.value for word in ORDERABLE if f"`{word.value}`" not in PAGE] == []


@pytest.mark.embedded
def test_the_python_of_the_page_runs(embedded, own_topics, capsys) -> None:
    world = own_topics(embedded)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = code.replace("localhost:9092", world.bootstrap_servers).replace("Topics()", f"Topics({world.prefix!r})")
    exec(code, {})
    assert capsys.readouterr().out == "503 view_stale True\n"  # no monitor has ever run there: nothing may be guessed
