"""Generations of touch records: when one ends, and what goes with it."""

from monitor.worker.touches import FULL, LEAST, RECOVERED, TouchLog


def full(log: TouchLog, sessions: int = LEAST) -> bytes:
    """One record that fills the generation."""
    return log.add(FULL * max(sessions, LEAST))


def test_what_was_recovered_is_the_first_to_go() -> None:
    log = TouchLog("w/7", [b"~touch/v/3/0"])
    log.turn(10)
    assert log.retiring is None, "nothing is full yet"

    mine = full(log)
    log.turn(10)

    assert log.retiring == RECOVERED
    assert log.retired(RECOVERED) == [b"~touch/v/3/0"]
    assert b"~touch/v/3/0" not in log
    assert mine in log


def test_a_generation_goes_when_the_one_after_it_is_full() -> None:
    log = TouchLog("w/7")
    first = full(log)
    log.turn(10)
    log.retired(RECOVERED)
    log.turn(10)
    assert log.retiring is None

    second = full(log)
    log.turn(10)
    assert log.retiring is not None
    assert log.retired(log.retiring) == [first]
    assert second in log


def test_none_begins_while_one_is_being_retired() -> None:
    log = TouchLog("w/7")
    full(log)
    log.turn(10)
    generation = log.generation
    full(log)
    log.turn(10)

    assert log.generation == generation


def test_more_sessions_fill_later() -> None:
    log = TouchLog("w/7")
    full(log)
    log.turn(LEAST + 1)

    assert log.retiring is None


def test_generations_come_round() -> None:
    log = TouchLog("w/7")
    keys, gone = [], []
    for _ in range(600):
        keys.append(full(log))
        log.turn(10)
        assert log.retiring not in {None, log.generation}
        gone += log.retired(log.retiring or 0)

    assert len(set(keys)) == 600
    assert gone == keys[:599]
