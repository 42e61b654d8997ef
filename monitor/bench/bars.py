"""What a figure has to be, and under which conditions; results judged by it. Pure.

A figure taken under easier conditions than its bar asks for has not met it: it is `unlike`, and that is no success.
"""

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
import orjson

from monitor.core.errors import InputError

Number = int | float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one benchmark."""

    bench: str
    at: str
    """When it ended (RFC 3339)."""
    machine: dict[str, Any]
    broker: str
    conditions: dict[str, Any]
    """What was asked for, and what of it was reached."""
    figures: dict[str, Number | None]
    """None: not measured in this run."""
    how: str


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A bound of one figure."""

    bench: str
    figure: str
    bound: float
    at_least: bool = False
    """Else at most."""
    conditions: dict[str, tuple[float, float]] = {}
    """The range of each condition within which the bar speaks of a result."""

    def holds(self, value: Number) -> bool:
        """Whether a value meets it."""
        if not math.isfinite(value):
            return False
        return value >= self.bound if self.at_least else value <= self.bound

    def why_not(self, result: Result) -> str | None:
        """Which condition the result does not fulfil; None where it fulfils all."""
        for name, (low, high) in self.conditions.items():
            given = result.conditions.get(name)
            if not isinstance(given, int | float) or not low <= given <= high:
                wanted = f"at least {low:g}" if high == _ANY else f"{low:g} to {high:g}"
                return f"{name} is {given}, the bar is for {wanted}"
        return None

    @property
    def words(self) -> str:
        """The bound, readable."""
        return f"{'>=' if self.at_least else '<='} {self.bound:,g}" if self.bound < 1e5 else (
            f"{'>=' if self.at_least else '<='} {self.bound:,.0f}"
        )  # fmt: skip


class Outcome(StrEnum):
    """What a bar says of a result."""

    MET = "met"
    MISSED = "missed"
    UNLIKE = "unlike"
    """Not measured, or not under the conditions of any bar of this figure."""


class Verdict(msgspec.Struct, frozen=True):
    """One figure beside its bar."""

    bench: str
    figure: str
    measured: Number | None
    bar: str
    outcome: Outcome
    why: str = ""


_ANY: Final = math.inf
_FEW: Final = {"sessions": (50_000.0, 999_999.0)}
_MILLION: Final = {"sessions": (1_000_000.0, _ANY)}
_MINUTE: Final = {"seconds_measured": (59.0, _ANY), "event_bytes": (250.0, 250.0)}
_LATENCY: Final = {"events_per_second": (19_000.0, _ANY), "expiries_per_second": (475.0, _ANY), "seconds_measured": (29.0, _ANY)}

BARS: Final = (
    Bar(bench="throughput", figure="events_per_cpu_second_warm", bound=200_000, at_least=True, conditions=_FEW | _MINUTE),
    Bar(bench="throughput", figure="events_per_cpu_second_warm", bound=100_000, at_least=True, conditions=_MILLION | _MINUTE),
    Bar(bench="throughput", figure="bytes_per_session", bound=450, conditions=_FEW),
    Bar(bench="throughput", figure="bytes_per_session", bound=450, conditions=_MILLION),
    Bar(bench="latency", figure="p50_ms", bound=25, conditions=_LATENCY),
    Bar(bench="latency", figure="p99_ms", bound=80, conditions=_LATENCY),
    Bar(bench="latency", figure="silent_p50_ms", bound=25, conditions=_LATENCY),
    Bar(bench="latency", figure="silent_p99_ms", bound=80, conditions=_LATENCY),
    Bar(
        bench="recovery", figure="compacted_seconds", bound=10,
        conditions={"sessions_recovered_compacted": (1_000_000.0, _ANY), "changelog_records_per_session": (0.0, 1.25)},
    ),
    Bar(
        bench="recovery", figure="loaded_seconds", bound=30,
        conditions={
            "sessions_recovered_loaded": (1_000_000.0, _ANY), "minutes": (10.0, _ANY), "load_reached_share": (0.95, _ANY),
        },
    ),
    Bar(bench="revoke", figure="all_visible_ms", bound=2_000, conditions={"sessions_revoked": (100_000.0, _ANY)}),
    Bar(bench="revoke", figure="longest_stall_ms", bound=250, conditions={"sessions_revoked": (100_000.0, _ANY)}),
    Bar(
        bench="check", figure="decisions_per_cpu_second", bound=1_000_000, at_least=True,
        conditions={"locks": (100.0, _ANY), "ended_share": (0.095, 0.105), "sessions": (100_000.0, _ANY)},
    ),
    Bar(bench="view", figure="loaded_seconds", bound=10, conditions={"ended_sessions_known": (1_000_000.0, _ANY)}),
    Bar(bench="view", figure="bytes_per_ended_session", bound=200, conditions={"ended_sessions_known": (1_000_000.0, _ANY)}),
    Bar(
        bench="edge", figure="due_p99_ms", bound=500,
        conditions={"asked_per_second_at_envoy": (380.0, _ANY), "events_per_second": (2_000.0, _ANY), "expiries_measured": (190.0, _ANY)},
    ),
    Bar(bench="failover", figure="seconds_past_session_timeout", bound=5, conditions={"partitions_moved": (1.0, _ANY), "sessions": (100_000.0, _ANY)}),
)  # fmt: skip


def judge(result: Result, bars: Sequence[Bar] = BARS) -> list[Verdict]:
    """Each figure of the result that some bar speaks of, in the order of the bars: one verdict a figure."""
    verdicts = []
    for figure in dict.fromkeys(bar.figure for bar in bars if bar.bench == result.bench):
        candidates = [bar for bar in bars if bar.bench == result.bench and bar.figure == figure]
        fitting = [bar for bar in candidates if bar.why_not(result) is None]
        measured = result.figures.get(figure)
        shown = fitting or candidates
        words = " or ".join(dict.fromkeys(bar.words for bar in shown))
        if measured is None:
            verdicts.append(Verdict(result.bench, figure, None, words, Outcome.UNLIKE, "not measured"))
        elif not fitting:
            why = "; ".join(dict.fromkeys(said for bar in candidates if (said := bar.why_not(result))))
            verdicts.append(Verdict(result.bench, figure, measured, words, Outcome.UNLIKE, why))
        else:
            met = all(bar.holds(measured) for bar in fitting)
            verdicts.append(Verdict(result.bench, figure, measured, words, Outcome.MET if met else Outcome.MISSED))
    return verdicts


def missed(result: Result, bounds: Iterable[Bar]) -> list[str]:
    """Which bounds, given for this run, it does not meet: a line each. What was not measured is not met."""
    lines = []
    for bound in bounds:
        measured = result.figures.get(bound.figure)
        if measured is None or not bound.holds(measured):
            said = "not measured" if measured is None else f"{measured:,g}"
            lines.append(f"{result.bench}: {bound.figure} is {said}, wanted {bound.words}")
    return lines


def read_results(text: str | bytes, name: str = "results") -> list[Result]:
    """Results as `-o json` or `-o ndjson` wrote them: one, a list, or one a line. Raises InputError."""
    try:
        try:
            said = orjson.loads(text)
        except orjson.JSONDecodeError:
            said = [orjson.loads(line) for line in text.splitlines() if line.strip()]
        found = msgspec.convert(said if isinstance(said, list) else [said], list[Result])
    except (orjson.JSONDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{name}: no result of `session-monitor bench`: {error}") from None
    if not found:
        raise InputError(f"{name}: no result in it")
    return found
