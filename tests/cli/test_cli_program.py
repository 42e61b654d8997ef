"""The program itself: verbs, exit codes, and where settings come from."""

import importlib
import json
import re

import pytest
import typer

from monitor.broker.port import free_port
from monitor.cli.failure import ExitCode, NotFound, Refused, exit_code, guarded
from monitor.cli.output import Format, show
from monitor.cli.program import NOUNS
from monitor.core.errors import AbsenceError, InputError, InvariantError, MissingExtraError
from monitor.version import VERSION


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def origins(cli, *arguments):
    """Setting -> (value, origin, where) of the verb's rows."""
    ended = cli(*arguments, "doctor", "--origin", "-o", "json")
    assert ended.code == 0, ended.err
    return {
        (row["verb"], row["setting"]): (row["value"], row["origin"], row["where"])
        for row in json.loads(ended.out)
    }


@pytest.mark.parametrize("name", NOUNS)
def test_each_verb_is_registered_by_its_module(name):
    module = importlib.import_module(f"monitor.cli.{NOUNS[name]}")
    program = typer.Typer()
    module.register(program)
    assert name in typer.main.get_group(program).commands


@pytest.mark.parametrize("name", NOUNS)
def test_each_verb_explains_itself(cli, name):
    ended = cli(name, "--help")
    assert ended.code == 0
    assert f"session-monitor {name}" in ended.out


def test_help_names_every_verb(cli):
    ended = cli("--help")
    assert ended.code == 0
    assert [name for name in NOUNS if f" {name} " not in ended.out] == []


def test_version(cli):
    assert cli("--version") == (0, f"session-monitor {VERSION}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("topics", "nosuch"),
        ("topics", "verify", "--nosuch"),
        ("topics", "verify", "--partitions", "0"),
    ],
)
def test_wrong_usage_is_2(cli, arguments):
    ended = cli(*arguments)
    assert ended.code == 2
    assert ended.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 2), (NotFound("x"), 3), (Refused("x"), 4), (AbsenceError("x"), 1),
        (MissingExtraError("worker", "x"), 1), (InvariantError("x"), 1),
    ],
)  # fmt: skip
def test_each_error_has_its_code_and_one_line(error, code, capsys):
    def fail():
        raise error

    assert exit_code(error) is ExitCode(code)
    with pytest.raises(SystemExit) as ended:
        guarded(fail)
    assert ended.value.code == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {error}\n")
    assert "Traceback" not in said.err


def test_a_defect_keeps_its_trace():
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)


def test_no_broker_is_said_in_one_line(cli):
    port = free_port()
    ended = cli("topics", "verify", "--bootstrap-servers", f"127.0.0.1:{port}")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"error: no Kafka broker: 127.0.0.1:{port} refuses connections")
    assert ended.err.count("\n") == 1


def test_a_setting_comes_from_option_else_environment_else_file_else_default(cli, monkeypatch, tmp_path):
    (tmp_path / "session-monitor.toml").write_text(
        'topic_prefix = "file-"\nbootstrap-servers = "file:1"\nsecurity_protocol = "PLAINTEXT"\nlog_level = "error"\n[topics.apply]\nreplication-factor = 3\n'
    )
    monkeypatch.setenv("SESSION_MONITOR_BOOTSTRAP_SERVERS", "environment:2")
    monkeypatch.setenv("SESSION_MONITOR_TOPIC_PREFIX", "environment-")
    ended = cli("doctor", "--origin", "--topic-prefix", "option-", "-o", "json")
    rows = {
        (row["verb"], row["setting"]): (row["value"], row["origin"], row["where"])
        for row in json.loads(ended.out)
    }
    assert rows["", "--topic-prefix"] == ("option-", "option", "")
    assert rows["", "--bootstrap-servers"] == (
        "environment:2",
        "environment",
        "SESSION_MONITOR_BOOTSTRAP_SERVERS",
    )
    assert rows["", "--security-protocol"] == ("PLAINTEXT", "file", "session-monitor.toml")
    assert rows["", "--log-level"] == ("error", "file", "session-monitor.toml")
    assert rows["", "--partitions"] == (8, "default", "")
    assert rows["topics apply", "--replication-factor"] == (3, "file", "session-monitor.toml")


def test_the_environment_reaches_a_setting_of_one_verb(cli, monkeypatch):
    monkeypatch.setenv("SESSION_MONITOR_TOPICS_APPLY_REPLICATION_FACTOR", "2")
    rows = origins(cli)
    assert rows["topics apply", "--replication-factor"] == (
        2,
        "environment",
        "SESSION_MONITOR_TOPICS_APPLY_REPLICATION_FACTOR",
    )


@pytest.mark.parametrize("place", ["option", "environment"])
def test_the_file_can_be_named(cli, monkeypatch, tmp_path, place):
    file = tmp_path / "elsewhere.toml"
    file.write_text("partitions = 5\n")
    if place == "environment":
        monkeypatch.setenv("SESSION_MONITOR_CONFIG", str(file))
    rows = origins(cli, *(["--config", str(file)] if place == "option" else []))
    assert rows["", "--partitions"] == (5, "file", str(file))


def test_a_setting_from_the_file_is_used(cli, tmp_path):
    (tmp_path / "session-monitor.toml").write_text('topic-prefix = "mine-"\n[topics.show]\noutput = "json"\n')
    ended = cli("topics", "show")
    assert json.loads(ended.out)[0]["topic"] == "mine-access-events"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\npartitions = x", "is not TOML: .*line 2"),
        ("partition = 8\n", "'partition' is no setting of all verbs"),
        ("[topics.show]\nouput = 'json'\n", r"\[topics.show\] has no 'ouput'; it has .*output"),
        ("[topics]\nfoo = 1\n", r"\[topics\] has no 'foo'; it has .*apply"),
        ("topics = 3\n", "'topics' is no setting"),
        ("log_level = 'loud'\n", "log_level is 'loud', must be one of debug, info, warning, error"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(cli, tmp_path, text, said):
    (tmp_path / "session-monitor.toml").write_text(text)
    ended = cli("topics", "show")
    assert ended.code == 2
    assert ended.out == ""
    assert re.search(f"error: settings file session-monitor.toml.*{said}", ended.err, re.DOTALL), ended.err


def test_a_named_file_must_be_there(cli):
    ended = cli("--config", "nowhere.toml", "topics", "show")
    assert ended.code == 2
    assert "settings file nowhere.toml is not there: correct --config or SESSION_MONITOR_CONFIG" in ended.err


def test_a_secret_comes_from_its_file_and_is_never_shown(cli, tmp_path, monkeypatch):
    port = free_port()
    (tmp_path / "password").write_text("hunter2\n")
    monkeypatch.setenv("SESSION_MONITOR_SASL_PASSWORD_FILE", str(tmp_path / "password"))
    sasl = (
        "--security-protocol",
        "SASL_PLAINTEXT",
        "--sasl-username",
        "ann",
        "--bootstrap-servers",
        f"127.0.0.1:{port}",
    )
    assert "refuses connections" in cli("topics", "verify", *sasl).err
    ended = cli("topics", "verify", *sasl, "--sasl-password", "x")
    assert ended.code == 2
    assert "--sasl-password and --sasl-password-file are both given" in ended.err
    monkeypatch.delenv("SESSION_MONITOR_SASL_PASSWORD_FILE")
    monkeypatch.setenv("SESSION_MONITOR_SASL_PASSWORD", "hunter2")
    rows = origins(cli)
    assert rows["", "--sasl-password"] == ("***", "environment", "SESSION_MONITOR_SASL_PASSWORD")
    assert (
        "needs --sasl-username and a password"
        in cli("topics", "verify", "--security-protocol", "SASL_SSL").err
    )


def test_a_missing_secret_file_is_named(cli):
    ended = cli("topics", "verify", "--sasl-password-file", "nowhere")
    assert ended.code == 2
    assert "--sasl-password-file nowhere can't be read" in ended.err


def test_formats(capsys):
    rows = [{"a": 1, "b": ["x", "y"], "c": None}, {"a": True, "b": "esc\x1b[31m", "c": "z"}]
    show(rows, ("a", "b"), Format.NDJSON)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    show(rows, ("a", "b"), Format.JSON)
    assert json.loads(capsys.readouterr().out) == rows
    show(rows, ("a", "b"))
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table == [["A", "B"], ["1", "x,", "y"], ["yes", "esc\N{REPLACEMENT CHARACTER}[31m"]]
    show([], ("a",), Format.JSON)
    assert json.loads(capsys.readouterr().out) == []


def test_ndjson_shows_each_row_when_it_comes(capsys):
    def rows():
        yield {"n": 1}
        assert capsys.readouterr().out == '{"n":1}\n'
        yield {"n": 2}

    show(rows(), ("n",), Format.NDJSON)
    assert capsys.readouterr().out == '{"n":2}\n'
