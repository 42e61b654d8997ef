"""The parts of `up` that need no broker: ending, feed, hints, and what it says when something is wrong."""

import os
import shlex
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer

from monitor.broker.connection import Connection
from monitor.cli.ending import Ending, Interrupted
from monitor.cli.feed import Feed
from monitor.cli.gathered import Gathered
from monitor.cli.program import program
from monitor.cli.up import STARTER, Stage, Voice, hints, sheltered
from monitor.core.errors import InputError, MissingExtraError
from monitor.observe.views import LimitView, Matches, PartitionList, PartitionView, SessionPage, SessionRow
from monitor.policy import compile_policy
from monitor.policy.check import check
from monitor.wire.codec import encode
from monitor.wire.commands import encode_watermark
from monitor.wire.times import Instant
from monitor.wire.topics import Topics

NOW = 1_795_500_000_123
TOKEN = "a-token-of-sixteen"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_once_and_then_only_sets_wanted(number):
    before = signal.getsignal(number)
    with Ending() as ending:
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert ending.wanted.is_set()
    assert signal.getsignal(number) == before


def test_patiently_no_signal_interrupts():
    with Ending() as ending:
        ending.patiently()
        os.kill(os.getpid(), signal.SIGINT)
        assert ending.wanted.is_set()


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Ending() as ending:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not ending.wanted.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def api():
    """A worker's API that holds two live sessions, and knows who asked."""
    at, limit = Instant(NOW), LimitView("defaults", 8000, Instant(NOW + 8000))
    rows = [SessionRow(f"s-{n}", 0, "live", 0, at, at, at, at, limit, limit) for n in range(2)]
    view = PartitionView(0, "w", 5, 4, 5, 0, 0, paused=False, sessions=1, timers=1, controls_to=0, swept=True, policy="v", behind_ms=90)
    answers = {
        "/v1/sessions?state=live&limit=500": SessionPage(rows),
        "/v1/matches": Matches(2, 40),
        "/v1/partitions": PartitionList([view]),
    }
    metrics = (
        "# TYPE session_monitor_events_total counter\n"
        'session_monitor_events_total{partition="0",path="hot"} 100\nsession_monitor_events_total{partition="0",path="cold"} 20\n'
        'session_monitor_events_total{partition="0",path="tick"} 30\n'
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            metered = self.path == "/metrics"
            body = metrics.encode() if metered else encode(answers[self.path])
            given = self.headers.get("Authorization")
            self.send_response(200 if given == (None if metered else f"Bearer {TOKEN}") else 401)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def feed(gathered, token=TOKEN):
    return Feed(Connection(bootstrap_servers="127.0.0.1:1"), Topics().session_commands, token, gathered)


def test_the_feed_brings_sessions_counts_partitions_and_rates(api, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    gathered = Gathered(1, NOW)
    one = feed(gathered)
    one._ask([api])
    picture = one.picture()
    assert {row.session_id for row in picture.sessions} == {"s-0", "s-1"}
    assert (picture.live, picture.ended, picture.owned) == (2, 40, 1)
    assert one.ready
    assert gathered._events._samples[-1][1] == 120


def test_the_token_goes_to_http_addresses_only():
    with pytest.raises(InputError, match="no worker's address"):
        feed(Gathered(1, NOW))._ask(["file:///etc/passwd"])


def test_an_api_that_does_not_answer_is_a_notice_and_no_end():
    gathered = Gathered(1, NOW)
    record = encode_watermark(0, NOW, NOW, -1, NOW, owner="w", api="http://127.0.0.1:1")
    gathered.record(record.key, record.value)
    one = feed(gathered)
    thread = threading.Thread(target=one._poll)
    thread.start()
    noticed = threading.Event()
    for _ in range(100):
        if "does not answer" in one.picture().notice:
            break
        noticed.wait(0.1)
    one._stopping.set()
    thread.join()
    assert "does not answer" in one.picture().notice


def test_the_policy_without_a_file_is_the_seed_guidance_and_sound():
    policy = compile_policy(STARTER)
    assert not [finding for finding in check(policy, NOW) if finding.severity == "error"]


def test_hints_name_the_broker_and_fit_into_100_columns():
    told = hints("127.0.0.1:19092")
    assert told[0].endswith("export SESSION_MONITOR_BOOTSTRAP_SERVERS=127.0.0.1:19092")
    assert all(len(hint) <= 100 for hint in told)


def test_the_sidecars_hint_is_a_request_of_one_session():
    (told,) = set(hints("127.0.0.1:19092", "http://127.0.0.1:65535")) - set(hints("127.0.0.1:19092"))
    assert len(told) <= 100
    words = shlex.split(told.split(":", 1)[1], comments=True)
    assert words == ["curl", "-i", "-H", "X-Session: mine", "http://127.0.0.1:65535/check"]


def test_without_the_extra_there_is_no_sidecar_and_that_is_said(monkeypatch, tmp_path, capsys):
    def absent() -> None:
        raise MissingExtraError("gateway", "the sidecar")

    monkeypatch.setattr("monitor.cli.up.require_gateway", absent)
    with ExitStack() as stack:
        stage = Stage(stack, Voice(), 0.0, full=False)
        stage._start_sidecar(tmp_path, "127.0.0.1:1", 1)
    assert (stage._sidecar, stage._sidecar_url) == (None, "")
    assert "sidecar   none: the sidecar needs the extra 'gateway': pip install 'session-monitor[gateway]'" in capsys.readouterr().out


def test_hints_call_the_program_as_it_was_called(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", [".venv/bin/session-monitor", "up"])
    assert ".venv/bin/session-monitor publish" in hints("127.0.0.1:1")[1]
    assert all(len(hint) <= 100 for hint in hints("127.0.0.1:19092"))


@pytest.mark.parametrize("number", range(1, 4))
def test_what_the_hints_name_exists_as_it_is_written(number):
    words = shlex.split(hints("127.0.0.1:1")[number].split(":", 1)[1])
    given = words[words.index("monitor") + 1 :] if "-m" in words else words[1:]
    verbs = [word for word in given[:2] if not word.startswith("-")]
    group = typer.main.get_command(program)
    for verb in verbs:
        command = group.get_command(typer.Context(group), verb)
        group = command if hasattr(command, "get_command") else group
    known = {name for option in command.params for name in option.opts}
    assert {word for word in given if word.startswith("--")} <= known


def test_children_find_the_package_from_any_directory_and_no_settings_for_others(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("SESSION_MONITOR_TOPIC_PREFIX", "elsewhere-")
    monkeypatch.setenv("SESSION_MONITOR_TOKEN", TOKEN)
    with sheltered():
        assert "SESSION_MONITOR_TOPIC_PREFIX" not in os.environ
        assert os.environ["SESSION_MONITOR_TOKEN"] == TOKEN
        found = subprocess.run(
            [sys.executable, "-c", "import monitor; print(monitor.__file__)"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
    assert Path(found.stdout.strip()).is_file()
    assert os.environ["PYTHONPATH"] == "elsewhere"
    assert os.environ["SESSION_MONITOR_TOPIC_PREFIX"] == "elsewhere-"
