"""docs/identity.md says what the code does."""

import re
from pathlib import Path

from monitor.core.instants import HOUR, MINUTE, SECOND
from monitor.gateway.claims import LEEWAY
from monitor.gateway.identity import parse_sources
from monitor.gateway.issuer import LIFETIME, OLDEST, PAUSE
from monitor.gateway.jwks import ALGORITHMS
from monitor.gateway.refusals import FAULTS
from monitor.gateway.tokens import LARGEST
from monitor.wire.events import MAX_ROLES, MAX_SESSION_ID

PAGE = (Path(__file__).parents[2] / "docs" / "identity.md").read_text()


def test_the_faults_are_those_of_the_code():
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \| (?:`(\w+)`)? ?\| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [
        (fault.value, str(answer.status), answer.error or "", answer.description)
        for fault, answer in FAULTS.items()
    ]


def test_the_example_is_one():
    (example,) = re.findall(r"```\n(.+)\n```", PAGE)
    assert ",".join(source.text for source in parse_sources(example).sources) == example


def test_the_numbers_are_those_of_the_code():
    assert {"5 min": LIFETIME, "5 s": PAUSE, "24 h": OLDEST} == {
        "5 min": 5 * MINUTE,
        "5 s": 5 * SECOND,
        "24 h": 24 * HOUR,
    }
    for name, text in (("lifetime", "5 min"), ("pause", "5 s"), ("oldest", "24 h")):
        assert f"| {name} | {text} |" in PAGE
    assert f"Clocks may lie {LEEWAY // SECOND} s apart" in PAGE
    assert f"At most {LARGEST:,} characters" in PAGE
    assert f"at most {MAX_ROLES}" in PAGE
    assert f"1 to {MAX_SESSION_ID} characters" in PAGE


def test_the_algorithms_are_those_of_the_code():
    said = {f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)} | {
        "EdDSA",
        "Ed25519",
        "Ed448",
    }
    assert said == set(ALGORITHMS)
    assert "(`RS`, `PS`, `ES` with 256, 384 or 512; `EdDSA`, `Ed25519`, `Ed448`;" in PAGE
