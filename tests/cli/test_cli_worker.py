"""The `worker` verb: what it says when it can't work, before it begins."""

import importlib.util
import sys

import pytest
import typer

from monitor.cli import worker as verb
from monitor.core.errors import InputError, MissingExtraError
from monitor.demo import POLICY

NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """No token of this test's own is left where people have theirs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)


def test_no_broker_there(cli):
    ended = cli("worker", "--bootstrap-servers", NOWHERE, "--policy", str(POLICY))
    assert ended.code == 1
    assert f"{NOWHERE} refuses connections" in ended.err
    assert "Traceback" not in ended.err


def test_a_bad_policy_is_named_with_its_place_before_any_broker_is_asked(cli, tmp_path):
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\ndefaults: {idle: 15}\n")
    ended = cli("worker", "--bootstrap-servers", NOWHERE, "--policy", str(policy))
    assert ended.code == 2
    assert f"{policy}:2:18" in ended.err


def test_a_policy_file_that_is_not_there(cli, tmp_path):
    ended = cli("worker", "--bootstrap-servers", NOWHERE, "--policy", str(tmp_path / "absent.yaml"))
    assert ended.code in {1, 2}
    assert "absent.yaml can't be read" in ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--session-timeout", "1s"), "--session-timeout is 1s; allowed are 6s to 5m"),
        (("--session-timeout", "soon"), "--session-timeout: 'soon' is not a duration"),
        (("--checkpoint", "1ms"), "--checkpoint is 1ms; allowed are 50ms to 10s"),
        (("--processes", "2", "--api-port", "8080"), "--api-port 8080 can't serve 2 processes"),
        (("--token", "short"), "--token must be 16 to 1024"),
        (("--from", "yesterday"), "yesterday"),
    ],
)
def test_options_that_can_not_be(cli, options, said):
    ended = cli("worker", "--bootstrap-servers", NOWHERE, *options)
    assert ended.code == 2
    assert said in ended.err


def test_a_part_that_is_not_installed_names_the_extra(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, "faust", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "faust" else real(name))
    with pytest.raises(MissingExtraError, match=r"faust can't be found.*pip install 'session-monitor\[worker\]'"):
        verb.require_worker()


def test_bounds_of_durations_are_allowed():
    assert verb.within("--x", "6s", verb.SESSION_TIMEOUTS) == 6000
    assert verb.within("--x", "5m", verb.SESSION_TIMEOUTS) == 300_000
    with pytest.raises(InputError):
        verb.within("--x", "5999ms", verb.SESSION_TIMEOUTS)


def test_several_processes_get_what_was_given_to_the_verb(tmp_path):
    given = ["session-monitor", "--log-level", "debug", "worker", "--policy", "p.yaml", "--processes", "3"]
    assert verb.arguments(given) == ["--policy", "p.yaml", "--processes", "3"]
    context = typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)))
    context.params = {"config": tmp_path / "c.toml", "log_level": "debug", "log_format": None}
    environ = verb.environment(context)
    assert environ["SESSION_MONITOR_CONFIG"] == str(tmp_path / "c.toml")
    assert environ["SESSION_MONITOR_LOG_LEVEL"] == "debug"
    assert "PATH" in environ
