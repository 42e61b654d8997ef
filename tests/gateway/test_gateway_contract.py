"""The vectors of docs/gateway-contract.md: our own view and decision pass them, and so does a gateway in JavaScript."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from monitor.core.commands import Reauth
from monitor.core.events import Principal
from monitor.gateway import Facts, Now, Posture, Settings, Verdict, View, WithoutSession, check
from monitor.gateway.fetches import Stored
from monitor.wire.times import format_time, parse_time

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "schemas" / "gateway"
FILES = sorted(path for path in FOLDER.glob("*.json") if path.name != "vectors.schema.json")
VECTORS = {path.stem: orjson.loads(path.read_bytes()) for path in FILES}
CASES = [pytest.param(case, id=f"{stem}: {case['name']}") for stem, vectors in VECTORS.items() for case in vectors["cases"]]
RUNNER = Path(__file__).parent / "contract" / "run.mjs"


def stored(said: dict[str, Any]) -> Stored:
    value = said.get("value")
    bytes_ = None if value is None else value.encode() if isinstance(value, str) else orjson.dumps(value)
    return Stored(said["offset"], parse_time(said.get("timestamp", "1970-01-01T00:00:00Z")), said["key"].encode(), bytes_)


def facts(said: dict[str, Any]) -> Facts:
    known = dict(said)
    if isinstance(at := known.get("auth_time"), int):
        known |= {"auth_time": at * 1000, "whole_second": True}
    elif at is not None:
        known["auth_time"] = parse_time(at)
    makers = {"roles": tuple, "principal": Principal, "posture": Posture}
    return Facts(**{name: makers[name](value) if name in makers else value for name, value in known.items()})


def settings(said: dict[str, Any]) -> Settings:
    return Settings(**said | {"without_session": WithoutSession(said.get("without_session", "challenge"))})


def told(verdict: Verdict) -> dict[str, Any]:
    said = msgspec.to_builtins(verdict) | {"status": verdict.status, "reauth": verdict.reauth}
    return said | {"effective_at": verdict.effective_at and format_time(verdict.effective_at)}


def wanted(expect: dict[str, Any]) -> dict[str, Any]:
    said = dict(expect)
    if "reauth" in said:
        said["reauth"] = msgspec.convert(said["reauth"], Reauth)
    if "effective_at" in said:
        said["effective_at"] = format_time(parse_time(said["effective_at"]))
    return said


@pytest.mark.parametrize("case", CASES)
def test_our_gateway_passes(case) -> None:
    view = View(case.get("partitions", 1))
    if "policy" in case:
        policy = {"type": "control.policy", "id": "policy", "reason": "r", "by": "b", "policy_version": "v"}
        view.take_controls([stored({"offset": 0, "key": "policy", "value": policy | {"policy_text": orjson.dumps(case["policy"]).decode()}})])
        assert view.policy is not None, view.last_refused
    for step in case["steps"]:
        monotonic = step.get("monotonic", 0)
        if "commands" in step:
            view.take_commands(step.get("partition", 0), map(stored, step["commands"]), Now(0, monotonic))
        elif "controls" in step:
            view.take_controls(map(stored, step["controls"]))
        else:
            now = Now(parse_time(step["now"]), monotonic)
            found = told(check(view, facts(step["check"]), now, settings(step.get("settings", {}))))
            expect = wanted(step["expect"])
            assert {name: found[name] for name in expect} == expect, step["check"]


@pytest.mark.parametrize("stem", VECTORS)
def test_the_vectors_are_what_their_schema_says(stem) -> None:
    schema = orjson.loads((FOLDER / "vectors.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    errors = Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(VECTORS[stem])
    assert [f"{list(error.path)}: {error.message}" for error in errors] == []


def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed: the gateway in JavaScript can't be run")
    return found


def run(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([node(), RUNNER, *files], capture_output=True, text=True, timeout=60, check=False)


def test_a_gateway_in_javascript_written_from_the_contract_passes() -> None:
    done = run(*FILES)
    checks = sum("check" in step for vectors in VECTORS.values() for case in vectors["cases"] for step in case["steps"])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{checks} checks, 0 differences\n", "")


def test_a_difference_is_told(tmp_path) -> None:
    bent = tmp_path / "bent.json"
    bent.write_bytes((FOLDER / "merge.json").read_bytes().replace(b'"status": 401', b'"status": 418', 1))
    done = run(bent)
    assert done.returncode == 1
    assert "status is 401, not 418" in done.stdout
