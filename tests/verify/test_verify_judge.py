"""Each way in which a promise can be broken is found, named with its place, and nothing else; what is cut off is not guessed."""

import json

import pytest

from monitor.core.commands import CommandType
from monitor.testing import Driver
from monitor.testing.strategies import weave
from monitor.verify import Wrong, model, verify
from monitor.verify.replay import Attentive
from monitor.wire.commands import encode_command, encode_watermark
from monitor.wire.dead_letters import encode_dead_letter
from monitor.wire.lifecycle import encode_lifecycle
from monitor.wire.topics import Topics
from tests.model import plans
from tests.model.histories import CORPUS
from tests.model.naive import decide
from tests.verify.memory import MemoryLog

POLICY = "version: 1\ntiming: {lateness: 2s, outage_grace: 4s}\ndefaults: {idle: 10s, absolute: 60s}\n"
BASE = 1_795_478_400_000
TOPICS = Topics("", 1)
EVENTS, COMMANDS = TOPICS.access_events.name, TOPICS.session_commands.name
LIFECYCLE, LETTERS, CONTROL = TOPICS.session_lifecycle.name, TOPICS.dead_letters.name, TOPICS.session_control.name


def policy_record():
    said = {"type": "control.policy", "id": "policy", "by": "t", "reason": "t", "policy_text": POLICY, "policy_version": "0"}
    return b"policy", json.dumps(said).encode()


@pytest.fixture
def world():
    """A minute and a half of one partition: what a worker that does everything right leaves on the topics.

    `idle` goes idle, `busy` runs into the absolute limit, `gone` closes, `late` opens after 40 s and goes idle.
    """
    driver, log = Driver(POLICY, now=BASE), MemoryLog(TOPICS)
    log.append(CONTROL, 0, BASE, *policy_record())
    for second in range(100):
        at = BASE + second * 1000
        names = [("idle", second == 0), ("busy", second % 5 == 0), ("gone", second in {1, 3}), ("late", second == 40)]
        for name, now in names:
            if now:
                event = {"type": "session.closed" if (name, second) == ("gone", 3) else "session.activity", "session_id": name}
                driver.append(event | {"subject": name}, at)
        if second == 7:
            driver.append(b"{nonsense", at, key=b"x")
            driver.append({"type": "session.activity", "session_id": "busy", "subject": "mallory"}, at)
        driver.tick(at)
    for record in driver.log:
        log.append(EVENTS, 0, record.timestamp, record.key, record.value, record.headers)
    at = BASE
    log.append(COMMANDS, 0, at, *encode_watermark(0, 0, 0, 0, at))
    for command in driver.commands:
        log.append(COMMANDS, 0, command.log_time, *encode_command(command, command.log_time))
    end = driver.partition.log_time
    log.append(COMMANDS, 0, end, *encode_watermark(0, driver.watermark, end, 0, end))
    for change in driver.lifecycle:
        log.append(LIFECYCLE, 0, change.log_time, *encode_lifecycle(change))
    for letter in driver.dead_letters:
        record = driver.log[letter.offset]
        log.append(LETTERS, 0, record.timestamp, *encode_dead_letter(record, letter.reason, letter.detail, EVENTS, 0))
    return log


def found(log, *given):
    return [(one.wrong, one.session_id) for one in verify(log, TOPICS, *given).violations]


def orders(log, name, reason=None):
    """The records of a session's commands, with what they say."""
    said = [(record, json.loads(record.value)) for record in log.logs[COMMANDS, 0] if record.key == name.encode()]
    return [one for one in said if reason in {None, one[1]["reason"]}]


def say(log, record, said, after=False, **changes):
    """Write a command anew; `id` is made right unless it is among the changes."""
    said = said | changes
    if "id" not in changes:
        from tests.kafka.plain import command_id

        said["id"] = command_id(said)
    value = json.dumps(said).encode()
    if after:
        log.append(COMMANDS, 0, record.timestamp, record.key, value)
    else:
        record.value = value


def test_a_world_in_order_holds(world):
    report = verify(world, TOPICS)
    assert (report.violations, report.unjudged) == ([], [])
    (held,) = report.partitions
    assert held.commands == 4
    assert held.sessions == 4
    assert held.judged_to == BASE + 99_000


@pytest.mark.parametrize("name", ["idle", "busy", "gone", "late"])
def test_a_command_that_is_missing(world, name):
    world.drop(COMMANDS, lambda record: record.key == name.encode())
    for place, record in enumerate(world.logs[COMMANDS, 0]):
        record.offset = place  # never written, not removed
    assert found(world) == [(Wrong.MISSING, name)]
    (violation,) = verify(world, TOPICS).violations
    assert violation.topic == EVENTS
    assert 0 <= violation.offset < world.bounds(EVENTS, 0)[1]


def test_a_command_that_no_watermark_speaks_for_yet_may_be_on_its_way(world):
    last = world.logs[COMMANDS, 0][-1]
    last.key, last.value, _ = encode_watermark(0, BASE + 9000, BASE + 11_000, 0, BASE + 11_000)
    world.drop(COMMANDS, lambda record: record.key == b"busy")
    for place, record in enumerate(world.logs[COMMANDS, 0]):
        record.offset = place
    assert found(world) == []
    assert verify(world, TOPICS).partitions[0].judged_to == BASE + 11_000


def test_a_false_expiry_is_two_decisions_as_well(world):
    ((record, said),) = orders(world, "busy")
    say(world, record, said, after=True, reason="idle_timeout", src={"partition": 0, "offset": 30})
    assert sorted(found(world)) == [(Wrong.NEVER_DUE, "busy"), (Wrong.TWO_IDS, "busy"), (Wrong.WATERMARK, "busy")]
    place = {one.offset for one in verify(world, TOPICS).violations}
    assert place == {world.bounds(COMMANDS, 0)[1] - 1}


def test_a_command_about_a_session_that_never_was(world):
    ((record, said),) = orders(world, "gone")
    record.key = b"nobody"
    say(world, record, said, session_id="nobody")
    assert sorted(found(world)) == [(Wrong.MISSING, "gone"), (Wrong.NEVER_DUE, "nobody")]


def test_a_deadline_that_is_off_by_a_millisecond(world):
    ((record, said),) = orders(world, "late")
    say(world, record, said, effective_at=said["effective_at"].replace("50.000", "50.001"))
    assert sorted(found(world)) == [(Wrong.MISSING, "late"), (Wrong.NEVER_DUE, "late")]


def test_another_cutoff(world):
    ((record, said),) = orders(world, "busy")
    say(world, record, said, cutoff=said["effective_at"])
    assert found(world) == [(Wrong.WRONG_CUTOFF, "busy")]


def test_an_id_that_is_not_of_its_decision(world):
    ((record, said),) = orders(world, "idle")
    say(world, record, said, id="0" * 32)
    assert sorted(found(world)) == [(Wrong.MISSING, "idle"), (Wrong.NEVER_DUE, "idle"), (Wrong.WRONG_ID, "idle")]


def test_a_repeated_record_is_no_violation(world):
    ((record, said),) = orders(world, "idle")
    say(world, record, said, after=True)
    report = verify(world, TOPICS)
    assert report.violations == []
    assert report.partitions[0].repeated == 1


def test_a_weaker_record_after_a_stronger(world):
    ((record, said),) = orders(world, "gone")
    say(world, record, said, after=True, type="session.reinstate", id="0" * 32)
    assert (Wrong.WEAKENED, "gone") in found(world)
    say(world, record, said, after=True)  # the owner writes its own again
    assert (Wrong.WEAKENED, "gone") not in found(world)


def test_a_watermark_that_spoke_too_soon(world):
    ((record, _),) = orders(world, "late")
    mark = encode_watermark(0, BASE + 50_000, BASE + 52_000, 0, BASE)
    log = world.logs[COMMANDS, 0]
    place = log.index(record)
    world.append(COMMANDS, 0, record.timestamp, *mark)
    log.insert(place, log.pop())
    for offset, one in enumerate(log):
        one.offset = offset
    assert found(world) == [(Wrong.WATERMARK, "late")]
    log[place].value = encode_watermark(0, BASE + 49_999, BASE + 52_000, 0, BASE).value
    assert found(world) == []


def test_an_end_that_lifecycle_does_not_tell_of_or_counts_wrong(world):
    ends = [record for record in world.logs[LIFECYCLE, 0] if record.key == b"busy" and b'"session.expired"' in record.value]
    (end,) = ends
    end.value = end.value.replace(b'"human":12', b'"human":11')
    assert b'"human":11' in end.value
    assert found(world) == [(Wrong.COUNTS, "busy")]
    world.drop(LIFECYCLE, lambda record: record is end)
    assert found(world) == [(Wrong.NO_LIFECYCLE, "busy")]


@pytest.mark.parametrize("which", [0, 1], ids=["nonsense", "another subject"])
def test_a_dead_letter_that_is_missing(world, which):
    letters = world.logs[LETTERS, 0]
    del letters[which]
    (violation,) = verify(world, TOPICS).violations
    assert violation.wrong is Wrong.NO_DEAD_LETTER
    said = next(record for record in world.logs[EVENTS, 0] if record.offset == violation.offset)
    assert (b"nonsense", b"mallory")[which] in said.value


def test_a_dead_letter_of_an_event_that_can_be_applied(world):
    good = next(record for record in world.logs[EVENTS, 0] if record.key == b"busy")
    world.append(LETTERS, 0, good.timestamp, *encode_dead_letter(good, "not_json", "no", EVENTS, 0))
    (violation,) = verify(world, TOPICS).violations
    assert (violation.wrong, violation.topic) == (Wrong.NEEDLESS_DEAD_LETTER, LETTERS)


def test_an_event_on_the_wrong_partition_that_is_not_re_routed():
    topics = Topics("", 2)
    log = MemoryLog(topics)
    log.append(CONTROL, 0, BASE, *policy_record())
    value = json.dumps({"type": "session.activity", "session_id": "astray"}).encode()
    from monitor.wire.partitioner import partition_for

    home = partition_for(b"astray", 2)
    log.append(EVENTS, 1 - home, BASE, b"astray", value)
    for number in (0, 1):
        for second in range(4):
            tick = json.dumps({"type": "monitor.tick", "owner": "o", "controls_to": 0}).encode()
            log.append(EVENTS, number, BASE + 1000 + second * 1000, b"~tick", tick)
        log.append(COMMANDS, number, BASE, *encode_watermark(number, 0, 0, 0, BASE))
        log.append(COMMANDS, number, BASE, *encode_watermark(number, 0, BASE + 3000, 0, BASE))
    (violation,) = verify(log, topics).violations
    assert (violation.wrong, violation.session_id, violation.partition) == (Wrong.NOT_REROUTED, "astray", 1 - home)
    header = ("session-monitor-rerouted", str(1 - home).encode())
    log.append(EVENTS, home, BASE + 4000, b"astray", value, [header])
    assert verify(log, topics).violations == []


# --- what can not be judged ------------------------------------------------------------------------------


def cut_at(log, second):
    log.cut(EVENTS, next(record.offset for record in log.logs[EVENTS, 0] if record.timestamp >= BASE + second * 1000))


@pytest.mark.parametrize("how", ["retention", "--from"])
def test_of_a_log_without_its_beginning_only_sessions_that_begin_later_are_judged(world, how):
    since = None
    if how == "retention":
        cut_at(world, 20)
    else:
        since = BASE + 20_000
    report = verify(world, TOPICS, since)
    assert report.violations == []
    assert [(one.why[:30], one.count) for one in report.unjudged] == [("sessions whose beginning lies ", 1)]  # busy
    assert report.partitions[0].sessions == 1  # late
    world.drop(COMMANDS, lambda record: record.key == b"late")
    for place, record in enumerate(world.logs[COMMANDS, 0]):
        record.offset = place
    assert found(world, since) == [(Wrong.MISSING, "late")]


def test_a_session_that_opens_in_the_warm_up_is_not_judged(world):
    cut_at(world, 38)  # an outage right before could still defer what is due now
    world.drop(COMMANDS, lambda record: record.key == b"late")
    for place, record in enumerate(world.logs[COMMANDS, 0]):
        record.offset = place
    report = verify(world, TOPICS)
    assert report.violations == []
    assert report.unjudged[0].count == 2


def test_what_comes_from_to_on_is_not_judged(world):
    world.drop(COMMANDS, lambda record: record.key == b"late")
    for place, record in enumerate(world.logs[COMMANDS, 0]):
        record.offset = place
    assert found(world, None, BASE + 45_000) == []
    assert found(world, None, BASE + 55_000) == [(Wrong.MISSING, "late")]


def test_what_compaction_may_have_removed_is_not_missed(world):
    world.drop(COMMANDS, lambda record: record.key == b"late")  # a hole stays
    assert found(world) == [(Wrong.MISSING, "late")], "nothing later stands for it, and it is not forgotten yet"
    world.append(COMMANDS, 0, BASE + 99_000, b"late", None)
    report = verify(world, TOPICS)
    assert report.violations == []
    assert "compaction" in " ".join(one.why for one in report.unjudged)


def test_without_a_watermark_or_the_brokers_time_nothing_is_judged(world):
    before = world.logs[COMMANDS, 0]
    world.logs[COMMANDS, 0] = []
    report = verify(world, TOPICS)
    assert report.violations == []
    assert "no watermark" in report.unjudged[0].why
    assert report.partitions[0].judged_to is None
    world.logs[COMMANDS, 0] = before
    for record in world.logs[EVENTS, 0]:
        record.timestamp_type = 0
    report = verify(world, TOPICS)
    assert report.violations == []
    assert "not the broker's" in report.unjudged[0].why


# --- the model that looks only where something may happen -------------------------------------------------


def attentive(history):
    partition = Attentive(history["policy"], history["controls"], plans)
    for record in history["log"]:
        partition.record(record)
    return partition


@pytest.mark.parametrize(
    "history", [c[1] for c in CORPUS] + [weave(number) for number in range(400)], ids=lambda _: ""
)
def test_it_decides_as_the_model_that_looks_at_all(history):
    all_, near = decide(history), attentive(history)
    assert near.lifecycle == all_.lifecycle
    assert near.warnings == all_.warnings
    assert near.dead_letters == all_.dead_letters
    decided = [(c["type"], c["session_id"], c["epoch"], c["effective_at"], c["offset"]) for c in all_.commands]
    assert [(due.type, due.session_id, due.epoch, due.effective_at, due.place) for due in near.due] == decided


def test_one_source_too_many_is_forgotten_as_the_engine_does():
    driver = Driver(POLICY, now=BASE)
    attentive_ = Attentive({"timing": {"lateness": 2000, "outage_grace": 0}}, [], plans)
    for number in range(300):
        source, at = f"gateway-{number * 7 % 300}", BASE + number
        driver.append({"type": "source.alive", "source": source, "time": "2026-11-24T00:00:00.123Z"}, at, key=b"x")
        said = driver.partition.graces.sources[source]
        attentive_.record({"kind": "alive", "at": at, "source": source, "time": said})
    assert attentive_.alive == driver.partition.graces.sources
    assert len(attentive_.alive) == 256


def test_it_does_not_look_at_all(monkeypatch):
    looked = []
    true = model.Partition.moments
    monkeypatch.setattr(model.Partition, "moments", lambda self, s, to: looked.append(s) or true(self, s, to))
    policy = {"timing": {"lateness": 1, "outage_grace": 1, "source_grace": 1, "credential_lifetime": 10**9}}
    policy |= {"classifications": [], "defaults": {"idle": 10**8, "absolute": 10**8, "warn_before": []}, "rules": [], "exceptions": []}
    partition = Attentive(policy, [], plans)
    for number in range(200):
        partition.record({"kind": "event", "at": number, "type": "session.activity", "session_id": f"s{number}"})
    assert looked == []
    assert len(partition.sessions) == 200
    assert CommandType.EXPIRE not in {due.type for due in partition.due}
