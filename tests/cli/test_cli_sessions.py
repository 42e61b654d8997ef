"""`sessions`: found by the watermarks, asked of every worker, shown to people and programs."""

import json

import pytest

from monitor.cli import sessions
from monitor.cli.failure import NotFound, exit_code
from monitor.cli.fleet import Fleet, find_workers, reach
from monitor.cli.sessions import changes
from monitor.core.errors import AbsenceError, InputError
from monitor.core.events import EventType
from monitor.observe.client import WorkerClient
from monitor.observe.views import row_of
from monitor.wire.commands import encode_watermark
from tests.cli.serving import TOKEN, serving
from tests.observe.owned_partitions import START, open_session, owned, worker


@pytest.fixture
def hosts():
    one, other = worker(0), worker(1, 2)
    open_session(one.owned[0], "alice-1", subject="alice@example.com", roles=("admin",))
    open_session(other.owned[1], "bob-1", at=1000, subject="bob@example.com")
    open_session(other.owned[2], "bob-2", at=2000, subject="bob@example.com")
    open_session(other.owned[2], "bob-2", at=3000, type_=EventType.CLOSED)
    return one, other


@pytest.fixture
def named(hosts):
    with serving(*hosts) as urls:
        yield [*(part for url in urls for part in ("--worker", url)), "--token", TOKEN]


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_list_puts_all_workers_together_those_first_that_end_first(run_verb, named):
    result = run_verb(sessions, "sessions", "list", *named, "-o", "ndjson", "--state", "all")
    assert result.exit_code == 0, result.output
    assert [row["session_id"] for row in lines(result)] == ["bob-2", "alice-1", "bob-1"]
    assert lines(result)[1]["idle"]["left_ms"] == 30 * 60 * 1000


def test_list_shows_live_sessions_unless_told_otherwise_and_filters(run_verb, named):
    rows = lines(run_verb(sessions, "sessions", "list", *named, "-o", "ndjson"))
    assert {row["session_id"] for row in rows} == {"alice-1", "bob-1"}
    rows = lines(run_verb(sessions, "sessions", "list", *named, "-o", "ndjson", "--role", "admin"))
    assert [row["session_id"] for row in rows] == ["alice-1"]


def test_a_table_for_people_obeys_no_session_id(run_verb, named, hosts):
    open_session(hosts[0].owned[0], "evil\x1b[2J", subject="[red]x[/red]")
    result = run_verb(sessions, "sessions", "list", *named)
    assert result.exit_code == 0
    assert "\x1b[2J" not in result.stdout
    assert "evil" in result.stdout


def test_more_than_asked_for_is_cut_and_said(run_verb, named):
    result = run_verb(sessions, "sessions", "list", *named, "-n", "1", "-o", "ndjson")
    assert len(lines(result)) == 1
    assert "more than these 1" in result.stderr


def test_a_worker_that_is_gone_is_told_of_and_the_rest_shown(run_verb, named):
    result = run_verb(sessions, "sessions", "list", *named, "--worker", "http://127.0.0.1:1", "-o", "ndjson")
    assert result.exit_code == 1
    assert len(lines(result)) == 2
    assert "127.0.0.1:1 does not answer" in result.stderr


def test_no_worker_at_all_says_what_to_do(run_verb):
    result = run_verb(sessions, "sessions", "list", "--worker", "http://127.0.0.1:1", "--token", TOKEN)
    assert isinstance(result.exception, AbsenceError)
    assert "session-monitor worker" in str(result.exception)


def test_the_wrong_token_says_whose_it_should_be(run_verb, named):
    result = run_verb(sessions, "sessions", "list", *named[:-1], "another-token-0123456789")
    assert isinstance(result.exception, InputError)
    assert "SESSION_MONITOR_TOKEN" in str(result.exception)


def test_show_has_deadlines_and_the_chain(run_verb, named):
    result = run_verb(sessions, "sessions", "show", "bob-1", *named, "-o", "json")
    detail = json.loads(result.stdout)
    detail = detail[0] if isinstance(detail, list) else detail
    assert detail["partition"] == 1
    assert detail["chain"][0] == {
        "rule": "defaults",
        "limit": "idle",
        "ms": 1800000,
        "won": True,
        "origin": "defaults",
    }
    table = run_verb(sessions, "sessions", "show", "bob-1", *named)
    assert "30m by defaults" in table.stdout
    assert "2026-" in table.stdout


def test_show_of_an_ended_session_says_how(run_verb, named):
    assert "closed, at" in run_verb(sessions, "sessions", "show", "bob-2", *named).stdout


def test_show_of_an_unknown_session_exits_3(run_verb, named):
    result = run_verb(sessions, "sessions", "show", "nobody", *named)
    assert isinstance(result.exception, NotFound)
    assert exit_code(result.exception) == 3
    assert "nobody" in str(result.exception)


@pytest.mark.parametrize("session_id", ["a/b", "..", "50% grüße", "?"])
def test_show_finds_any_session_id(run_verb, named, hosts, session_id):
    open_session(hosts[1].owned[1], session_id)
    result = run_verb(sessions, "sessions", "show", session_id, *named, "-o", "ndjson")
    assert lines(result)[0]["session_id"] == session_id


def test_watch_streams_what_appears(run_verb, named):
    arguments = ["--times", "2", "--every", "0.2", "-o", "ndjson"]
    result = run_verb(sessions, "sessions", "watch", *named, *arguments)
    assert result.exit_code == 0
    assert sorted((row["change"], row["session_id"]) for row in lines(result)) == [
        ("appeared", "alice-1"), ("appeared", "bob-1"),
    ]  # fmt: skip


def row(one, session_id):
    return row_of(one.partition.sessions[session_id], 0, one.partition.log_time)


def test_changes_are_what_happened_not_the_time_that_passed():
    one = owned(0)
    open_session(one, "a")
    open_session(one, "b")
    first = {name: row(one, name) for name in "ab"}
    open_session(one, "c", at=5000)
    second = {name: row(one, name) for name in "ac"}
    assert [(change, r.session_id) for change, r in changes(first, second)] == [
        ("appeared", "c"),
        ("gone", "b"),
    ]
    open_session(one, "a", at=6000, type_=EventType.ACTIVITY)
    third = {name: row(one, name) for name in "ac"}
    assert [(change, r.session_id) for change, r in changes(second, third)] == [("changed", "a")]


def test_pages_are_followed_to_the_end():
    host = worker(0)
    for number in range(1200):
        open_session(host.owned[0], f"s-{number}")
    with serving(host) as (url,):
        client = WorkerClient(url, TOKEN)
        assert len({row.session_id for row in client.sessions({"limit": "500"})}) == 1200
        assert client.matches({}).live == 1200
        assert [view.sessions for view in client.partitions().partitions] == [1200]


def test_an_address_that_is_none_is_refused():
    for url in ("ftp://x", "file:///etc/passwd", "localhost:80", "", "http://"):
        with pytest.raises(InputError, match="no worker's address"):
            WorkerClient(url, TOKEN)


@pytest.mark.embedded
class TestDiscovery:
    def mark(self, world, partition, api, issued_at=START, decided=START):
        record = encode_watermark(partition, decided, decided, 0, issued_at, owner="w", api=api)
        return partition, record

    def test_workers_are_found_by_the_newest_watermark_of_each_partition(self, world):
        topic = world.topics.session_commands.name
        world.write(
            topic, self.mark(world, 0, "http://127.0.0.1:1"), self.mark(world, 1, "http://127.0.0.1:2")
        )
        noise = [(0, (f"s{n}".encode(), b"{}", [])) for n in range(300)]
        world.write(
            topic, *noise, self.mark(world, 1, "http://127.0.0.1:3"), (2, (b"~watermark/2", b"broken", []))
        )
        found, partitions = find_workers(world.installation.connection, world.topics)
        assert partitions == 3
        assert {n: mark.api for n, mark in found.items()} == {
            0: "http://127.0.0.1:1",
            1: "http://127.0.0.1:3",
        }

    def test_list_by_discovery(self, world, run_verb, hosts):
        with serving(*hosts) as urls:
            marks = [self.mark(world, 0, urls[0]), self.mark(world, 1, urls[1]), self.mark(world, 2, urls[1])]
            world.write(world.topics.session_commands.name, *marks)
            result = run_verb(sessions, "sessions", "list", *world.options, "--token", TOKEN, "-o", "ndjson")
        assert result.exit_code == 0, result.output
        assert {row["session_id"] for row in lines(result)} == {"alice-1", "bob-1"}

    def test_a_partition_without_a_worker_is_said(self, world, run_verb, hosts):
        with serving(hosts[0]) as urls:
            gone = self.mark(world, 1, "http://127.0.0.1:1", issued_at=START - 60_000)
            world.write(world.topics.session_commands.name, self.mark(world, 0, urls[0]), gone)
            result = run_verb(sessions, "sessions", "list", *world.options, "--token", TOKEN, "-o", "ndjson")
        assert result.exit_code == 1
        assert "partitions 1, 2" in result.stderr
        assert [row["session_id"] for row in lines(result)] == ["alice-1"]

    def test_nobody_there_says_what_to_do(self, world, run_verb):
        result = run_verb(sessions, "sessions", "list", *world.options, "--token", TOKEN)
        assert isinstance(result.exception, AbsenceError)
        assert "--worker" in str(result.exception)

    def test_a_missing_topic_is_named(self, world, run_verb):
        options = ["--bootstrap-servers", world.servers, "--topic-prefix", "none-"]
        result = run_verb(sessions, "sessions", "list", *options, "--token", TOKEN)
        assert isinstance(result.exception, AbsenceError)
        assert "none-session-commands" in str(result.exception)

    def test_this_users_token_is_not_sent_to_a_stranger(self, world, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        world.write(world.topics.session_commands.name, self.mark(world, 0, "http://collector.example:80"))
        with pytest.raises(InputError, match="not on this machine"):
            reach(None, None, world.installation)
        for near in ("http://127.0.0.1.example.com:80", "http://127.0.0.1@evil.example/"):
            world.write(world.topics.session_commands.name, self.mark(world, 0, near))
            with pytest.raises(InputError, match="not on this machine"):
                reach(None, None, world.installation)
        assert isinstance(reach(None, TOKEN, world.installation), Fleet)
