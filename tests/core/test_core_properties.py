"""The engine and the naive model decide alike; killed, restored and replayed too; and the invariants hold by themselves.

Histories come from `monitor.testing.strategies` and go through the whole decision path as bytes. A failing one is
made as small as it gets and told in the error, with the seed: `PROPERTY_SEED=<seed>` runs the same again;
`PROPERTY_FACTOR=0.1` runs a tenth of them (as `make test` does, for its time), 10 ten times as many; `.ci/run` all, with a fixed seed.
"""

import os
import secrets
from functools import cache
from itertools import pairwise
from random import Random

import orjson
import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from monitor.core.commands import Command, strength
from monitor.policy import compile_policy
from monitor.testing import Driver
from monitor.testing.rendering import control_json, policy_text, record_json
from monitor.testing.strategies import histories, weave
from tests.model import histories as corpus
from tests.model.histories import CORPUS, tell
from tests.model.naive import decide
from tests.model.smallest import smallest

SEED = int(os.environ.get("PROPERTY_SEED", "0")) or secrets.randbits(64)
FACTOR = float(os.environ.get("PROPERTY_FACTOR", "1"))
DAY = 86_400_000
CHUNKS, HISTORIES = 10, 20_000
TOLD = {"session.attributes_changed", "session.warned"}  # of these the model knows nothing
LIMITS = ("idle_timeout", "absolute_timeout")

WOVEN = st.integers(0, (1 << 63) - 1).map(weave)  # as `histories()`, but a hundred times as fast

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True, scope="module")
def _policies_are_compiled_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitor.testing.driver.compile_policy", cache(compile_policy))
        yield


def examples(count):
    """This many histories, by the seed of this run; no shrinking: `smallest` is better at it."""

    def decorate(test):
        quiet = settings(
            max_examples=int(count * FACTOR),
            deadline=None,
            database=None,
            verbosity=Verbosity.quiet,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        return seed(SEED)(quiet(test))

    return decorate


def hold(verify, history, *given_too):
    """`verify(history, ...)` raises nothing; if it does, the error tells the smallest history that makes it so."""
    try:
        verify(history, *given_too)
    except Exception as error:
        kind = type(error)

        def fails(candidate):
            try:
                verify(candidate, *given_too)
            except kind:
                return True
            except Exception:  # noqa: BLE001
                return False
            return False

        least = smallest(history, fails)
        try:
            verify(least, *given_too)
        except kind as least_error:
            note = f"{kind.__name__}: {least_error}\n{tell(least)}\nalso given: {given_too}\nPROPERTY_SEED={SEED}"
            raise AssertionError(note) from None
        raise


# --- driving ---------------------------------------------------------------------------------------------


class Run:
    """A history driven through the engine, step by step, and what was to be seen after each step."""

    def __init__(self, history):
        self.history = history
        self.driver = Driver(policy_text(history["policy"]))
        for control in history["controls"]:
            self.driver.control(control_json(control), at=control["at"])
        self.watermarks, self.commands_by = [], []

    def step(self, place):
        step, driver = self.history["log"][place], self.driver
        if step["kind"] == "tick":  # the driver's own policy is control 0
            driver.tick(step["at"], step["controls_to"] + 1)
        else:
            driver.append(record_json(step), step["at"])
        self.watermarks.append(driver.watermark)
        self.commands_by.append(len(driver.commands))

    def whole(self):
        for place in range(len(self.history["log"])):
            self.step(place)
        return self

    def at_once(self):
        """All records as one fetch, as under load: controls may not have reached every session when the next comes."""
        log = [
            (step.get("session_id", "~tick").encode(), orjson.dumps(shifted(record_json(step))), step["at"])
            for step in self.history["log"]
        ]
        self.driver.append_all(log)
        return self

    @property
    def orders(self):
        return [command for command in self.driver.commands if command.type != "session.warn"]

    @property
    def warnings(self):
        return {
            told_of_warning(command) for command in self.driver.commands if command.type == "session.warn"
        }


def shifted(record):
    """The driver's own policy is control 0."""
    return record | {"controls_to": record["controls_to"] + 1} if "controls_to" in record else record


def told_of_warning(command):
    return command.session_id, command.epoch, str(command.reason), command.effective_at, command.lead_ms


def told_of_order(command: Command):
    return {
        "type": str(command.type), "session_id": command.session_id, "epoch": command.epoch,
        "reason": str(command.reason), "effective_at": command.effective_at, "cutoff": command.cutoff,
        "control_id": command.control_id, "rule": command.rule, "limit_ms": command.limit_ms,
        "forget_after": command.forget_after, "reauth_allowed": command.reauth.allowed, "offset": command.offset,
    }  # fmt: skip


def told_of_change(record):
    reason = None if record.reason is None or record.type == "session.opened" else str(record.reason)
    return str(record.type), record.session_id, record.epoch, record.at, reason, record.observe


def by_session(orders):
    return {
        sid: [o for o in orders if o["session_id"] == sid]
        for sid in sorted({o["session_id"] for o in orders})
    }


# --- the engine is the model -----------------------------------------------------------------------------


def decides_as_the_model(history):
    model, run = decide(history), Run(history).whole()
    assert by_session([told_of_order(c) for c in run.orders]) == by_session(model.commands)
    assert [letter.offset for letter in run.driver.dead_letters] == model.dead_letters
    assert {letter.reason for letter in run.driver.dead_letters} <= {"subject_mismatch"}
    told = [told_of_change(record) for record in run.driver.lifecycle if record.type not in TOLD]
    silent = {"session.opened", "session.reauthenticated", "session.late_activity"}  # reasons of ends only
    told = [(*record[:4], None if record[0] in silent else record[4], record[5]) for record in told]
    assert sorted(told, key=repr) == sorted(model.lifecycle, key=repr)
    assert run.warnings == set(model.warnings)
    assert run.watermarks == model.watermarks


@pytest.mark.parametrize(("history", "decisions"), [c[1:] for c in CORPUS], ids=[c[0] for c in CORPUS])
def test_engine_decides_each_clause_as_the_model(history, decisions):
    decides_as_the_model(history)
    assert len(Run(history).whole().orders) == len(decisions)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_engine_decides_as_the_model_and_killed_at_every_step_alike(chunk):
    """20,000 histories in all: first in peace, against the model; then with a kill and a restart after each record."""
    dice = Random(f"{SEED}/{chunk}")
    for _ in range(int(HISTORIES * FACTOR) // CHUNKS):
        history = weave(dice.getrandbits(63))
        hold(decides_as_the_model, history)
        hold(survives_a_kill_at_every_step, history, dice.getrandbits(63))


@examples(100)
@given(histories())
def test_engine_decides_as_the_model_on_drawn_histories(history):
    hold(decides_as_the_model, history)


def decides_alike_in_one_fetch(history):
    slow, fast = Run(history).whole(), Run(history).at_once()
    assert by_session([told_of_order(c) for c in fast.orders]) == by_session(
        [told_of_order(c) for c in slow.orders]
    )
    assert {record.id for record in fast.driver.lifecycle} == {record.id for record in slow.driver.lifecycle}
    assert fast.warnings == slow.warnings
    assert fast.driver.watermark == slow.driver.watermark


@examples(1000)
@given(WOVEN)
def test_engine_decides_alike_whether_records_come_one_by_one_or_in_one_fetch(history):
    hold(decides_alike_in_one_fetch, history)


# --- killed, restored, replayed --------------------------------------------------------------------------


def whole_of(driver, exact):
    """What came out, each thing once: a replay's copies have the same ids, and must say the same.

    Exact, unless a session was forgotten: an epoch number is then used twice, and its commands may be too.
    """
    commands, changes = {}, set()
    for command in driver.commands:
        said = told_of_warning(command) if command.type == "session.warn" else told_of_order(command)
        first = commands.setdefault((command.id, command.lead_ms), said if exact else None)
        assert not exact or first == said, "I4: one id, two decisions"
    for record in driver.lifecycle:
        changes.add((told_of_change(record), record.id if exact else ""))
    return commands, changes, {letter.offset for letter in driver.dead_letters}


def forgets(driver):
    """Whether a session was forgotten, be it that it came again."""
    opened = [record.session_id for record in driver.lifecycle if record.type == "session.opened"]
    return len(opened) != len(set(opened)) or set(opened) != set(driver.sessions)


def remembered(driver):
    """Who must be in memory: one that is due to be forgotten goes with the next record, or with a recovery."""
    log_time = driver.partition.log_time
    return {name for name, s in driver.sessions.items() if s.end is None or s.end.forget_after > log_time}


def survives_kills(history):
    """`history` holds steps of the kind `act` between its records: what happens to the owner there."""
    records = [step for step in history["log"] if step["kind"] != "act"]
    if not records:
        return
    calm, shaken = Run({**history, "log": records}).whole(), Run({**history, "log": records})
    committed, place = [0], 0
    for step in history["log"]:
        act = step.get("act")
        if act is None:
            shaken.step(place)
            place += 1
        elif act == "checkpoint":
            committed.append(shaken.driver.checkpoint())
        elif act == "an earlier commit":  # a zombie's view: with the changelog of then
            shaken.driver.restart(committed=committed[len(committed) // 2])
        else:
            if act == "write ahead and die":
                shaken.driver.write_ahead()
            shaken.driver.restart()
    exact = not forgets(calm.driver)
    for seen, expected in zip(whole_of(shaken.driver, exact), whole_of(calm.driver, exact), strict=True):
        assert seen == expected
    assert shaken.driver.watermark == calm.driver.watermark
    assert remembered(shaken.driver) == remembered(calm.driver)


def survives_a_kill_at_every_step(history, number):
    dice, log = Random(number), []
    for step in history["log"]:
        log.append(step)
        if dice.random() < 0.4:
            log.append({"kind": "act", "at": step["at"], "act": "checkpoint"})
        act = dice.choice(("die", "die", "write ahead and die", "an earlier commit"))
        log.append({"kind": "act", "at": step["at"], "act": act})
    survives_kills({**history, "log": log})


def test_the_watermark_waits_for_deferred_strikes_of_sessions_that_were_written_ahead():
    one_lead, two_leads = (corpus.policy(idle=5000, absolute=10_000, warn_before=w) for w in ([2000], [5000, 2000]))
    changed = corpus.control(7500, "control.policy", policy=two_leads)  # now a warning is due that was not before
    told = corpus.history(one_lead, corpus.event(0), corpus.event(3000, "t"), corpus.tick(7800, 0), controls=[changed])
    assert Run(told).whole().driver.watermark == corpus.BASE + 5000 - 1  # nobody ticked: the strike on s waits
    survives_kills({**told, "log": [*told["log"], {"kind": "act", "at": corpus.BASE + 7800, "act": "write ahead and die"}]})


ACTS = st.sampled_from(("checkpoint", "checkpoint", "die", "write ahead and die", "an earlier commit"))
DISTURBANCES = st.lists(st.tuples(st.integers(0, 60), ACTS), min_size=1, max_size=6)


@examples(2000)
@given(WOVEN, DISTURBANCES)
def test_kill_and_restore_change_nothing(history, disturbances):
    log = history["log"][:]
    for place, act in disturbances:
        before = log[: place % (len(log) + 1)]
        log.insert(
            len(before), {"kind": "act", "at": before[-1]["at"] if before else log[0]["at"], "act": act}
        )
    hold(survives_kills, {**history, "log": log})


def replays_alike(history, every):
    run = Run(history)
    committed = [0]
    for place in range(len(history["log"])):
        run.step(place)
        if place % every == 0:
            committed.append(run.driver.checkpoint())
    exact = not forgets(run.driver)
    expected = whole_of(run.driver, exact)
    for offset in committed:
        run.driver.restart(committed=offset)
        assert whole_of(run.driver, exact) == expected


@examples(500)
@given(WOVEN, st.sampled_from((5, 1, 3, 10)))
def test_replay_from_any_committed_offset_gives_the_same_commands_with_the_same_ids(history, every):
    hold(replays_alike, history, every)


# --- the invariants, without the model -------------------------------------------------------------------


def with_policies(history, change):
    """The same history under changed policies."""
    controls = [{**c, "policy": change(c["policy"])} if "policy" in c else c for c in history["controls"]]
    return {**history, "policy": change(history["policy"]), "controls": controls}


def policies_of(history):
    return [history["policy"], *(c["policy"] for c in history["controls"] if "policy" in c)]


def remembering(policy):
    """Nothing is forgotten while the history lasts: an epoch number is used once."""
    return {**policy, "timing": {**policy["timing"], "credential_lifetime": DAY}}


def has_one_id_for_one_decision(history):
    run = Run(with_policies(history, remembering)).whole()
    ids, strongest = {}, {}
    for command in run.orders:
        ids.setdefault((command.session_id, command.epoch, command.type), set()).add(command.id)
        rank = strength(command.epoch, command.type)
        assert rank > strongest.get(command.session_id, (-1, 0)), "I5: a later record weakens an earlier one"
        strongest[command.session_id] = rank
    assert all(len(found) == 1 for found in ids.values()), "I4: two ids for one (session, epoch, type)"


def has_honest_watermarks(history):
    run = Run(history).whole()
    assert run.watermarks == sorted(run.watermarks)
    for mark, known in zip(run.watermarks, run.commands_by, strict=True):
        for command in run.driver.commands[known:]:
            if command.type == "session.expire" and command.reason in LIMITS:
                assert command.effective_at > mark, (
                    f"I7: {told_of_order(command)} came after watermark {mark}"
                )


def counting_all(policy):
    return {**policy, "rules": [{n: v for n, v in rule.items() if n != "counts"} for rule in policy["rules"]]}


def expires_no_innocent(history):
    """I2, for policies under which every activity but keep-alives counts."""
    history = with_policies(history, counting_all)
    run, log = Run(history).whole(), history["log"]
    refused = {letter.offset for letter in run.driver.dead_letters}
    begun = {}
    for record in run.driver.lifecycle:
        if record.type in {"session.opened", "session.reauthenticated"}:
            begun.setdefault((record.session_id, record.epoch), []).append(record.offset)
    timing = [policy["timing"] for policy in policies_of(history)]
    ends = [r for r in run.driver.lifecycle if r.type == "session.expired" and r.reason == "idle_timeout"]
    for end in (r for r in ends if not r.observe):
        deadline = end.last_activity + end.limit_ms
        reached = [step["at"] for step in log[: end.offset + 2]]
        assert max(reached) >= end.at + min(t["lateness"] for t in timing), (
            "I2: before the lateness has passed"
        )
        for before, after in pairwise(reached):
            if after > before + 3000:
                quiet = after + min(t["outage_grace"] for t in timing)
                assert max(reached) >= quiet or reached.index(after) > end.offset + 1, (
                    "I2: within the outage grace"
                )
        first = max(o for o in begun[end.session_id, end.epoch] if o <= end.offset)
        for offset in range(first, end.offset + 1):
            step = log[offset]
            if (
                step.get("session_id") != end.session_id
                or offset in refused
                or step["type"] == "session.closed"
            ):
                continue
            counts = step.get("activity", "human") in {"human", "agent", "inflight"}
            time = min(step.get("time", step["at"]), step["at"])
            assert not (counts and end.last_activity < time <= deadline), f"I2: offset {offset} was in time"


def without_activity_nothing_lasts_longer(history):
    """I3: activity on a session does not move its absolute end; nor does its epoch outlast every policy's limit."""
    opened, busier = set(), []
    for step in history["log"]:
        busier.append(step)
        if step["kind"] == "event":
            opened.add(step["session_id"])
        busier += [
            {"kind": "event", "at": step["at"], "type": "session.activity", "session_id": sid}
            for sid in sorted(opened)
        ]
    run, busy = Run(history).whole(), Run({**history, "log": busier}).whole()
    first_end, first_busy_end = {}, {}
    for seen, commands in ((first_end, run.orders), (first_busy_end, busy.orders)):
        for command in commands:
            seen.setdefault(command.session_id, command)
    for session_id, command in first_end.items():
        if command.reason == "absolute_timeout":
            assert session_id in first_busy_end, "I3: activity kept it alive"
            end = first_busy_end[session_id]
            # One more record may let an idle deadline strike that a gap then had deferred: earlier, never later.
            idled_before = end.reason == "idle_timeout" and end.effective_at < command.effective_at
            assert end.id == command.id or idled_before, "I3: activity moved its end"
    loosest = max(
        limits.get("absolute", 0)
        for p in policies_of(history)
        for limits in (p["defaults"], *p["exceptions"])
    )
    lateness = history["policy"]["timing"]["lateness"]
    reached = max(step["at"] for step in history["log"])
    for session in busy.driver.sessions.values():
        if session.state == 0:
            begun = max(r.log_time for r in busy.driver.lifecycle if r.session_id == session.session_id and r.epoch == session.epoch and r.type in {"session.opened", "session.reauthenticated"})  # fmt: skip
            assert reached < max(session.start + loosest, begun + lateness), "I3: outlived every policy"


@examples(1500)
@given(WOVEN)
def test_invariants_hold_by_themselves(history):
    hold(has_one_id_for_one_decision, history)
    hold(has_honest_watermarks, history)
    hold(expires_no_innocent, history)


@examples(1000)
@given(WOVEN)
def test_absolute_is_absolute(history):
    hold(without_activity_nothing_lasts_longer, history)
