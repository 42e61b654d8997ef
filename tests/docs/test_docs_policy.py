"""docs/policy.md says what `detect:` may hold, and what holds where it says nothing."""

import re
from pathlib import Path
from typing import Any

import pytest

from monitor.detect.settings import DEFAULTS, Act, Common, Detector, Settings, Severity
from monitor.policy import PolicyError, compile_policy
from monitor.policy.detection import MOST_EXEMPT
from monitor.policy.durations import format_duration

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy.md").read_text()
COMMON, OWN = PAGE.partition("## Each detector")[::2]
ROWS = re.findall(r"^\| (?:`(\w+)`)? ?\| (?:`(\w+)`)? ?\| (?:`([^`]+)`)? ?\| (.*?) ?\| ", OWN, re.MULTILINE)


def own_rows() -> list[tuple[str, str, str, str]]:
    """(section, key, default, what it may be)."""
    found, section = [], ""
    for name, key, default, may in ROWS:
        section = name or section
        if key:
            found.append((section, key, default, may))
    return found


def spelled(value: Any) -> set[str]:
    """How a default may be written."""
    if isinstance(value, bool):
        return {str(value).lower()}
    return {format_duration(value), str(value)} if isinstance(value, int) else {"[]" if value == () else str(value)}


def test_every_key_of_every_section_has_a_row_with_its_default() -> None:
    wanted = {
        (section, key) for section in Settings.__struct_fields__ for key in getattr(DEFAULTS, section).__struct_fields__
        if section == "storm" or key not in Common.__struct_fields__
    }  # fmt: skip
    rows = own_rows()
    assert {(section, key) for section, key, _, _ in rows} == wanted
    assert {name for name, *_ in ROWS if name} == set(Settings.__struct_fields__)
    for section, key, default, _ in rows:
        assert default in spelled(getattr(getattr(DEFAULTS, section), key)), (section, key)


def test_the_common_keys_have_their_defaults_and_their_words() -> None:
    rows = {key: (default, may) for key, default, may in re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (.*?) \| ", COMMON, re.MULTILINE)}
    assert rows.keys() == set(Common.__struct_fields__)
    for key, (default, _) in rows.items():
        assert default in spelled(getattr(Common(), key)), key
    assert re.findall(r"`(\w+)`", rows["severity"][1]) == list(Severity)
    assert re.findall(r"`(\w+)`", rows["act"][1]) == list(Act)
    assert f"at most {MOST_EXEMPT} entries" in rows["exempt"][1]


def test_the_defaults_that_differ_are_named() -> None:
    told = {detector.value: DEFAULTS.of(detector) for detector in Detector}
    assert {name: one.severity for name, one in told.items() if one.severity != Common().severity} == {
        "keepalive_only": "info", "subject_mismatch": "critical", "unenforced": "critical", "unacknowledged": "critical",
    }  # fmt: skip
    assert {name: format_duration(one.resolve_after) for name, one in told.items() if one.resolve_after != Common().resolve_after} == {
        "subject_mismatch": "1h", "unacknowledged": "0s",
    }  # fmt: skip
    for said in ("`keepalive_only` is `info`", "`subject_mismatch`, `unenforced` and `unacknowledged` are `critical`"):
        assert said in COMMON
    assert "`subject_mismatch` has `1h`, `unacknowledged` `0s`" in COMMON


def accepted(section: str, key: str, value: str) -> bool:
    try:
        compile_policy(f"version: 1\ndetect: {{{section}: {{{key}: {value}}}}}")
    except PolicyError:
        return False
    return True


@pytest.mark.parametrize(("section", "key", "default", "may"), own_rows())
def test_the_ranges_are_those_of_the_code(section, key, default, may) -> None:
    if (numbers := re.fullmatch(r"(\d+) to (\d+)", may)) is not None:
        least, most = map(int, numbers.groups())
        cases = {least - 1: False, least: True, most: True, most + 1: False}
    elif may == "above 0, below 1":
        cases = {"0": False, "0.000001": True, "0.999999": True, "1": False}
    else:
        (least,) = re.findall(r"^from `(\w+)`$", may)
        cases = {least: True, "999ms": least == "0s", "0s": least == "0s"}
    assert {value: accepted(section, key, str(value)) for value in cases} == cases
    assert accepted(section, key, default)


def test_the_example_is_one_and_says_what_it_says() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    found = compile_policy(text).detection
    assert (found.timeout_churn.count, found.timeout_churn.severity, found.session_moved.act) == (6, Severity.CRITICAL, Act.RISK)
    assert len(found.long_session.exempt) == 2
    assert found.keepalive_only.enabled is False
    assert found.unenforced == DEFAULTS.unenforced


def test_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = link.partition("#")
        assert f"# {anchor.replace('-', ' ')}".lower() in (ROOT / "docs" / path).resolve().read_text().lower()
