"""What of the gateway the base install has, and what the rest says there."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("faust", "mode", "aiokafka", "aiohttp", "joserfc", "cryptography", "uvicorn"):
            raise ModuleNotFoundError(f"{name} is not part of the base install", name=name)
sys.meta_path.insert(0, Absent())
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


BASE = (
    "", ".identity", ".claims", ".refusals", ".access", ".discovery", ".dialects", ".metrics", ".routes", ".question", ".sidecar",
    ".activity", ".dispatch", ".inflight", ".receipts", ".embedding", ".asgi", ".wsgi",
)  # fmt: skip


@pytest.mark.parametrize("module", BASE)
def test_it_can_be_imported_on_the_base_install(module):
    done = python(f"{ABSENT}\nimport monitor.gateway{module}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", [".tokens", ".issuer", ".jwks"])
def test_what_verifies_tokens_names_the_extra(module):
    done = python(f"{ABSENT}\nimport monitor.gateway{module}")
    assert (
        "MissingExtraError: verifying tokens needs the extra 'gateway': pip install 'session-monitor[gateway]'"
        in done.stderr
    )


def test_the_server_names_the_extra():
    done = python(f"{ABSENT}\nimport monitor.gateway.server")
    assert "MissingExtraError: the sidecar needs the extra 'gateway'" in done.stderr


def test_it_imports_neither_the_engine_nor_the_cryptography():
    done = python("""
import sys, monitor.gateway, monitor.gateway.identity, monitor.gateway.access
sys.exit(", ".join({name.partition(".")[0] for name in sys.modules} & {"faust", "mode", "aiokafka", "joserfc", "cryptography"}) or 0)
""")
    assert done.returncode == 0, done.stderr
