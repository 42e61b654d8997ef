"""No text brings out anything but a policy or a PolicyError."""

from functools import partial
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitor.policy import PolicyError, compile_policy
from monitor.policy.cases import read_cases

TEXT = (Path(__file__).parent / "design_example.yaml").read_text()

TOKENS = st.sampled_from(
    [
        "version: 1\n", "rules:\n", "  - name: a\n", "    when: ", "{", "}", "[", "]", ", ", ": ", "- ", "\n", "  ",
        "idle: ", "15m", "none", "roles", "classification: ", "at_least: ", "restricted", "&a ", "*a", "<<: ", "? ",
        "!!binary x", "!x ", "%YAML 1.1\n", "---\n", "...\n", "'", '"', "|\n", ">\n", "#", "~", "0x1F", "1e400", ".inf",
        "2026-12-31", "until: ", "exceptions:\n", "detect: ", "route: ", "'[!]a-*'", "[z-a]", "extends: ", "pci", "\t",
        "\\", "\ufeff", "\x85", "\u2028", "1_000", "yes", "timing: ", "source_grace: ", "warn_before: ",
    ]
)  # fmt: skip


def findings(read, text):
    try:
        read(text)
    except PolicyError as error:
        return error.findings
    return None


def compiles_or_says_why(text: str) -> None:
    for read in (compile_policy, partial(read_cases, name="cases.yaml")):
        found = findings(read, text)
        assert found is None or found
        assert all(one.line >= 1 and one.column >= 1 and one.message for one in found or ())


@given(st.text())
@example("\x00")
@example("a: &x 1\nb: &x 2")
@example("&a [*a]")
@example("version: 1\nrules: &a [*a]")
@example("!<tag:yaml.org,2002:int> x")
@example("version: " + "1" * 5000)
@example("? [a]\n: b")
@example("%TAG ! x\n--- !y z")
@example(
    "version: 1\nrules: [{name: a, idle: 5m, when: {route: ['[[a]', '[a--b]', '[z-a]', '[!]', '[&&||~~]']}}]"
)
def test_any_text(text):
    compiles_or_says_why(text)


@settings(max_examples=300)
@given(st.lists(TOKENS, max_size=40).map("".join))
def test_texts_made_of_what_policies_are_made_of(text):
    compiles_or_says_why(text)


@settings(max_examples=300)
@given(st.data())
def test_a_good_policy_with_something_in_it_replaced(data):
    start = data.draw(st.integers(0, len(TEXT)))
    end = data.draw(st.integers(start, min(len(TEXT), start + 12)))
    piece = data.draw(TOKENS | st.text(max_size=3))
    compiles_or_says_why(TEXT[:start] + piece + TEXT[end:])
