"""`session-monitor policy`: what is printed, where, and with which exit code."""

import json
from xml.etree import ElementTree as ET

import pytest
import typer
from typer.testing import CliRunner

import monitor.cli.policy as noun
from monitor.broker.connection import Connection
from monitor.broker.control_log import read_controls
from monitor.core.controls import ControlType
from monitor.core.errors import InputError
from monitor.wire.controls import POLICY_KEY, decode_control
from monitor.wire.topics import Topics

POLICY = """version: 1
defaults: {idle: 30m, absolute: 12h}
rules:
  - {name: restricted-data, when: {classification: restricted}, idle: 10m}
exceptions:
  - {name: late, when: {subject: bob}, idle: 4h, until: 2026-10-01, reason: r, approved_by: c}
"""
CASES = """cases:
  - {name: good, given: {principal: user, classification: restricted}, expect: {idle: 10m}}
  - {name: "b\\ad <&", given: {classification: public}, expect: {idle: 10m, absolute: 12h}}
"""
AT = ("--at", "2026-07-01")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(POLICY)
    (tmp_path / "bad.yaml").write_text("version: 1\nrulez: []\ndefaults: {idle: 5}\n")
    (tmp_path / "worse.yaml").write_text("version: 2\n")
    (tmp_path / "c.yaml").write_text(CASES)
    return tmp_path


def run(*arguments, env=None, given=None):
    program = typer.Typer()
    noun.register(program)
    program.callback()(lambda: None)
    return CliRunner().invoke(program, ["policy", *arguments], env=env, input=given)


def rows(result):
    return json.loads(result.stdout)


def test_a_good_policy(files):
    result = run("check", "p.yaml", *AT)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "p.yaml: can be used; version" in result.stderr


def test_bad_policies_are_told_of_all_at_once(files):
    result = run("check", "bad.yaml", "p.yaml", "worse.yaml", *AT)
    assert isinstance(result.exception, InputError)
    places = [line.split(" ")[0] for line in str(result.exception).splitlines()]
    assert places == ["bad.yaml:2:1:", "bad.yaml:3:18:", "worse.yaml:1:10:"]


def test_warnings_are_rows_and_refused_only_when_strict(files):
    ended = ("--at", "2026-10-01T00:00:00Z", "-o", "json")
    result = run("check", "p.yaml", *ended)
    assert result.exit_code == 0
    (row,) = rows(result)
    assert (row["file"], row["line"], row["column"], row["severity"]) == ("p.yaml", 6, 5, "warning")
    assert "has ended" in row["message"]
    assert run("check", "p.yaml", "--strict", *ended).exit_code == 4
    assert run("check", "p.yaml", "--strict", *AT).exit_code == 0


def test_against_a_standard(files):
    result = run("check", "p.yaml", "--against", "pci", "--against", "hipaa", "-o", "json", *AT)
    assert result.exit_code == 4
    found = {(row["standard"], row["clause"]): row["verdict"] for row in rows(result)}
    assert found["pci", "8.2.8"] == "not met"
    assert found["hipaa", "164.312(a)(2)(iii)"] == "met"
    assert "not met: pci 8.2.8" in result.stderr
    assert run("check", "p.yaml", "--against", "hipaa", *AT).exit_code == 0


def test_against_an_unknown_standard(files):
    assert "did you mean 'pci'" in str(run("check", "p.yaml", "--against", "pcii").exception)


def test_explain(files):
    known = (
        "--subject",
        "a",
        "--principal",
        "user",
        "--role",
        "x",
        "--workload",
        "w",
        "--route",
        "/",
        "--tenant",
        "t",
    )
    result = run("explain", "p.yaml", *known, "--classification", "restricted", "-o", "json", *AT)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert [(row["what"], row["value"], row["by"], row["note"]) for row in rows(result)[:3]] == [
        ("idle", "30m", "defaults", ""),
        ("idle", "10m", "restricted-data", "wins"),
        ("absolute", "12h", "defaults", "wins"),
    ]


def test_explain_at_an_instant_and_of_little_known(files):
    before = run("explain", "p.yaml", "--subject", "bob", "-o", "json", "--at", "2026-09-30T23:59:59Z")
    after = run("explain", "p.yaml", "--subject", "bob", "-o", "json", "--at", "2026-10-01")
    assert [row["by"] for row in rows(before) if row["note"] == "wins"] == ["late (exception)", "defaults"]
    assert [row["by"] for row in rows(after) if row["note"] == "wins"] == ["restricted-data", "defaults"]
    assert "not known: principal, roles, classification" in before.stderr
    assert "not in the policy's list" in run("explain", "p.yaml", "--classification", "secret").stderr


@pytest.mark.parametrize("text", ["soon", "2026-10-01T00:00:00", "2026-13-01", ""])
def test_instants_that_are_none(files, text):
    assert isinstance(run("explain", "p.yaml", "--at", text).exception, InputError)


def test_cases_with_junit(files):
    result = run("test", "p.yaml", "c.yaml", "--junit", "out.xml", "-o", "json", *AT)
    assert result.exit_code == 1
    assert [(row["result"], row["why"]) for row in rows(result)] == [
        ("passed", ""),
        ("failed", "idle: expected 10m, but it is 30m"),
    ]
    suite = ET.parse(files / "out.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    names = [case.get("name") for case in suite]
    assert names == ["good", "b\ufffdd <&"]
    assert [len(case) for case in suite] == [0, 1]


def test_cases_that_pass_and_cases_that_are_none(files):
    (files / "c.yaml").write_text(CASES.splitlines()[0] + "\n" + CASES.splitlines()[1])
    assert run("test", "p.yaml", "c.yaml", *AT).exit_code == 0
    (files / "c.yaml").write_text("cases: []")
    assert isinstance(run("test", "p.yaml", "c.yaml").exception, InputError)


@pytest.fixture
def sent(monkeypatch):
    found = []

    def send(installation, record):
        found.append((installation, record))
        return 42

    monkeypatch.setattr(noun, "_send", send)
    return found


def test_apply_sends_the_text_with_who_and_why(files, sent):
    result = run("apply", "p.yaml", "--reason", "audit", "--topic-prefix", "x-", env={"USER": "carol"})
    assert result.exit_code == 0
    ((installation, record),) = sent
    assert installation.connection.bootstrap_servers == "localhost:9092"
    assert installation.topics.prefix == "x-"
    control = decode_control(record.value, offset=0, appended=0)
    assert (control.type, control.reason, control.by) == (ControlType.POLICY, "audit", "carol")
    assert control.policy_text == POLICY
    assert f"{control.policy_version} applied at 42 of x-session-control" in result.stdout


@pytest.mark.embedded
def test_apply_writes_what_workers_read(files, embedded, own_topics):
    servers, prefix = own_topics(embedded)
    where = ("--bootstrap-servers", servers, "--topic-prefix", prefix)
    result = run("apply", "p.yaml", "--reason", "audit", "--by", "carol", *where)
    assert result.exit_code == 0, result.output
    (stored,) = read_controls(Connection(bootstrap_servers=servers), Topics(prefix))
    control = decode_control(stored.value, offset=stored.offset, appended=stored.appended)
    assert (stored.key, control.policy_text, control.by) == (POLICY_KEY, POLICY, "carol")


def test_apply_refuses_before_anything_is_sent(files, sent):
    assert isinstance(run("apply", "bad.yaml", "--reason", "r", "--by", "c").exception, InputError)
    assert isinstance(run("apply", "p.yaml", "--reason", " ", "--by", "c").exception, InputError)
    assert isinstance(run("apply", "p.yaml", "--reason", "r", "--by", "").exception, InputError)
    assert run("apply", "p.yaml", "--by", "c").exit_code == 2
    assert run("apply", "p.yaml", "--reason", "r", env={"USER": None}).exit_code == 2
    assert sent == []


def test_files_that_are_none(files):
    assert "can't be read" in str(run("check", "nothing.yaml").exception)
    (files / "latin.yaml").write_bytes(b"version: 1 # \xe9")
    assert "is not UTF-8 (byte 13)" in str(run("check", "latin.yaml").exception)


def test_a_policy_from_stdin(files):
    assert run("check", "-", *AT, given=POLICY).exit_code == 0
