"""The live view as text: what it says at 100 and at 160 columns, and that nobody's data steers the terminal."""

import io

import msgspec
import pytest
from rich.console import Console

from monitor.cli.view import Picture, chosen, clock, left, line, render
from monitor.core.instants import DAY, HOUR, MINUTE, SECOND
from monitor.observe.views import EndView, LimitView, SessionRow
from monitor.wire.commands import CommandRecord
from monitor.wire.times import Instant

NOW = 1_795_500_000_123


def limit(rule, limit_ms=None, remaining=0):
    return LimitView(rule) if limit_ms is None else LimitView(rule, limit_ms, Instant(NOW + remaining), remaining)


def row(session_id="s-1", opened=0, idle=None, absolute=None, **more):
    at = Instant(NOW + opened)
    return SessionRow(
        session_id, 0, more.pop("state", "live"), 0, Instant(NOW), at, at, at,
        idle or limit("defaults", 8000, 4000), absolute or limit("defaults", 60_000, 30_000), **more,
    )  # fmt: skip


def ended(session_id="s-2", ago=2500, rule="unattended-agents", **more):
    at = Instant(NOW - ago)
    return row(
        session_id, -60_000, state="expired", end=EndView("session.expire", "idle_timeout", at, at, at, rule, 8000), **more
    )


def command(type_="session.expire", session_id="s-2", **more):
    said = {"reason": "idle_timeout", "rule": "defaults", "limit_ms": 8000, "subject": "bob@example.com"} | more
    return CommandRecord(type_, session_id, issued_at=Instant(NOW - 1000), **said)


PICTURE = Picture(
    now=NOW,
    started_at=NOW - 42_500,
    sessions=(
        row("s-000022", -5000, limit("restricted-data", 4000, 1200), limit("restricted-data", 40_000, 35_000),
            subject="erin@globex.example", classification="restricted", workload="console"),
        row("s-0001cd", -4000, limit("defaults", 8000, 6200), limit("defaults"),
            subject="alice@example.com", classification="internal", workload="console"),
        row("s-0003aa", -3000, limit("privileged", 6000, -100), limit("defaults", 3 * HOUR, 2 * HOUR),
            subject="carol@example.com", classification="confidential"),
        ended("s-000210", subject="svc-etl", classification="internal", workload="batch"),
    ),
    commands=(
        command("session.warn", lead_ms=2000, session_id="s-000210", subject="svc-etl"),
        command(session_id="s-000210", subject="svc-etl"),
        command("session.reinstate", session_id="s-0001cd", limit_ms=None, rule=None, subject="alice@example.com"),
    ),
    live=3, ended=7, events_rate=12.34, commands_rate=1.5, lag_records=4, lag_ms=120, owned=8, partitions=8,
    links=(("broker", "127.0.0.1:19092"), ("API", "http://127.0.0.1:6066")),
    hints=("publish an event:  session-monitor publish --bootstrap-servers 127.0.0.1:19092 ...",),
)  # fmt: skip


def text(picture, width, height=24, **options):
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None, force_terminal=False)
    console.print(render(picture, width, height, **options))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


AT_100 = """\
Session Monitor  up 42s  broker 127.0.0.1:19092  API http://127.0.0.1:6066
live 3   ended 7   events/s 12.3   commands/s 1.5   lag 4 records, 0.1s   partitions 8/8

session  subject             class        idle: time left, rule        absolute: time left, rule
s-000210 svc-etl             internal     expired 2s ago               idle_timeout unattended-age…
s-000022 erin@globex.example restricted   ━━────  1.2s restricted-data ━━━━━─   35s restricted-data
s-0001cd alice@example.com   internal     ━━━━━─  6.2s defaults        ━━━━━━  none defaults
s-0003aa carol@example.com   confidential ──────   due privileged      ━━━━──  2h00 defaults








time          command           session  reason           limit rule            subject
05:59:59.123Z session.warn      s-000210 idle_timeout     8s    defaults        svc-etl
05:59:59.123Z session.expire    s-000210 idle_timeout     8s    defaults        svc-etl
05:59:59.123Z session.reinstate s-0001cd idle_timeout                           alice@example.com


publish an event:  session-monitor publish --bootstrap-servers 127.0.0.1:19092 ...
Ctrl-C ends everything
"""

AT_160 = """\
Session Monitor  up 42s  broker 127.0.0.1:19092  API http://127.0.0.1:6066
live 3   ended 7   events/s 12.3   commands/s 1.5   lag 4 records, 0.1s   partitions 8/8

session      subject                  class        workload   state    idle: time left, rule                     absolute: time left, rule
s-000210     svc-etl                  internal     batch      expired  expired 2s ago                            idle_timeout unattended-agents
s-000022     erin@globex.example      restricted   console    live     ━━━━──────────  1.2s restricted-data      ━━━━━━━━━━━━──   35s restricted-data
s-0001cd     alice@example.com        internal     console    live     ━━━━━━━━━━━───  6.2s defaults             ━━━━━━━━━━━━━━  none defaults
s-0003aa     carol@example.com        confidential -          live     ──────────────   due privileged           ━━━━━━━━━─────  2h00 defaults








time          command           session      reason           limit rule                     subject
05:59:59.123Z session.warn      s-000210     idle_timeout     8s    defaults                 svc-etl
05:59:59.123Z session.expire    s-000210     idle_timeout     8s    defaults                 svc-etl
05:59:59.123Z session.reinstate s-0001cd     idle_timeout                                    alice@example.com


publish an event:  session-monitor publish --bootstrap-servers 127.0.0.1:19092 ...
Ctrl-C ends everything
"""


def test_the_view_at_100_columns():
    assert text(PICTURE, 100) == AT_100.rstrip("\n")


def test_the_view_at_160_columns():
    assert text(PICTURE, 160) == AT_160.rstrip("\n")


@pytest.mark.parametrize("height", [10, 24, 50])
@pytest.mark.parametrize("width", [60, 80, 100, 160, 240])
def test_a_frame_never_exceeds_the_terminal(width, height):
    many = msgspec.structs.replace(
        PICTURE,
        sessions=tuple(row(f"s-{number}", number, subject="x" * 300) for number in range(100)),
        commands=tuple(command(session_id="y" * 300) for _ in range(100)),
        notice="n" * 500,
    )
    lines = text(many, width, height).splitlines()
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


def test_with_nothing_to_show_it_says_so():
    assert "no sessions yet" in text(Picture(now=NOW, partitions=8), 100)


def test_bars_of_ascii_for_terminals_that_know_no_more():
    plain = text(PICTURE, 100, plain_bars=True)
    assert "#####-  6.2s defaults" in plain
    assert not set("━─") & set(plain)


def test_colours_follow_the_time_left_and_no_color_takes_them_away(monkeypatch):
    def coloured():
        console = Console(file=io.StringIO(), width=100, height=24, force_terminal=True, color_system="standard")
        console.print(render(PICTURE, 100, 24))
        return console.file.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[33m━━" in coloured()  # 1.2 s of 4 s left: yellow
    assert "\x1b[32m━━━━━" in coloured()  # 6.2 s of 8 s left: green
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in coloured()


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "a\rb", "a\nb", "\u202eevil", "\x9b31m"])
def test_nothing_from_outside_reaches_the_terminal_as_control(evil):
    shown = msgspec.structs.replace(
        PICTURE,
        sessions=(row(evil, subject=evil, classification=evil), ended(evil, rule=evil)),
        commands=(command(evil, evil, reason=evil, rule=evil, subject=evil),),
        notice=evil,
    )
    bad = set(evil) - {c for c in evil if c.isprintable()}
    assert not bad & set(text(shown, 160).replace("\n", "")) - {"\n"}
    assert len(text(shown, 160).splitlines()) == len(text(msgspec.structs.replace(shown, notice="n"), 160).splitlines())
    assert line(shown.commands[0]).isprintable()


def test_markup_in_ids_is_shown_as_it_is():
    assert "[red]x[/]" in text(msgspec.structs.replace(PICTURE, sessions=(row("s", subject="[red]x[/]"),)), 160)


def test_rows_stand_in_order_of_opening_and_those_nearest_to_their_end_are_chosen():
    far = row("far", -9, limit("r", 9000, 9000))
    near = row("near", -5, limit("r", 9000, 100))
    nearer = row("nearer", -7, limit("r", 9000, 9000), limit("r", 9000, 50))
    gone = ended("gone", ago=10)
    assert [one.session_id for one in chosen((far, near, nearer, gone), 3)] == ["gone", "nearer", "near"]
    never = row("never", -10, limit("r"), limit("r"))
    assert [one.session_id for one in chosen((never, far), 1)] == ["far"]


@pytest.mark.parametrize(
    ("duration", "shown"),
    [
        (-1, "due"), (0, "due"), (1, "0.1s"), (3150, "3.2s"), (4 * SECOND, "4s"), (10 * SECOND, "10s"),
        (119_001, "120s"), (2 * MINUTE, "2m00"), (HOUR - 1, "59m59"), (HOUR, "1h00"), (47 * HOUR, "47h00"),
        (2 * DAY, "2d"), (3650 * DAY, "3650d"),
    ],
)  # fmt: skip
def test_durations_take_at_most_five_characters(duration, shown):
    assert left(duration) == shown
    assert len(shown) <= 5


def test_a_command_in_one_line():
    assert line(command()) == (
        f"{clock(NOW - 1000)} session.expire    s-2 idle_timeout limit=8s rule=defaults subject=bob@example.com"
    )
    assert line(command("session.warn", lead_ms=2000, epoch=2)) == (
        f"{clock(NOW - 1000)} session.warn      s-2 idle_timeout epoch=2 limit=8s rule=defaults in=2s subject=bob@example.com"
    )


def test_a_command_of_a_newer_monitor_still_makes_a_line():
    assert line(CommandRecord("session.quarantine", "s-9")).split()[1:] == ["session.quarantine", "s-9"]
