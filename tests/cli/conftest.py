"""What the tests of the command line share."""

import pytest
import typer
from typer.testing import CliRunner

from tests.cli.embedded_topics import World


@pytest.fixture
def world(embedded):
    return World(embedded.bootstrap_servers)


@pytest.fixture
def run_verb(monkeypatch):
    """Runs one noun's or verb's module as a program: `run_verb(module, "list", ...)`."""
    for name in (
        "SESSION_MONITOR_TOKEN",
        "SESSION_MONITOR_BOOTSTRAP_SERVERS",
        "SESSION_MONITOR_TOPIC_PREFIX",
    ):
        monkeypatch.delenv(name, raising=False)

    def run(module, *arguments, **options):
        program = typer.Typer()
        program.callback()(lambda: None)
        module.register(program)
        return CliRunner().invoke(program, list(arguments), **options)

    return run
