"""Each mistake has one message, at its place; all mistakes are told at once."""

import pytest

from monitor.core.errors import InputError
from monitor.policy import PolicyError, compile_policy

RULE = "version: 1\nrules:\n  - name: r\n    idle: 5m\n"

MISTAKES = {
    "empty": ("", (1, 1), "there is nothing in it"),
    "not YAML": ("version: 1\nrules: [\n", (3, 1), "this is not YAML"),
    "two documents": ("version: 1\n---\nversion: 1\n", (2, 1), "expected a single document"),
    "control character": ("version: 1\nrules: \x07\n", (2, 8), "not allowed in YAML"),
    "lone surrogate": ("version: 1\ntiming: \udc80", (2, 9), "not a Unicode character"),
    "too deep": ("[" * 5000, (1, 1), "nested too deeply"),
    "too long": ("#" * 60_001, (1, 1), "the limit is 60000"),
    "a list": ("- 1", (1, 1), "the policy must be a mapping, not a list"),
    "no version": ("rules: []", (1, 1), "the policy needs 'version'"),
    "another version": ("version: 2", (1, 10), "version must be from 1 to 1"),
    "version as text": ('version: "1"', (1, 10), "must be a whole number, not a text"),
    "unknown section": ("version: 1\nrulez: []", (2, 1), "did you mean 'rules'?"),
    "section twice": ("version: 1\nrules: []\nrules: []", (3, 1), "twice (first in line 2)"),
    "unknown timing": ("version: 1\ntiming: {latenes: 2s}", (2, 10), "did you mean 'lateness'?"),
    "tick of zero": ("version: 1\ntiming: {tick: 0s}", (2, 16), "timing.tick can't be 0s"),
    "timing of none": ("version: 1\ntiming: {lateness: none}", (2, 20), "'none' is not a duration"),
    "grace by unknown word": (
        "version: 1\ntiming: {source_grace: {secret: 1s}}",
        (2, 25),
        "unknown key 'secret' in timing.source_grace",
    ),
    "number without unit": ("version: 1\ndefaults: {idle: 900}", (2, 18), "'900' has no unit"),
    "wrong spelling": ("version: 1\ndefaults: {idle: 15 minutes}", (2, 18), "'15 minutes' is not a duration"),
    "empty limit": (
        "version: 1\ndefaults:\n  idle:\n",
        (3, 3),
        "idle must be a duration or none, not nothing",
    ),
    "null limit": ("version: 1\ndefaults: {absolute: ~}", (2, 22), "must be a duration or none, not nothing"),
    "limit of zero": ("version: 1\ndefaults: {idle: 0s}", (2, 18), "idle can't be 0s"),
    "limit of ages": ("version: 1\ndefaults: {idle: 9999d}", (2, 18), "written none"),
    "classification twice": ("version: 1\nclassifications: [a, a]", (2, 18), "a word twice"),
    "no classifications": ("version: 1\nclassifications: []", (2, 18), "an empty list"),
    "unknown preset": ("version: 1\nextends: [pcii]", (2, 11), "did you mean 'pci'?"),
    "preset twice": ("version: 1\nextends: [pci, pci]", (2, 16), "names 'pci' twice"),
    "preset that does not fit": (
        "version: 1\nclassifications: [low, high]\nextends: [seed]",
        (3, 11),
        "the preset 'seed' does not fit this policy: at_least can't be 'confidential'",
    ),
    "rule without a name": ("version: 1\nrules:\n  - idle: 5m", (3, 5), "a rule needs 'name'"),
    "name twice": (
        RULE + "  - name: r\n    idle: 6m",
        (5, 5),
        "the name 'r' is used twice (first in line 3)",
    ),
    "name of a preset's rule": (
        "version: 1\nextends: pci\nrules:\n  - {name: pci/8.2.8, idle: 5m}",
        (4, 5),
        "used twice (first in a preset)",
    ),
    "reserved name": ("version: 1\nrules: [{name: defaults, idle: 5m}]", (2, 16), "choose another name"),
    "rule that asks for nothing": ("version: 1\nrules: [{name: r}]", (2, 9), "asks for nothing"),
    "unknown member": (RULE + "    idel: 3m", (5, 5), "did you mean 'idle'?"),
    "number as text": ("version: 1\nrules: [{name: 7, idle: 5m}]", (2, 16), "not a number: put it in quotes"),
    "unknown condition": (RULE + "    when: {role: [a]}", (5, 12), "did you mean 'roles'?"),
    "empty when": (RULE + "    when: {}", (5, 11), "an empty 'when'"),
    "empty list": (RULE + "    when: {roles: []}", (5, 19), "nothing could ever match it"),
    "unknown classification": (RULE + "    when: {classification: secret}", (5, 28), "can't be 'secret'"),
    "unknown at_least": (
        RULE + "    when: {classification: {at_least: restrictd}}",
        (5, 39),
        "did you mean 'restricted'?",
    ),
    "unknown among classifications": (
        RULE + "    when: {classification: [public, secret]}",
        (5, 37),
        "can't be 'secret'",
    ),
    "unknown principal": (RULE + "    when: {principal: human}", (5, 23), "known: service, user"),
    "keep-alives count": (RULE + "    idle_counts: [keepalive]", (5, 19), "known: agent, human, inflight"),
    "acr with a quote": (RULE + "    reauth: {acr_values: ['a\"b']}", (5, 26), "blanks, quotes"),
    "unknown enforce": (RULE + "    enforce: maybe", (5, 14), "known: enforce, observe"),
    "no sessions at all": (RULE + "    concurrent: 0", (5, 17), "concurrent must be from 1"),
    "unknown on_exceed": (RULE + "    on_exceed: kill", (5, 16), "known: alert, end_newest, end_oldest"),
    "exception without reason": (
        "version: 1\nexceptions: [{name: x, when: {subject: a}, idle: 4h, until: 2026-12-31, approved_by: c}]",
        (2, 14),
        "an exception needs 'reason'",
    ),
    "exception without condition": (
        "version: 1\nexceptions: [{name: x, idle: 4h, until: 2026-12-31, reason: r, approved_by: c}]",
        (2, 14),
        "an exception needs 'when'",
    ),
    "exception that lengthens nothing": (
        "version: 1\nexceptions: [{name: x, when: {subject: a}, until: 2026-12-31, reason: r, approved_by: c}]",
        (2, 14),
        "lengthens nothing",
    ),
    "no such day": (
        "version: 1\nexceptions: [{name: x, when: {subject: a}, idle: 4h, until: 2026-02-30, reason: r, approved_by: c}]",
        (2, 61),
        "there is no day 2026-02-30",
    ),
    "no day": (
        "version: 1\nexceptions: [{name: x, when: {subject: a}, idle: 4h, until: soon, reason: r, approved_by: c}]",
        (2, 61),
        "until must be a day",
    ),
    "detect as a list": ("version: 1\ndetect: [1]", (2, 9), "detect must be a mapping, not a list"),
    "detect without end": ("version: 1\ndetect: &a {storm: *a}", (2, 13), "unknown key 'storm' in detect.storm"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_at_its_place(mistake):
    text, place, message = MISTAKES[mistake]
    with pytest.raises(PolicyError) as caught:
        compile_policy(text, name="p.yaml")
    (finding,) = caught.value.findings
    assert (finding.line, finding.column) == place
    assert message in finding.message
    assert str(caught.value) == f"p.yaml:{place[0]}:{place[1]}: {finding.message}"
    assert isinstance(caught.value, InputError)


def test_all_mistakes_are_told_at_once_in_order_of_place():
    with pytest.raises(PolicyError) as caught:
        compile_policy(
            "version: 1\nrules: [{name: r, idle: 5}]\ndefaults: {idle: x, idel: 3m}\nnonsense: 1\n"
        )
    assert [(finding.line, finding.column) for finding in caught.value.findings] == [
        (2, 25),
        (3, 18),
        (3, 21),
        (4, 1),
    ]
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    "text", ["version: 1", "version: 1\nrules:\nexceptions:\ndetect:\ntiming:\ndefaults:\nextends:\n"]
)
def test_sections_may_be_left_out_or_left_empty(text):
    policy = compile_policy(text)
    assert policy.defaults.idle == 1_800_000
    assert policy.defaults.absolute == 43_200_000
    assert policy.rules == policy.exceptions == ()
