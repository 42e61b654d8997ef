"""The rooms: imports go one way, and the base install is enough where it has to be."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = {one["name"]: one for one in SETTINGS["tool"]["importlinter"]["contracts"]}
ROOMS = {path.parent.name for path in (ROOT / "monitor").glob("*/__init__.py")}
OPTIONAL = ("faust", "mode", "aiokafka", "aiohttp", "uvloop", "noida_db", "jinja2", "joserfc", "cryptography", "uvicorn")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_contracts_hold():
    found = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 broken" in found.stdout


def test_every_room_has_its_place_in_the_layers():
    layers = " ".join(CONTRACTS["rooms import one way"]["layers"]).replace("(", " ").replace(")", " ").split()
    assert {f"monitor.{room}" for room in ROOMS} <= set(layers)


def test_every_room_but_the_worker_is_forbidden_the_stream_engine():
    named = set(CONTRACTS["only the worker imports the stream engine"]["source_modules"])
    assert {f"monitor.{room}" for room in ROOMS} - named == {"monitor.worker"}


def test_every_room_says_what_it_is_for():
    assert [room for room in sorted(ROOMS) if not (ROOT / "monitor" / room / "README.md").is_file()] == []


@pytest.mark.parametrize(
    "module", [f"monitor.{room}" for room in sorted(ROOMS)] + ["monitor.cli.program", "monitor.worker.main", "monitor.gateway.follower"]
)
def test_a_room_can_be_imported_on_the_base_install(module):
    done = python(f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError(f"{{name}} is not part of the base install", name=name)
sys.meta_path.insert(0, Absent())
import {module}
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", ["publish", "policy", "sessions", "topics", "gateway"])
def test_a_light_verb_imports_nothing_of_the_worker(verb):
    done = python(f"""
import sys
from typer.main import get_command
from monitor.cli.program import program
get_command(program).get_command(None, {verb!r})
heavy = {{name.partition(".")[0] for name in sys.modules}} & {{*{OPTIONAL!r}}}
sys.exit(", ".join(sorted(heavy)) or 0)
""")
    assert done.returncode == 0, done.stderr
