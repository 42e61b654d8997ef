"""`bench check` measures decisions, and counts every one of them."""

import orjson
import pytest

from monitor.bench import check
from monitor.bench.bars import BARS, Outcome, judge, read_results


def test_a_run_counts_its_refusals_and_finds_a_tenth_of_the_sessions_ended() -> None:
    found = check.measure(sessions=1000, locks=10, decisions=5000)
    assert found.ended_known == 100
    assert found.refused_share == pytest.approx(0.1, abs=0.005)
    assert found.worst <= found.per_second <= found.best


def test_a_small_run_is_told_and_meets_no_bar(cli) -> None:
    done = cli("bench", "check", "--sessions", "1000", "--decisions", "10000", "--at-least", "1", "-o", "json")
    assert done.code == 0, done.err
    (result,) = read_results(done.out)
    assert result.figures["decisions_per_cpu_second"] > 0
    (verdict,) = judge(result)
    assert verdict.outcome is Outcome.UNLIKE
    assert "check" in {bar.bench for bar in BARS}
    assert orjson.loads(done.out)[0]["conditions"]["locks"] == 100


def test_a_bound_that_is_missed_ends_it_with_1(cli) -> None:
    done = cli("bench", "check", "--sessions", "1000", "--decisions", "10000", "--at-least", "1000000000")
    assert done.code == 1
    assert "wanted >= 1,000,000,000" in done.err
