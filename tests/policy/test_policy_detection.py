"""The section `detect:`: what may be said of the nine detectors, and what is refused, at its place."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.instants import DAY, HOUR, MINUTE, SECOND
from monitor.core.when import When
from monitor.detect.settings import DEFAULTS, Act, Detector, Settings, Severity
from monitor.policy import PolicyError, compile_policy
from monitor.policy.durations import format_duration

FIELDS = sorted((section, field) for section in Settings.__struct_fields__ for field in getattr(DEFAULTS, section).__struct_fields__)
SAID: dict[str, tuple[str, Any]] = {
    "enabled": ("false", False), "severity": ("critical", Severity.CRITICAL), "hold": ("0s", 0), "resolve_after": ("90s", 90 * SECOND),
    "exempt": ("[{workload: batch}]", (When(workload=("batch",)),)), "act": ("lock", Act.LOCK), "act_for": ("2h30m", 150 * MINUTE),
    "quantile": ("0.995", 0.995), "factor": ("2", 2.0), "minimum": ("33", 33), "at_least": ("36h", 36 * HOUR), "known_for": ("2d", 2 * DAY), "fades": ("14d", 14 * DAY),
    "window": ("7m", 7 * MINUTE), "count": ("17", 17), "gap": ("0s", 0), "parts": ("4", 4), "networks": ("5", 5), "user_agents": ("6", 6),
    "prefix_v4": ("24", 24), "prefix_v6": ("64", 64), "after": ("45m", 45 * MINUTE), "past": ("0s", 0), "within": ("1500ms", 1500),
    "silent": ("1m", MINUTE), "per_subject": ("7", 7), "per_alert": ("70", 70),
}  # fmt: skip


def detection(section: str) -> Settings:
    return compile_policy(f"version: 1\ndetect:\n  {section}\n").detection


@pytest.mark.parametrize("text", ["version: 1", "version: 1\ndetect:", "version: 1\ndetect: {}", "version: 1\ndetect:\n  storm:\n  unenforced:\n"])
def test_what_is_left_out_is_as_the_defaults_say(text) -> None:
    assert compile_policy(text).detection == DEFAULTS


@pytest.mark.parametrize(("section", "field"), FIELDS)
def test_every_field_of_every_detector_can_be_said_and_changes_nothing_else(section, field) -> None:
    word, value = SAID[field]
    usual = getattr(DEFAULTS, section)
    wanted = msgspec.structs.replace(DEFAULTS, **{section: msgspec.structs.replace(usual, **{field: value})})
    found = detection(f"{section}: {{{field}: {word}}}")
    assert found == wanted
    assert type(getattr(getattr(found, section), field)) is type(value)


def spelled(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.value if isinstance(value, Severity | Act) else "[]" if value == () else str(value)


def test_the_defaults_themselves_may_be_written_down() -> None:
    durations = {name for name, (_, value) in SAID.items() if isinstance(value, int) and not isinstance(value, bool)} - {
        "minimum", "count", "parts", "networks", "user_agents", "prefix_v4", "prefix_v6", "per_subject", "per_alert",
    }  # fmt: skip
    lines = ["version: 1", "detect:"]
    for section in Settings.__struct_fields__:
        lines.append(f"  {section}:")
        told = getattr(DEFAULTS, section)
        for field in told.__struct_fields__:
            value = getattr(told, field)
            lines.append(f"    {field}: {format_duration(value) if field in durations else spelled(value)}")
    assert compile_policy("\n".join(lines)).detection == DEFAULTS


@pytest.mark.parametrize("detector", Detector)
def test_each_detector_has_its_section(detector) -> None:
    assert detection(f"{detector.value}: {{enabled: false}}").of(detector).enabled is False


def test_exemptions_are_conditions_as_rules_have_them() -> None:
    found = detection(
        "long_session: {exempt: [{principal: service, workload: [batch, training]}, {classification: {at_least: restricted}}, "
        "{subject: 'svc-*', route: /v1/a, roles: ops, tenant: acme}, {classification: public}]}"
    )
    assert found.long_session.exempt == (
        When(principal="service", workload=("batch", "training")), When(at_least="restricted"),
        When(subject=("svc-*",), route=("/v1/a",), roles=("ops",), tenant=("acme",)), When(classification=("public",)),
    )  # fmt: skip


def test_exemptions_know_the_classifications_of_this_policy() -> None:
    text = "version: 1\nclassifications: [low, high]\ndetect: {storm: {}, long_session: {exempt: [{classification: {at_least: high}}]}}"
    assert compile_policy(text).detection.long_session.exempt == (When(at_least="high"),)
    with pytest.raises(PolicyError, match="at_least can't be 'restricted'; known: high, low"):
        compile_policy(text.replace("at_least: high", "at_least: restricted"))


@dataclass
class Mistake:
    said: str
    column: int
    message: str


MISTAKES = {
    "unknown detector": Mistake("timeout_chrun: {}", 3, "unknown key 'timeout_chrun' in detect; did you mean 'timeout_churn'?"),
    "unknown field": Mistake("timeout_churn: {cuont: 1}", 19, "unknown key 'cuont' in detect.timeout_churn; did you mean 'count'?"),
    "another detector's field": Mistake("keepalive_only: {networks: 3}", 20, "unknown key 'networks' in detect.keepalive_only; known: act, act_for"),
    "unknown field of the storm": Mistake("storm: {severity: info}", 11, "known: per_alert, per_subject, window"),
    "no mapping": Mistake("storm: [1]", 10, "detect.storm must be a mapping, not a list"),
    "unknown severity": Mistake("unenforced: {severity: fatal}", 26, "detect.unenforced.severity can't be 'fatal'; known: critical, info, warning"),
    "unknown act": Mistake("unenforced: {act: kill}", 21, "detect.unenforced.act can't be 'kill'; known: lock, nothing, risk"),
    "severity as a number": Mistake("unenforced: {severity: 1}", 26, "detect.unenforced.severity must be a text, not a number"),
    "no duration": Mistake("unenforced: {window: 10}", 24, "detect.unenforced.window: '10' has no unit: write it like 15m"),
    "a window of nothing": Mistake("unenforced: {window: 0s}", 24, "detect.unenforced.window can't be 0s"),
    "a duration of none": Mistake("unenforced: {past: none}", 22, "'none' is not a duration"),
    "nothing at all": Mistake("unenforced: {count: ~}", 23, "detect.unenforced.count must be a whole number, not nothing"),
    "a count of nothing": Mistake("timeout_churn: {count: 0}", 26, "detect.timeout_churn.count must be from 1 to 1000"),
    "a count beyond what is held": Mistake("timeout_churn: {count: 1001}", 26, "detect.timeout_churn.count must be from 1 to 1000"),
    "half a count": Mistake("timeout_churn: {count: 1.5}", 26, "must be a whole number"),
    "one part": Mistake("cap_evasion: {parts: 1}", 24, "detect.cap_evasion.parts must be from 2"),
    "one network": Mistake("session_moved: {networks: 1}", 29, "detect.session_moved.networks must be from 2"),
    "a prefix beyond IPv4": Mistake("session_moved: {prefix_v4: 33}", 30, "detect.session_moved.prefix_v4 must be from 1 to 32"),
    "a prefix beyond IPv6": Mistake("session_moved: {prefix_v6: 129}", 30, "detect.session_moved.prefix_v6 must be from 1 to 128"),
    "quantile of nothing": Mistake("long_session: {quantile: 0}", 28, "detect.long_session.quantile must be a number above 0 and below 1"),
    "quantile of all": Mistake("long_session: {quantile: 1.0}", 28, "detect.long_session.quantile must be a number above 0 and below 1"),
    "quantile in percent": Mistake("long_session: {quantile: 99}", 28, "above 0 and below 1, like 0.99"),
    "quantile as a text": Mistake("long_session: {quantile: '0.9'}", 28, "detect.long_session.quantile must be a number, not a text"),
    "factor that lessens": Mistake("long_session: {factor: 0.5}", 26, "detect.long_session.factor must be a number from 1 to 1000"),
    "factor without end": Mistake("long_session: {factor: .inf}", 26, "detect.long_session.factor must be a number from 1 to 1000"),
    "neither true nor false": Mistake("long_session: {enabled: 1}", 27, "detect.long_session.enabled must be true or false, not a number"),
    "one exemption without a list": Mistake("long_session: {exempt: {workload: a}}", 26, "detect.long_session.exempt must be a list, not a mapping"),
    "exempt from everything": Mistake("long_session: {exempt: [{}]}", 27, "would exempt every session: say 'enabled: false'"),
    "unknown condition": Mistake("long_session: {exempt: [{role: a}]}", 28, "unknown key 'role' in detect.long_session.exempt; did you mean 'roles'?"),
    "a condition that is empty": Mistake("long_session: {exempt: [{roles: []}]}", 35, "detect.long_session.exempt.roles is an empty list"),
    "unknown classification": Mistake("long_session: {exempt: [{classification: secret}]}", 44, "can't be 'secret'; known: confidential"),
    "too many exemptions": Mistake(f"long_session: {{exempt: [{', '.join(['{tenant: a}'] * 101)}]}}", 26, "has more than 100 entries"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_at_its_place(mistake) -> None:
    told = MISTAKES[mistake]
    with pytest.raises(PolicyError) as caught:
        detection(told.said)
    (finding,) = caught.value.findings
    assert (finding.line, finding.column) == (3, told.column)
    assert told.message in finding.message


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        compile_policy("version: 1\ndetect:\n  storm: {window: x}\n  unenforced: {count: 0, past: 5}\n  nothing: 1\n")
    assert [(finding.line, finding.column) for finding in caught.value.findings] == [(3, 19), (4, 23), (4, 32), (5, 3)]


@given(st.floats(0.001, 0.999), st.floats(1, 1000))
def test_numbers_are_read_as_they_are_written(quantile, factor) -> None:
    quantile, factor = round(quantile, 6), round(factor, 6)
    found = detection(f"long_session: {{quantile: {quantile:.6f}, factor: {factor:.6f}}}").long_session
    assert (found.quantile, found.factor) == (quantile, factor)


GOOD = """version: 1
detect:
  timeout_churn: {window: 30m, count: 6, severity: critical, act: lock, act_for: 2h}
  long_session: {quantile: 0.95, exempt: [{principal: service, workload: [batch]}, {classification: {at_least: restricted}}]}
  storm: {per_alert: 20}
"""
PIECES = st.sampled_from(
    ["{", "}", "[", "]", ": ", ", ", "- ", "~", "none", "0", "-1", "1e9", ".nan", ".inf", "0.5", "1_0", "true", "&a ", "*a", "exempt: ", "act: ", "1h", "'x'", "!x ", "\n  "]
)  # fmt: skip


@settings(max_examples=300)
@given(st.integers(0, len(GOOD)), st.integers(0, 12), PIECES | st.text(max_size=3))
def test_with_something_in_it_replaced_it_is_settings_or_says_why(start, length, piece) -> None:
    text = GOOD[:start] + piece + GOOD[start + length :]
    try:
        found, wrong = compile_policy(text).detection, ()
    except PolicyError as error:
        found, wrong = DEFAULTS, error.findings
    assert all(one.line >= 1 and one.column >= 1 and one.message for one in wrong)
    assert msgspec.convert(msgspec.to_builtins(found), Settings) == found
