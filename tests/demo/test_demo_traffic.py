"""The demo's traffic: reproducible, understood by the monitor, and rich enough to show what it does."""

from itertools import islice, pairwise, takewhile

import orjson
import pytest

from monitor.core.commands import CommandType
from monitor.core.events import EventType
from monitor.core.instants import MINUTE, SECOND
from monitor.core.lifecycle import LifecycleType
from monitor.core.reasons import Reason
from monitor.demo import POLICY, traffic
from monitor.demo.cast import AGENTS, PEOPLE, SERVICES
from monitor.policy import compile_policy
from monitor.policy.check import check
from monitor.publish.draft import draft
from monitor.testing import Driver
from monitor.wire.events import decode_access_event, to_event

BEGUN = 1_800_000_000_000
TICK = 50


def played(seed, length=2 * MINUTE):
    """The decisions over the traffic of a seed, with a tick every 50 ms of log time."""
    driver = Driver(POLICY.read_text(), now=BEGUN)
    ticked = 0
    for act in takewhile(lambda act: act.offset <= length, traffic(seed)):
        for at in range(ticked, act.offset + 1, TICK):
            driver.tick(BEGUN + at)
            ticked = at + TICK
        driver.append(act.event, BEGUN + act.offset)
    return driver


@pytest.fixture(scope="module")
def demo():
    return played(1)


def test_a_seed_gives_the_same_acts():
    first, again, other = (list(islice(traffic(seed), 500)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_acts_come_in_order_of_their_offsets_and_without_end():
    acts = list(islice(traffic(3), 5000))
    assert len(acts) == 5000
    assert acts[0].offset == 0
    assert all(before.offset <= after.offset for before, after in pairwise(acts))


def test_every_event_is_one_the_monitor_understands_and_the_sdk_takes():
    for act in islice(traffic(5), 2000):
        to_event(decode_access_event(orjson.dumps(act.event)), appended=BEGUN)
        said = {("kind" if name == "activity" else name): value for name, value in act.event.items()}
        draft(said.pop("type"), said.pop("session_id"), said)


def test_each_session_opens_once_and_first():
    opened = set()
    for act in islice(traffic(2), 3000):
        session_id = act.event["session_id"]
        assert (act.event["type"] == EventType.OPENED) == (session_id not in opened)
        opened.add(session_id)
    assert len(opened) > 100


def test_users_services_and_agents_appear_with_every_kind_of_activity():
    acts = list(islice(traffic(1), 3000))
    subjects = {act.event.get("subject") for act in acts} - {None}
    assert subjects == {persona.subject for persona in (*PEOPLE, *SERVICES, *AGENTS)}
    assert {act.event.get("activity") for act in acts} >= {"agent", "inflight", "keepalive", None}
    assert {act.event["type"] for act in acts} == set(EventType)


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_first_expiry_comes_within_five_seconds_whatever_the_seed(seed):
    driver = played(seed, 6 * SECOND)
    first = next(command for command in driver.commands if command.type is CommandType.EXPIRE)
    assert first.log_time - BEGUN <= 5 * SECOND


def test_a_warning_comes_before_the_first_expiry(demo):
    first = demo.commands[0]
    assert first.type is CommandType.WARN
    assert first.session_id == next(c for c in demo.commands if c.type is CommandType.EXPIRE).session_id


def test_two_minutes_show_every_kind_of_decision(demo):
    decided = {(command.type, command.reason) for command in demo.commands}
    assert decided >= {
        (CommandType.EXPIRE, Reason.IDLE_TIMEOUT),
        (CommandType.EXPIRE, Reason.ABSOLUTE_TIMEOUT),
        (CommandType.EXPIRE, Reason.CLOSED),
        (CommandType.WARN, Reason.IDLE_TIMEOUT),
        (CommandType.WARN, Reason.ABSOLUTE_TIMEOUT),
        (CommandType.REINSTATE, Reason.IDLE_TIMEOUT),
    }
    assert {one.type for one in demo.lifecycle} >= {LifecycleType.LATE_ACTIVITY, LifecycleType.ATTRIBUTES_CHANGED}
    assert any(one.observe for one in demo.lifecycle)
    assert {"defaults", "restricted-data", "privileged", "unattended-agents"} <= {c.rule for c in demo.commands}


def test_nothing_is_put_aside_and_memory_stays_bounded(demo):
    assert demo.dead_letters == []
    longer = played(1, 6 * MINUTE)
    assert len(longer.sessions) < 2 * len(demo.sessions)


def test_a_dozen_sessions_are_live_at_any_time_and_not_a_hundred():
    for seed in (1, 2):
        for seconds in (20, 60, 120):
            live = sum(s.end is None for s in played(seed, seconds * SECOND).sessions.values())
            assert 5 <= live <= 60


def test_the_policy_has_nothing_to_warn_of():
    assert check(compile_policy(POLICY.read_text()), BEGUN) == ()
