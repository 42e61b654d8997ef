"""What holds for every log: the view merges, and the gateway decides, as the naive model does (I5 among it)."""

import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.events import Principal
from monitor.core.instants import NEVER
from monitor.gateway import Facts, Now, Posture, Settings, View, check
from monitor.policy import compile_policy
from monitor.policy.longest import LongestAbsolute
from monitor.wire.commands import encode_watermark
from monitor.wire.controls import POLICY_KEY
from tests.gateway.streams import (
    FACTS,
    INSTANTS,
    POLICY,
    SESSIONS,
    T0,
    Stored,
    command_value,
    commands,
    control_value,
    controls,
    monotone,
    policy_text,
)  # fmt: skip
from tests.model.gateway import decide, longest_absolute, strongest

EXAMPLES = int(max(1, 200 * float(os.environ.get("PROPERTY_FACTOR", "1"))))
MAX_AGE = 60_000
NOW = Now(T0, 0)
SETTINGS = Settings(max_view_age=MAX_AGE)
TEXT = policy_text(POLICY)
LIVE = {"posture": Posture.BEST_EFFORT}


def facts_of(said: dict[str, Any]) -> Facts:
    principal = {"principal": Principal(said["principal"])} if "principal" in said else {}
    return Facts(**(said | principal))


def stream(histories: dict[str, list[Any]], order: list[int]) -> list[tuple[str, Any]]:
    """The sessions' histories as one log: `order` says whose turn it is."""
    left = {name: list(history) for name, history in histories.items()}
    log = []
    for turn in order + list(range(sum(map(len, left.values())))):
        name = SESSIONS[turn % len(SESSIONS)]
        if left[name]:
            log.append((name, left[name].pop(0)))
    for name in SESSIONS:
        log += [(name, command) for command in left[name]]
    return log


def stored(log: list[tuple[str, Any]]) -> list[Stored]:
    return [Stored(n, 0, name.encode(), command_value(command)) for n, (name, command) in enumerate(log)]


histories = st.fixed_dictionaries(
    {name: st.lists(st.one_of(commands(name), commands(name), commands(name), st.none()), max_size=6) for name in SESSIONS}
)
orders = st.lists(st.integers(0, 2), max_size=18)


def refused(view: View, name: str, **said: Any) -> str:
    """The reason for which a session is refused, whatever its posture."""
    return check(view, Facts(session_id=name, **said, **LIVE), NOW).reason


def expected(history: list[Any], name: str, **said: Any) -> str:
    verdict = decide(None, history, [], {"session_id": name, **said}, now=T0, log_time=T0, age=0, behind=False, max_age=1)
    return verdict[1]


def alike(view: View, log: list[tuple[str, Any]], upto: int, said: dict[str, Any]) -> None:
    for name in SESSIONS:
        history = [command for whose, command in log[:upto] if whose == name]
        assert refused(view, name, **said) == expected(history, name, **said)


auths = st.fixed_dictionaries(
    {}, optional={"auth_time": INSTANTS, "whole_second": st.booleans(), "acr": st.sampled_from(("aal1", "aal2"))}
)


@settings(max_examples=EXAMPLES)
@given(histories, orders, auths, st.data())
def test_applied_up_to_x_every_command_at_or_below_x_is_in_force_whatever_comes_twice(histories, order, said, data) -> None:
    # Not only what the monitor would write: repetitions of what was said long ago, too.
    log = stream(histories, order)
    records = stored(log)
    view, at = View(1), 0
    while at < len(records):
        again = data.draw(st.integers(0, at), label="read again from")
        upto = data.draw(st.integers(at + 1, len(records)), label="to")
        view.take_commands(0, records[again:upto], NOW)
        at = upto
        assert view.positions == [at - 1]
        alike(view, log, at, said)


@settings(max_examples=EXAMPLES)
@given(histories, orders, auths, st.data())
def test_restart_and_compaction_at_any_point_change_nothing(histories, order, said, data) -> None:
    log = stream({name: monotone(history) for name, history in histories.items()}, order)
    records = stored(log)
    upto = data.draw(st.integers(0, len(records)), label="read to")
    compacted = data.draw(st.integers(0, upto), label="compacted to")
    last = {record.key: record.offset for record in records[:compacted]}
    buried = data.draw(st.booleans(), label="tombstones gone too")
    left = [
        record for record in records[:upto]
        if record.offset >= compacted or (last[record.key] == record.offset and not (buried and record.value is None))
    ]  # fmt: skip
    view = View(1)
    view.take_commands(0, left, NOW)
    view.read_to(0, upto - 1)
    assert view.positions == [upto - 1]
    alike(view, log, upto, said)


@settings(max_examples=EXAMPLES)
@given(histories, st.permutations(range(3)), orders, auths)
def test_the_order_between_partitions_does_not_matter(histories, partitions, order, said) -> None:
    view = View(3)
    left = {name: stored([(name, one) for one in history]) for name, history in histories.items()}
    for turn in order + [n for n in range(3) for _ in range(6)]:
        if left[SESSIONS[turn]]:
            view.take_commands(partitions[turn], [left[SESSIONS[turn]].pop(0)], NOW)
    for name, history in histories.items():
        assert refused(view, name, **said) == expected(history, name, **said)


@settings(max_examples=EXAMPLES)
@given(histories, orders)
def test_between_tombstones_nothing_but_a_higher_epoch_admits_again(histories, order) -> None:
    # By itself, without the model: once refused without hope, always refused, until a reinstatement of a later epoch.
    log = stream(histories, order)
    view, hopeless = View(1), {}
    for record, (name, command) in zip(stored(log), log, strict=True):
        view.take_commands(0, [record], NOW)
        if command is None:
            hopeless.pop(name, None)
        elif command["type"] == "session.revoke" and refused(view, name) == "admin_revoked":
            hopeless[name] = max(hopeless.get(name, -1), command["epoch"])
        if name in hopeless and refused(view, name) == "":
            assert (command["type"], command["epoch"] > hopeless.pop(name)) == ("session.reinstate", True)


@settings(max_examples=4 * EXAMPLES)
@given(
    st.booleans(), st.lists(commands("s-1"), max_size=2), st.lists(controls(), max_size=4), FACTS, INSTANTS, INSTANTS,
    st.sampled_from((0, MAX_AGE, MAX_AGE + 1)), st.booleans(), st.booleans(),
)  # fmt: skip
def test_decides_as_the_naive_model(ruled, history, ordered, said, now, log_time, age, behind, marked) -> None:
    view = View(1)
    if ruled:
        view.take_controls([_policy(0)])
    view.take_controls(Stored(n + 1, appended, b"", control_value(control)) for n, (appended, control) in enumerate(ordered))
    view.control_read_to(10)
    view.take_commands(0, stored([("s-1", command) for command in history]), NOW)
    if marked:
        mark = encode_watermark(0, log_time, log_time, 11 if behind else 10, log_time)
        view.take_commands(0, [Stored(99, 0, mark.key, mark.value)], NOW)
    verdict = check(view, facts_of(said), Now(now, age), SETTINGS)
    found = ("stale" if verdict.stale else "admit") if verdict.admitted else "refuse", verdict.reason
    wanted = decide(
        POLICY if ruled else None, history if said["session_id"] == "s-1" else [], ordered, said, now=now,
        log_time=log_time if marked else -1, age=age if marked else float("inf"), behind=behind and marked, max_age=MAX_AGE,
    )  # fmt: skip
    assert found == wanted


@settings(max_examples=EXAMPLES)
@given(FACTS, INSTANTS, st.data())
def test_the_longest_absolute_limit_is_never_shorter_than_any_completions(said, at, data) -> None:
    policy = compile_policy(TEXT)
    longest = LongestAbsolute(policy)
    limit = longest.limit(facts_of(said), at).ms
    assert limit == longest_absolute(POLICY, said, at)
    assert limit >= longest.shortest == 5000
    completed = facts_of(data.draw(FACTS.filter(len), label="completion") | said)
    assert limit >= longest.limit(completed, at).ms


def test_that_there_are_no_roles_is_knowledge() -> None:
    longest = LongestAbsolute(compile_policy(TEXT))
    limits = [longest.limit(Facts(subject="alice", roles=roles), T0 - 1).ms for roles in (None, (), ("analyst",), ("admin",))]
    assert limits == [20_000, 15_000, 20_000, 5000]


def test_the_model_is_not_idle() -> None:
    command = {"type": "session.expire", "epoch": 1, "cutoff": 5, "reauth": {"allowed": True}, "reason": "idle_timeout"}
    weaker = command | {"epoch": 0, "type": "session.revoke"}
    assert strongest([command, weaker]) is command
    assert strongest([command, weaker, None]) is None
    assert longest_absolute(POLICY, {}, T0) == 15_000
    assert longest_absolute(POLICY, {}, T0 - 1) == 30_000
    assert NEVER > T0


def _policy(offset: int) -> Stored:
    said = {"type": "control.policy", "id": "policy", "policy_text": TEXT, "policy_version": "12345678"}
    return Stored(offset, 0, POLICY_KEY, control_value(said))
