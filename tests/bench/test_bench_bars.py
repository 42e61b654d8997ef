"""Results judged by the bars: met, missed, or taken under easier conditions."""

from typing import Any

import msgspec
import orjson
import pytest

from monitor.bench.bars import BARS, Bar, Outcome, Result, judge, missed, read_results
from monitor.core.errors import InputError

LATENCY = {"events_per_second": 19_990, "expiries_per_second": 500.2, "seconds_measured": 60.0}
FINE = {"p50_ms": 25.0, "p99_ms": 80.0, "silent_p50_ms": 1.0, "silent_p99_ms": 2.0}


def result(bench: str, conditions: dict[str, Any], figures: dict[str, Any]) -> Result:
    return Result(bench=bench, at="", machine={}, broker="", conditions=conditions, figures=figures, how="")


def outcomes(found: Result) -> dict[str, Outcome]:
    return {verdict.figure: verdict.outcome for verdict in judge(found)}


def test_a_bar_is_met_at_its_bound_and_missed_past_it() -> None:
    assert set(outcomes(result("latency", LATENCY, FINE)).values()) == {Outcome.MET}
    said = outcomes(result("latency", LATENCY, FINE | {"p99_ms": 80.1}))
    assert said.pop("p99_ms") is Outcome.MISSED
    assert set(said.values()) == {Outcome.MET}


@pytest.mark.parametrize(
    "easier", [{"events_per_second": 2_000}, {"expiries_per_second": 50}, {"seconds_measured": 5}, {"events_per_second": None}]
)
def test_easier_conditions_meet_no_bar(easier) -> None:
    verdicts = judge(result("latency", LATENCY | easier, FINE))
    assert {verdict.outcome for verdict in verdicts} == {Outcome.UNLIKE}
    assert next(iter(easier)) in verdicts[0].why


def test_what_was_not_measured_is_said() -> None:
    verdicts = judge(result("latency", LATENCY, FINE | {"silent_p50_ms": None}))
    assert [verdict.why for verdict in verdicts if verdict.outcome is not Outcome.MET] == ["not measured"]


@pytest.mark.parametrize(
    ("sessions", "rate", "outcome"),
    [
        (50_000, 200_000, Outcome.MET), (50_000, 199_999, Outcome.MISSED),
        (1_000_000, 100_000, Outcome.MET), (1_000_000, 99_999, Outcome.MISSED), (10_000, 900_000, Outcome.UNLIKE),
    ],
)  # fmt: skip
def test_throughput_has_a_bar_for_each_number_of_sessions(sessions, rate, outcome) -> None:
    conditions = {"sessions": sessions, "seconds_measured": 60.1, "event_bytes": 250}
    assert outcomes(result("throughput", conditions, {"events_per_cpu_second_warm": rate}))["events_per_cpu_second_warm"] is outcome


def test_a_figure_that_is_no_number_meets_nothing() -> None:
    assert not Bar(bench="x", figure="y", bound=1).holds(float("nan"))
    assert not Bar(bench="x", figure="y", bound=1, at_least=True).holds(float("inf"))


def test_bounds_given_for_a_run_name_what_misses_them() -> None:
    found = result("latency", {}, {"p50_ms": 30.0, "p99_ms": None})
    lines = missed(found, [Bar(bench="", figure=name, bound=25) for name in ("p50_ms", "p99_ms")])
    assert [("30" in line, "not measured" in line) for line in lines] == [(True, False), (False, True)]
    assert missed(found, [Bar(bench="", figure="p50_ms", bound=30)]) == []


def test_every_bench_has_a_bar() -> None:
    assert {bar.bench for bar in BARS} == {"throughput", "latency", "recovery", "revoke", "failover", "check", "view", "edge"}


def test_results_are_read_as_they_were_printed() -> None:
    two = [result("latency", LATENCY, FINE), result("revoke", {}, {"all_visible_ms": 1})]
    said = [msgspec.to_builtins(one) for one in two]
    assert read_results(orjson.dumps(said, option=orjson.OPT_INDENT_2)) == two
    assert read_results(b"\n".join(orjson.dumps(one) for one in said)) == two
    assert read_results(orjson.dumps(said[0])) == two[:1]


@pytest.mark.parametrize("text", [b"", b"[]", b"not json", b'{"bench": "latency"}', b'[{"bench": 1}]'])
def test_what_is_no_result_is_refused(text) -> None:
    with pytest.raises(InputError, match="no result"):
        read_results(text)
