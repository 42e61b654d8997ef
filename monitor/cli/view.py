"""The live view as a picture: what is known of the monitor in, something rich can print out. Pure.

Whatever comes from outside (ids, subjects, rules) is shown with its unprintable characters replaced: a session
id is no way to a terminal's control sequences.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from monitor.cli.output import printable as printable  # noqa: PLC0414 - the tables of other verbs take it from here
from monitor.core.instants import DAY, HOUR, MINUTE, NEVER, SECOND, Millis
from monitor.observe.views import LimitView, SessionRow
from monitor.wire.commands import CommandRecord

WIDE: Final = 130
"""Columns from which on there is room for more."""
TALL: Final = 24
"""Lines from which on there is room for hints."""
BEHIND: Final[Millis] = 5 * SECOND
"""A lag that is shown in red."""
COMMANDS: Final = {
    "session.expire": "red", "session.revoke": "bold red", "session.reinstate": "green", "session.warn": "yellow",
}  # fmt: skip
STATES: Final = {"live": "green", "expired": "red", "revoked": "bold red"}
HINT: Final = "Ctrl-C ends everything"


class Picture(msgspec.Struct, frozen=True):
    """Everything that one frame shows."""

    now: Millis
    started_at: Millis = 0
    sessions: tuple[SessionRow, ...] = ()
    commands: tuple[CommandRecord, ...] = ()
    """Oldest first."""
    counted: int = 0
    """Commands so far, advice included."""
    live: int = 0
    ended: int = 0
    """How many there are, beyond those in `sessions`."""
    events_rate: float = 0.0
    commands_rate: float = 0.0
    lag_records: int = 0
    lag_ms: Millis = 0
    owned: int = 0
    partitions: int = 0
    links: tuple[tuple[str, str], ...] = ()
    """Name -> address of what is running."""
    hints: tuple[str, ...] = ()
    """What to try next; shown where there is room."""
    notice: str = ""
    """What the person in front of it has to know."""


def render(picture: Picture, width: int, height: int, *, plain_bars: bool = False) -> RenderableType:
    """One frame of at most `height` lines; `plain_bars` for terminals that know ASCII only."""
    wide = width >= WIDE
    hints = [HINT] if height < TALL else [*picture.hints, HINT]
    # Header and figures, and for each of the two tables a blank line and its head.
    room = max(2, height - 6 - len(hints) - bool(picture.notice))
    below = max(1, min(room // 3, 12))
    parts: list[RenderableType] = [_header(picture), _figures(picture)]
    if picture.notice:
        parts.append(_cut(Text(printable(picture.notice), style="bold yellow")))
    above = room - below
    # Both tables keep their height, whatever is in them: nothing below them ever jumps.
    parts += [Text(), _sessions(picture, above, wide=wide, plain_bars=plain_bars)]
    parts += [Text()] * (above - max(1, min(above, len(picture.sessions))))
    parts += [Text(), _commands(picture, below, wide=wide)]
    parts += [Text()] * (below - min(below, len(picture.commands)))
    parts += [_cut(Text(printable(hint), style="dim")) for hint in hints]
    return Group(*parts)


def chosen(sessions: Collection[SessionRow], most: int) -> list[SessionRow]:
    """The sessions worth the room: those whose end is nearest, or just past, in the order in which they opened.

    That order never changes while a session is shown, so that no row jumps.
    """
    nearest = sorted(sessions, key=lambda row: (ends_at(row), row.session_id))[:most]
    return sorted(nearest, key=lambda row: (row.opened_at, row.session_id))


def ends_at(row: SessionRow) -> Millis:
    """When its epoch ended, or will end unless something happens."""
    if row.end is not None:
        return row.end.effective_at
    return min(_deadline(row.idle), _deadline(row.absolute))


def line(command: CommandRecord) -> str:
    """A command in one line of plain text: for logs, pipes and people who read without a terminal."""
    said = [clock(command.issued_at), f"{printable(command.type):<17}", printable(command.session_id)]
    said.append(printable(command.reason))
    if command.epoch > 0:
        said.append(f"epoch={command.epoch}")
    if command.limit_ms is not None:
        said.append(f"limit={left(command.limit_ms)}")
    if command.rule:
        said.append(f"rule={printable(command.rule)}")
    if command.lead_ms is not None:
        said.append(f"in={left(command.lead_ms)}")
    if command.subject:
        said.append(f"subject={printable(command.subject)}")
    return " ".join(said)


def clock(at: Millis) -> str:
    """The time of day, UTC, with milliseconds."""
    return datetime.fromtimestamp(max(0, at) / 1000, UTC).strftime("%H:%M:%S.%f")[:-3] + "Z"


def left(duration: Millis) -> str:
    """A duration in at most five characters: `3.2s`, `42s`, `9m05`, `3h10`, `12d`; `due` where it has passed."""
    if duration <= 0:
        return "due"
    if duration < 10 * SECOND:
        tenths = -(-duration // 100)
        return f"{tenths // 10}.{tenths % 10}s" if duration % SECOND else f"{duration // SECOND}s"
    if duration < 2 * MINUTE:
        return f"{-(-duration // SECOND)}s"
    if duration < HOUR:
        return f"{duration // MINUTE}m{duration % MINUTE // SECOND:02d}"
    if duration < 2 * DAY:
        return f"{duration // HOUR}h{duration % HOUR // MINUTE:02d}"
    return f"{duration // DAY}d"


def _whole(duration: Millis) -> Millis:
    """Whole seconds, at least one: for what passes, where tenths would only flicker."""
    return max(SECOND, duration // SECOND * SECOND)


def _deadline(limit: LimitView) -> Millis:
    return NEVER if limit.deadline is None else limit.deadline


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _header(picture: Picture) -> Text:
    text = Text("Session Monitor", style="bold")
    if picture.started_at:
        text.append(f"  up {left(_whole(picture.now - picture.started_at))}", style="dim")
    for name, address in picture.links:
        text.append(f"  {printable(name)} ", style="dim").append(printable(address), style="cyan")
    return _cut(text)


def _figures(picture: Picture) -> Text:
    text = Text()
    figures = (
        ("live", str(picture.live), True),
        ("ended", str(picture.ended), True),
        ("events/s", f"{picture.events_rate:.1f}", True),
        ("commands/s", f"{picture.commands_rate:.1f}", True),
        ("lag", f"{picture.lag_records} records, {picture.lag_ms / 1000:.1f}s", picture.lag_ms < BEHIND),
        ("partitions", f"{picture.owned}/{picture.partitions}", picture.owned == picture.partitions),
    )
    for place, (name, value, well) in enumerate(figures):
        text.append("   " if place else "").append(f"{name} ", style="dim")
        text.append(value, style="bold" if well else "bold red")
    return _cut(text)


def _table(*columns: Column) -> Table:
    return Table(*columns, box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim underline")


def _column(name: str, width: int) -> Column:
    return Column(name, width=width, no_wrap=True, overflow="ellipsis")


def _sessions(picture: Picture, rows: int, *, wide: bool, plain_bars: bool) -> Table:
    bar, rule = (14, 20) if wide else (6, 15)
    limit = bar + rule + 7
    extra = [_column("workload", 10), _column("state", 8)] if wide else []
    table = _table(
        _column("session", 12 if wide else 8), _column("subject", 24 if wide else 19), _column("class", 12), *extra,
        _column("idle: time left, rule", limit), _column("absolute: time left, rule", limit),
    )  # fmt: skip
    for row in chosen(picture.sessions, rows):
        style = "dim" if row.end else ""
        said = (row.session_id, row.subject, row.classification, row.workload)[: 4 if wide else 3]
        cells = [Text(printable(word or "-"), style=style) for word in said]
        if wide:
            cells.append(Text(row.state, style=STATES.get(row.state, "")))
        cells += _limits(row, picture.now, bar, plain=plain_bars)
        table.add_row(*cells)
    if not picture.sessions:
        table.add_row(Text("-"), Text("no sessions yet", style="dim"))
    return table


def _limits(row: SessionRow, now: Millis, bar: int, *, plain: bool) -> list[Text]:
    end = row.end
    if end is None:
        return [_countdown(limit, now, bar, plain=plain) for limit in (row.idle, row.absolute)]
    how = Text(row.state, style=STATES.get(row.state, "")).append(f" {left(_whole(now - end.effective_at))} ago", style="dim")
    why = Text(end.reason, style="bold").append(f" {printable(end.rule)}" if end.rule else "", style="dim")
    return [how, why]


def _countdown(limit: LimitView, now: Millis, width: int, *, plain: bool) -> Text:
    on, off = ("#", "-") if plain else ("━", "─")
    if limit.deadline is None or limit.limit_ms is None:
        return Text(on * width, style="green").append(f"  none {printable(limit.rule)}", style="dim")
    remaining = limit.deadline - now
    share = min(1.0, max(0.0, remaining / max(1, limit.limit_ms)))
    style = "green" if share > 0.5 else "yellow" if share > 0.25 else "red"
    full = round(share * width)
    text = Text(on * full, style=style).append(off * (width - full), style="dim")
    return text.append(f" {left(remaining):>5} ", style=style).append(printable(limit.rule), style="dim")


def _commands(picture: Picture, rows: int, *, wide: bool) -> Table:
    table = _table(
        _column("time", 13), _column("command", 17), _column("session", 12 if wide else 8), _column("reason", 16),
        _column("limit", 5), _column("rule", 24 if wide else 15), _column("subject", 30 if wide else 19),
    )  # fmt: skip
    for command in picture.commands[-rows:]:
        limit = "" if command.limit_ms is None else left(command.limit_ms)
        said = (command.session_id, command.reason, limit, command.rule or "", command.subject or "")
        kind = Text(printable(command.type), style=COMMANDS.get(command.type, ""))
        table.add_row(Text(clock(command.issued_at), style="dim"), kind, *(Text(printable(word)) for word in said))
    return table
