"""`session-monitor alerts` against a real topic."""

import json
from typing import Any

import pytest

from monitor.cli import alerts
from monitor.cli.failure import NotFound
from monitor.core.errors import InputError
from monitor.wire.alerts import AlertRecord, AlertState, encode_alert
from monitor.wire.times import Instant
from tests.cli.embedded_topics import World

AT = 1_795_000_000_000


def alert(fingerprint: str, name: str = "timeout_churn", state: AlertState = AlertState.FIRING, **more: Any) -> Any:
    said = {"severity": "warning", "since": Instant(AT), "updated": Instant(AT + 1), "summary": f"{fingerprint} stands out"} | more
    return encode_alert(AlertRecord(fingerprint, name, state, **said))


@pytest.fixture
def told(world: World) -> World:
    records = [
        alert("aa11", subject="alice"), alert("bb22", "unenforced", severity="critical", session_id="s-1"), alert("aa12", subject="bob"),
        alert("cc33", state=AlertState.RESOLVED), alert("aa11", subject="alice", since=Instant(AT + 5), evidence={"seen": {"timeouts": 12}}),
        (b"~silence/1", b"{}", ()), (b"dd44", b"no alert", ()), (b"ee55", None, ()),
    ]  # fmt: skip
    world.write(world.topics.session_alerts.name, *((0, record) for record in records))
    return world


def fingerprints(out: str) -> list[str]:
    return [json.loads(line)["fingerprint"] for line in out.splitlines()]


def test_what_fires_is_listed_the_most_severe_first_and_then_the_newest(told: World, run_verb: Any) -> None:
    done = run_verb(alerts, "alerts", "list", *told.options, "-o", "ndjson")
    assert fingerprints(done.stdout) == ["bb22", "aa11", "aa12"]
    assert "offset 6 of session-alerts is no alert" in done.stderr


@pytest.mark.parametrize(
    ("options", "found"),
    [(("--alert", "unenforced"), ["bb22"]), (("--subject", "bob"), ["aa12"]), (("--all",), ["bb22", "aa11", "aa12", "cc33"])],
)
def test_it_can_be_narrowed_and_widened(told: World, run_verb: Any, options: tuple[str, ...], found: list[str]) -> None:
    done = run_verb(alerts, "alerts", "list", *options, *told.options, "-o", "ndjson")
    assert fingerprints(done.stdout) == found


def test_one_is_shown_whole_by_the_beginning_of_its_fingerprint(told: World, run_verb: Any) -> None:
    done = run_verb(alerts, "alerts", "show", "aa11", *told.options)
    assert "evidence.seen.timeouts" in done.stdout
    assert "12" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("show", "ff"), NotFound, "no alert 'ff'"),
        (("show", "aa"), InputError, "beginning of 2 fingerprints"),
        (("list", "--alert", "churn"), InputError, "one of long_session, timeout_churn"),
    ],
)
def test_wrong_use_is_told(told: World, run_verb: Any, arguments: tuple[str, ...], error: type[Exception], said: str) -> None:
    done = run_verb(alerts, "alerts", *arguments, *told.options)
    assert isinstance(done.exception, error)
    assert said in str(done.exception)


def test_a_silence_is_ordered_listed_and_lifted(told: World, run_verb: Any) -> None:
    ordered = run_verb(alerts, "alerts", "silence", "subject=bob", "--for", "2h", "--reason", "known", "--by", "me", *told.options)
    assert ordered.exit_code == 0, ordered.output
    assert "it meets 1" in ordered.stderr
    silence = ordered.stdout.strip()
    listed = run_verb(alerts, "alerts", "silences", *told.options, "-o", "ndjson")
    (row,) = [json.loads(line) for line in listed.stdout.splitlines()]
    assert (row["id"], row["matchers"], row["by"], row["reason"]) == (silence, ["subject=bob"], "me", "known")
    assert run_verb(alerts, "alerts", "lift", silence, *told.options).exit_code == 0
    assert run_verb(alerts, "alerts", "silences", *told.options, "-o", "ndjson").stdout == ""
    again = run_verb(alerts, "alerts", "lift", silence, *told.options)
    assert isinstance(again.exception, NotFound)


@pytest.mark.parametrize(
    ("matcher", "reason", "last", "said"),
    [
        ("subject", "known", "2h", "matchers[0]"), ("alert=~.*", "known", "2h", "every alert would be met"),
        ("subject=bob", " ", "2h", "reason is empty"), ("subject=bob", "known", "2y", "--for"),
    ],
)  # fmt: skip
def test_a_silence_that_says_too_little_is_refused(told: World, run_verb: Any, matcher: str, reason: str, last: str, said: str) -> None:
    done = run_verb(alerts, "alerts", "silence", matcher, "--for", last, "--reason", reason, "--by", "me", *told.options)
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)
