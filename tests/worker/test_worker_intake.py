"""The hot way and the cold way give the same sessions, counts, commands and dead letters."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.core.session import Session
from monitor.testing import Driver
from monitor.wire.times import format_time
from monitor.worker import intake

POLICY = """
version: 1
defaults: {idle: 10s, absolute: 60s, warn_before: [2s]}
rules:
  - {name: secret, when: {classification: restricted}, idle: 4s}
"""
BASE = 1_795_000_000_000

times = st.sampled_from(["canonical"] * 4 + ["seconds", "micros", "offset", "none", "bad", "leap"])
ids_alike = [["a1", "b2"], ["c-3", "d-4"], [None]]
odd_ids = ["", 'q"', "ü", "x y", None]


def _time(form: str, at: int) -> Any:
    canonical = format_time(at)
    return {
        "canonical": canonical, "seconds": canonical[:19] + "Z", "micros": canonical[:23] + "456+00:00",
        "offset": canonical[:23] + "+02:00", "bad": canonical[:20] + "x00Z", "leap": canonical[:17] + "60.000Z",
    }.get(form)  # fmt: skip


@st.composite
def producers(draw: st.DrawFn, session: str) -> tuple[str, dict[str, Any], bool, bool]:
    """How one producer writes the events of a session: always alike but for time and id."""
    event: dict[str, Any] = {"type": "session.activity", "session_id": session}
    event["activity"] = draw(st.sampled_from(["human", "human", "keepalive", "agent"]))
    if draw(st.booleans()):
        event["classification"] = draw(st.sampled_from(["internal", "internal", "restricted"]))
    if draw(st.integers(0, 5)) == 0:
        event["auth_time"] = format_time(BASE + draw(st.sampled_from([0, 100, 3000])))
    return draw(times), event, draw(st.booleans()), draw(st.booleans())


@st.composite
def records(draw: st.DrawFn) -> list[tuple[bytes | None, bytes | None, int]]:
    log = []
    at = BASE
    makers = [draw(producers(session)) for session in ("s1", "s1", "s2")]
    usual = draw(st.sampled_from(ids_alike))
    for _ in range(draw(st.integers(5, 40))):
        at += draw(st.sampled_from([0, 0, 1, 500, 2500, 7000, 12_500]))
        form, template, ascii_only, id_first = draw(st.sampled_from([makers[0]] * 6 + makers))
        event = dict(template)
        if form == "canonical":
            form = draw(st.sampled_from(["canonical"] * 12 + ["bad", "leap"]))
        if form != "none":
            event["time"] = _time(form, at - draw(st.sampled_from([0, 0, 10, 3000, 9000, 11_000, -5000])))
        id_ = draw(st.sampled_from(usual * 4 + odd_ids))
        if id_ is not None:
            event = {"id": id_, **event} if id_first else {**event, "id": id_}
        if draw(st.integers(0, 19)) == 0:
            event["type"] = "session.closed"
        value = json.dumps(event, ensure_ascii=ascii_only).encode()
        session = template["session_id"].encode()
        key = draw(st.sampled_from([session] * 12 + [b"s1", b"\xff", None]))
        log.append((key, value, at))
    return log


def _outcome(log: list[tuple[bytes | None, bytes | None, int]]) -> tuple[Any, ...]:
    driver = Driver(POLICY)
    watermarks = []
    for start in range(0, len(log), 3):
        driver.append_all(log[start : start + 3])
        watermarks.append(driver.watermark)
    driver.tick(log[-1][2] + 100_000)
    sessions = {
        name: {
            field: getattr(session, field)
            for field in ("plan", "source", "aside", *(n for n, what in vars(Session).items() if isinstance(what, property)))
            if field not in {"likeness", "timer", "dirty", "touched", "seen", "columns"}
        }
        for name, session in driver.sessions.items()
    }
    hot = driver._intake.hot
    return (sessions, driver.commands, driver.lifecycle, driver.dead_letters, watermarks), hot


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(records())
def test_hot_and_cold_agree(monkeypatch: pytest.MonkeyPatch, log: list[tuple[bytes | None, bytes | None, int]]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(intake, "layout_of", lambda *_: None)
        cold, taken_hot = _outcome(log)
        assert not taken_hot

    assert _outcome(log)[0] == cold


@pytest.mark.parametrize("names", [("id", "time"), ("time", "id"), ("time",), ("id",), ()])
def test_steady_activity_takes_the_hot_way(names: tuple[str, ...]) -> None:
    driver = Driver(POLICY)
    for number in range(50):
        said = {"id": f"{number:04d}", "time": format_time(BASE + number)}
        event = {"type": "session.activity", **{name: said[name] for name in names}, "session_id": "s1"}
        driver.append(event, at=BASE + number)

    assert driver._intake.hot == 49
    assert driver.sessions["s1"].last_activity == BASE + 49
    assert driver.sessions["s1"].counted() == (50, 0, 0, 0)


def test_an_event_that_says_something_new_does_not() -> None:
    driver = Driver(POLICY)
    event = {"type": "session.activity", "session_id": "s1", "classification": "internal"}
    driver.append(event, at=BASE)
    driver.append(event | {"classification": "restricted"}, at=BASE + 1)

    assert driver._intake.hot == 0
    assert driver.sessions["s1"].plan.idle.rule == "secret"


def test_a_policy_gives_old_words_a_new_meaning() -> None:
    driver = Driver(POLICY)
    event = {"type": "session.activity", "session_id": "s1", "acr": "aal1", "time": format_time(BASE)}
    for number in range(3):
        driver.append(event, at=BASE + number)
    driver.policy(POLICY + "  - {name: all, idle: 1s}\n", at=BASE + 3)
    driver.tick(BASE + 3)
    hot = driver._intake.hot
    driver.append(event, at=BASE + 4)

    assert driver._intake.hot == hot
    assert driver.sessions["s1"].plan.idle.ms == 1000


def test_position_moves_with_every_record_of_a_fetch() -> None:
    driver = Driver(POLICY)
    log = [(b"s1", json.dumps({"type": "session.activity", "session_id": "s1"}).encode(), BASE + n) for n in range(200)]
    driver.append_all(log)

    assert driver.partition.offset == 200
    assert driver._intake.applied == 200
    assert driver.checkpoint() == 200
    assert msgspec.structs.asdict(driver.partition.position())["offset"] == 200
