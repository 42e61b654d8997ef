"""docs/ci.md is true: its files are good, its commands run, and its hook finds and refuses what it should."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "ci.md").read_text()


def block(name):
    """The first YAML block after the first mention of a file's name at the beginning of a line."""
    return re.search(rf"^`{re.escape(name)}`.*?```yaml\n(.*?)```", DOC, re.DOTALL | re.MULTILINE)[1]


def steps():
    job = YAML(typ="safe", pure=True).load(block(".github/workflows/policy.yaml"))["jobs"]["policy"]
    return [step["run"] for step in job["steps"] if "run" in step]


def hook():
    (found,) = YAML(typ="safe", pure=True).load((ROOT / ".pre-commit-hooks.yaml").read_text())
    return found


@pytest.fixture
def shell(tmp_path):
    """Run a command as the job does, with `session-monitor` on the path, among the files of the document."""
    for name in ("policy.yaml", "policy-cases.yaml"):
        (tmp_path / name).write_text(block(name))
    program = tmp_path / "bin" / "session-monitor"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m monitor "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join((str(program.parent), os.environ["PATH"]))

    def run(command):
        return subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_the_job_passes_on_the_files_of_the_document(shell, tmp_path):
    install, *commands = steps()
    assert install == "pip install session-monitor"
    assert len(commands) == 3
    for command in commands:
        done = shell(command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert (tmp_path / "policy-pci.json").stat().st_size > 100
    assert "<testcase" in (tmp_path / "policy-results.xml").read_text()


def test_the_job_fails_where_the_policy_is_wrong_loose_or_not_as_expected(shell, tmp_path):
    _, check, against, test = steps()
    policy = tmp_path / "policy.yaml"
    good = policy.read_text()
    policy.write_text(good.replace("extends: [pci]", "").replace("idle: 15m", "idle: 1h"))
    assert shell(against).returncode == 4
    assert shell(test).returncode == 1
    policy.write_text(good.replace("absolute: 4h", "absolute: 40h"))
    assert shell(check).returncode == 4
    policy.write_text(good.replace("idle: 15m", "idle: 15"))
    done = shell(check)
    assert done.returncode == 2
    assert "policy.yaml:3:18: idle: '15' has no unit" in done.stderr


def test_the_hook(shell, tmp_path):
    found = hook()
    config = YAML(typ="safe", pure=True).load(block(".pre-commit-config.yaml"))
    (used,) = config["repos"][0]["hooks"]
    assert used["id"] == found["id"]
    command = " ".join((found["entry"], *used["args"], "policy.yaml"))
    assert shell(command).returncode == 0
    (tmp_path / "policy.yaml").write_text("version: 1\nrules: [{}]\n")
    assert shell(command).returncode == 2
    matched = [
        name
        for name in (
            "policy.yaml",
            "deploy/eu/policy.yml",
            "policy-cases.yaml",
            "my-policy.yaml",
            "policy.yaml.bak",
        )
        if re.search(found["files"], name)
    ]
    assert matched == ["policy.yaml", "deploy/eu/policy.yml"]
