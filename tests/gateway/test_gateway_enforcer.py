"""The enforcer: each decision is counted once, and told to every witness."""

from monitor.gateway import Facts, MemoryView, Now
from monitor.gateway.enforcer import Enforcer, Seen
from monitor.gateway.verdict import Outcome, Verdict
from tests.gateway.worlds import T

NOW = Now(T, 0)
ONE, TWO = Facts("s-1"), Facts("s-2")
SEEN = Seen("curl/8", T + 1)


class Notes(list):
    """A witness that writes down."""

    def admitted(self, facts, seen, now) -> None:
        self.append(("admitted", facts.session_id, seen, now))

    def refused(self, facts, verdict, seen, now) -> None:
        self.append((verdict.reason, facts.session_id, seen, now))


def enforcer(*witnesses) -> Enforcer:
    view = MemoryView()
    view.watermark(T, 0)
    view.expire("s-2", T)
    return Enforcer(view, lambda: NOW, witnesses=witnesses)


def counted(one: Enforcer, verdict: str, reason: str) -> float | None:
    return one.metrics.registry.get_sample_value("session_monitor_gateway_decisions_total", {"verdict": verdict, "reason": reason})


def test_every_witness_hears_of_each_decision() -> None:
    first, second = Notes(), Notes()
    one = enforcer(first, second)
    assert one.decide(ONE, SEEN).admitted
    assert not one.decide(TWO, SEEN).admitted
    assert first == second == [("admitted", "s-1", SEEN, NOW), ("idle_timeout", "s-2", SEEN, NOW)]
    assert (counted(one, "admit", ""), counted(one, "refuse", "idle_timeout")) == (1, 1)


def test_a_look_is_neither_counted_nor_told() -> None:
    notes = Notes()
    one = enforcer(notes)
    assert (one.look(ONE).admitted, one.look(TWO).admitted) == (True, False)
    assert (notes, counted(one, "admit", ""), counted(one, "refuse", "idle_timeout")) == ([], 0, 0)


def test_who_is_turned_away_is_counted_and_told_to_nobody() -> None:
    notes = Notes()
    one = enforcer(notes)
    verdict = Verdict(Outcome.REFUSE, "token_invalid")
    assert one.turned_away(verdict) is verdict
    assert (notes, counted(one, "refuse", "token_invalid")) == ([], 1)


def test_who_wants_to_know_hears_of_what_was_cut() -> None:
    told = []

    class Cuts(Notes):
        def cut(self, session_id, verdict, inflight) -> None:
            told.append((session_id, verdict.reason, inflight))

    one = enforcer(Notes(), Cuts())
    one.cut(TWO, one.look(TWO), 3)
    one.cut(Facts(), Verdict(Outcome.REFUSE, "a new word"), 2)
    assert told == [("s-2", "idle_timeout", 3)]
    count = one.metrics.registry.get_sample_value
    assert [count("session_monitor_gateway_cut_total", {"reason": reason}) for reason in ("idle_timeout", "other")] == [3, 2]
