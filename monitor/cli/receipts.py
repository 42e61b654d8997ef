"""`receipts`: which gateway has applied what, how long commands take to be in force there, and what is unapplied."""

import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from monitor.cli.durations import within
from monitor.cli.enforced import Enforced, read_enforced
from monitor.cli.failure import Refused
from monitor.cli.output import Format, Output, hint, show
from monitor.cli.settings import Installation, takes_installation
from monitor.core.instants import DAY, HOUR, SECOND, Millis
from monitor.detect.enforcement import GatewayState, Standing
from monitor.wire.times import format_time

WINDOWS: Final = (10 * SECOND, 7 * DAY)
"""The topic keeps a week."""
DELAYS: Final = (SECOND, HOUR)
GATEWAYS: Final = (
    "gateway", "state", "seen_ms_ago", "lag", "control_lag", "view_age_ms", "unapplied", "oldest_ms", "refused", "p50_ms", "p99_ms",
)  # fmt: skip
PARTITIONS: Final = ("gateway", "partition", "applied", "end", "lag")


def register(program: typer.Typer) -> None:
    """Put the verb on the program."""
    program.command()(receipts)


@takes_installation
def receipts(
    installation: Installation,
    since: Annotated[str, typer.Option(help="Gateways and commands since so long ago: a gateway that has said nothing for longer is not known.")] = "10m",
    by_partition: Annotated[bool, typer.Option("--by-partition", help="How far each gateway is on each partition of session-commands.")] = False,
    max_delay: Annotated[
        str, typer.Option(help="Exit code 4 where a command has been unapplied for longer, where a gateway is silent, or where there is none.")
    ] = "",
    output: Output = Format.TABLE,
) -> None:  # fmt: skip
    """Tell of each gateway what it has applied of session-commands, how long that took, and what it has not applied.

    Lags are in records. Of a gateway that is silent (no receipt for 15 s) it is not known whether it refuses what has
    ended since; of one that has stopped nothing is expected. Durations reach from a command's append time, by the
    broker's clock, to the gateway's word, by its own.
    """
    window = within("--since", since, WINDOWS)
    limit = within("--max-delay", max_delay, DELAYS) if max_delay else None
    now = time.time_ns() // 1_000_000
    enforced = read_enforced(installation, now - window)
    standings = list(enforced.ledger.standings(now))
    if by_partition:
        show((row for one in standings for row in partition_rows(one, enforced)), PARTITIONS, output)
    else:
        show((gateway_row(one, enforced, now) for one in standings), GATEWAYS, output)
    if not standings:
        hint(f"no gateway has told anything in the last {since}: is one running (session-monitor gateway)?")
    if limit is not None and (faults := list(faults_of(standings, now, limit))):
        raise Refused(f"not everything is enforced everywhere: {'; '.join(faults)}")


def gateway_row(one: Standing, enforced: Enforced, now: Millis) -> dict[str, Any]:
    """One gateway, whole."""
    oldest = one.oldest_unapplied
    lags = {number: _lag(end, one.positions.get(number, -1)) for number, end in enforced.ends.items()}
    return {
        "gateway": one.gateway, "state": one.state.value, "last_seen": format_time(one.last_seen), "seen_ms_ago": max(0, now - one.last_seen),
        "lag": sum(lags.values()), "control_lag": _lag(enforced.control_end, one.control), "view_age_ms": one.view_age,
        "unapplied": one.unapplied, "oldest_ms": None if oldest is None else max(0, now - oldest.appended),
        "oldest_unapplied": None if oldest is None else {
            "session_id": oldest.session_id, "partition": oldest.partition, "offset": oldest.offset, "appended": format_time(oldest.appended),
        },
        "refused": one.refused, "inflight_cut": one.inflight_cut, "enforced": one.enforced, "p50_ms": one.p50, "p99_ms": one.p99,
        "positions": one.positions, "ends": enforced.ends, "control": one.control, "control_end": enforced.control_end,
    }  # fmt: skip


def partition_rows(one: Standing, enforced: Enforced) -> Iterator[dict[str, Any]]:
    """One gateway on each partition."""
    for number, end in sorted(enforced.ends.items()):
        applied = one.positions.get(number, -1)
        yield {"gateway": one.gateway, "partition": number, "applied": applied, "end": end, "lag": _lag(end, applied)}


def faults_of(standings: list[Standing], now: Millis, limit: Millis) -> Iterator[str]:
    """What keeps a check from passing, a phrase each."""
    if not standings:
        yield "no gateway has told anything"
    for one in standings:
        oldest = one.oldest_unapplied
        if one.state is GatewayState.SILENT:
            yield f"{one.gateway} has been silent for {(now - one.last_seen) // SECOND} s, {one.unapplied} commands unapplied"
        elif oldest is not None and now - oldest.appended > limit:
            age = (now - oldest.appended) // SECOND
            yield f"{one.gateway} has {one.unapplied} commands unapplied, the oldest of {oldest.session_id!r} for {age} s"


def _lag(end: int, applied: int) -> int:
    return max(0, end - 1 - applied)
