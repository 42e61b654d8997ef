"""The worker's own code under every fault that can be drawn, in virtual time; judged by the naive model.

A failure prints its seed and the smallest plan that still shows it. `SIMULATION_SEED=<n>` carries out exactly that one;
`SIMULATION_SEEDS=5000` as many as that, from `SIMULATION_FIRST` on: the same for everybody, so that a run that passed passes again.
"""

import os
from types import SimpleNamespace

import pytest

from monitor.worker import owner, touches
from tests.simulation.judge import wrongs
from tests.simulation.process import Appender
from tests.simulation.scenario import Plan, Run, draw, smaller

ONE = os.environ.get("SIMULATION_SEED")
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "60"))
FIRST = int(os.environ.get("SIMULATION_FIRST", "0"))
CHUNKS = 10

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture(autouse=True)
def _made_for_simulation(monkeypatch):
    monkeypatch.setattr(owner, "gc", SimpleNamespace(collect=int, freeze=int))
    monkeypatch.setattr(touches, "LEAST", 3)  # generations end all the time
    monkeypatch.setattr(touches, "FULL", 1)
    monkeypatch.setattr(owner, "SWEEP", 2)
    monkeypatch.setattr(owner, "TURN", 0)  # each partition's share is a turn: others act between two of them


def fails(plan: Plan) -> list[str]:
    try:
        return wrongs(Run(plan).carry_out())
    except AssertionError as error:
        return [repr(error)]


def hold(seed: int) -> None:
    plan = draw(seed)
    wrong = fails(plan)
    if not wrong:
        return
    tries, again = 60, True
    while again and tries > 0:
        again = False
        for candidate in smaller(plan):
            tries -= 1
            if tries > 0 and (found := fails(candidate)):
                plan, wrong, again = candidate, found, True
                break
    told = "\n".join(wrong[:6])
    raise AssertionError(f"{told}\n{plan}\nSIMULATION_SEED={seed}")


@pytest.mark.parametrize("chunk", range(1 if ONE else CHUNKS))
def test_every_promise_holds_under_every_fault(chunk):
    each = max(1, SEEDS // CHUNKS)
    seeds = [int(ONE)] if ONE else range(FIRST + chunk * each, FIRST + chunk * each + each)
    for seed in seeds:
        hold(seed)


def test_a_seed_says_everything():
    def topics(seed):
        run = Run(draw(seed)).carry_out()
        return {place: [(r.offset, r.timestamp, r.key, r.value) for r in log] for place, log in run.cluster.history.items()}

    for seed in (5, 6, 7):
        assert topics(seed) == topics(seed)


def _settles_at_once(monkeypatch):
    async def settled(self, _mark):
        self.flush()

    monkeypatch.setattr(Appender, "settled", settled)


def test_a_worker_that_commits_before_it_is_acknowledged_is_caught(monkeypatch):
    _settles_at_once(monkeypatch)
    assert any(fails(draw(seed)) for seed in range(60))


def test_a_worker_that_keeps_what_it_tells_to_itself_is_caught(monkeypatch):
    async def silent(_self, _owned, **_how):
        pass

    monkeypatch.setattr(owner.Host, "_tell", silent)
    assert any(fails(draw(seed)) for seed in range(60))
