"""Labelled histories: the same again, in order, by the policy, and with labels that say what is there."""

import ast
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

import monitor.bench.labelled as package
from monitor.bench.labelled import Commanded, Entry, History, Mismatched, Shape
from monitor.core.errors import InputError
from monitor.core.events import Principal
from monitor.core.instants import DAY, HOUR, MINUTE, SECOND
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.detect.settings import Detector
from monitor.wire.receipts import Applied, Stopped

SMALL = Shape(seed=7, sessions=600, each=3, watched=12 * HOUR)
HEALTHY = msgspec.structs.replace(SMALL, each=0, sessions=3000)
ENDS = {LifecycleType.EXPIRED, LifecycleType.CLOSED}
T = LifecycleType


@cache
def lived(shape: Shape) -> tuple[History, list[Entry]]:
    history = History(shape)
    return history, list(history)


def written(entries: list[Entry]) -> bytes:
    return msgspec.msgpack.encode([(type(entry.what).__name__, entry) for entry in entries], enc_hook=int)


def records(entries: list[Entry]) -> dict[str, list[Lifecycle]]:
    found = defaultdict(list)
    for entry in entries:
        if isinstance(entry.what, Lifecycle):
            found[entry.what.session_id].append(entry.what)
    return found


@cache
def of_small() -> dict[str, list[Lifecycle]]:
    return records(lived(SMALL)[1])


def labels(detector: Detector):
    history, entries = lived(SMALL)
    found = [label for label in history.labels if label.detector is detector]
    assert len(found) == SMALL.each
    return found, of_small(), entries


def test_it_knows_no_threshold() -> None:
    allowed = {"monitor.detect.finding": {"Finding"}, "monitor.detect.living": {"Living"}, "monitor.detect.settings": {"Detector"}}
    found = defaultdict(set)
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Import) and any(name.name.startswith("monitor.") for name in node.names)), path.name
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("monitor.detect"):
                found[node.module] |= {name.name for name in node.names}
    assert found
    assert {module: names - allowed.get(module, set()) for module, names in found.items() if names - allowed.get(module, set())} == {}


@pytest.mark.parametrize("seed", [0, 1 << 40])
def test_the_same_seed_gives_the_same_records(seed) -> None:
    shape = Shape(seed=seed, sessions=150, days=4, each=1, watched=6 * HOUR)
    first, second = list(History(shape)), list(History(shape))
    assert written(first) == written(second)
    assert written(first) != written(list(History(msgspec.structs.replace(shape, seed=seed + 1))))


def test_records_come_in_the_order_of_their_append_times_and_places() -> None:
    history, entries = lived(SMALL)
    assert all(a.at <= b.at for a, b in pairwise(entries))
    assert (SMALL.begins <= entries[0].at, entries[-1].at < SMALL.ends) == (True, True)
    offsets, commanded = defaultdict(int), defaultdict(int)
    for entry in entries:
        what = entry.what
        if isinstance(what, Lifecycle):
            assert what.log_time == entry.at
            assert what.at <= entry.at
            assert offsets[what.partition] <= what.offset
            offsets[what.partition] = what.offset
        elif isinstance(what, Commanded):
            assert (what.at, commanded[what.partition] < what.offset) == (entry.at, True)
            commanded[what.partition] = what.offset
    assert len(offsets) == SMALL.partitions
    ids = Counter(entry.what.id for entry in entries if isinstance(entry.what, Lifecycle))
    assert ids.most_common(1)[0][1] == 1
    assert history.now == entries[-1].at


def test_the_healthy_part_is_the_same_with_and_without_abuse() -> None:
    history, entries = lived(SMALL)
    quiet, alone = lived(msgspec.structs.replace(SMALL, each=0))
    assert (quiet.labels, quiet.healthy_sessions) == ((), history.healthy_sessions)
    ours = {name for label in history.labels for name in label.sessions}
    gateways = {label.gateway for label in history.labels if label.gateway}
    rest = [
        entry for entry in entries
        if getattr(entry.what, "gateway", None) not in gateways and getattr(entry.what, "session_id", None) not in ours
    ]  # fmt: skip
    assert written(rest) == written(alone)
    assert len(entries) > len(rest)


def test_about_as_many_healthy_sessions_come_as_are_asked_for_and_opened_ones_are_counted() -> None:
    history, entries = lived(HEALTHY)
    opened = sum(1 for entry in entries if isinstance(entry.what, Lifecycle) and entry.what.type is T.OPENED)
    assert history.healthy_sessions == opened
    assert 2400 <= opened <= 3600
    early = sum(1 for of in records(entries).values() if of[0].at < HEALTHY.learns_until)
    assert history.healthy_learnt_from == early < opened


def test_ends_are_those_of_the_limits() -> None:
    history, entries = lived(SMALL)
    reasons = Counter()
    for of in records(entries).values():
        assert of[0].type is T.OPENED
        plan = history.limits.policy.plan(of[0].attributes, 0)
        limits = {"idle_timeout": plan.idle, "absolute_timeout": plan.absolute}
        for one in of:
            assert one.started_at + plan.absolute.ms >= one.at or one.type is T.LATE_ACTIVITY
            assert one.opened_at <= one.started_at <= one.last_activity
            if one.type is T.EXPIRED:
                limit = limits[one.reason]
                since = one.last_activity if one.reason == "idle_timeout" else one.started_at
                assert (one.at, one.limit_ms, one.rule, one.policy) == (since + limit.ms, limit.ms, limit.rule, plan.policy)
                reasons[one.reason] += 1
    assert min(reasons["idle_timeout"], reasons["absolute_timeout"]) > 0


def test_what_lives_is_what_has_been_opened_and_not_ended() -> None:
    history, live = History(SMALL), {}
    for number, entry in enumerate(history):
        what = entry.what
        if isinstance(what, Lifecycle) and what.type is not T.LATE_ACTIVITY:
            live[what.session_id] = what
            if what.type in ENDS:
                del live[what.session_id]
        if number % 20_000 == 19_999:
            told = {one.session_id: one for one in history.live()}
            # Between its deadline and the strike a session has ended already; between its first event and the append it has not come.
            late = {name for name, one in live.items() if name not in told and one.started_at + HOUR // 4 < history.now}
            assert set(told) - set(live) == set()
            assert len(late) <= len(live) // 10
            for name, one in told.items():
                assert (one.epoch, one.opened_at, one.started_at) == (live[name].epoch, live[name].opened_at, live[name].started_at)
                assert one.last_activity >= live[name].last_activity
                assert sum(one.counts) >= sum(live[name].counts)
    assert live


def test_healthy_people_are_timed_out_some_times_a_day_and_have_two_sessions_at_most() -> None:
    _, entries = lived(HEALTHY)
    per_day, people = Counter(), set()
    spans = defaultdict(list)
    for of in records(entries).values():
        who = of[0].attributes
        if who.principal is Principal.USER:
            people.add(who.subject)
            per_day.update((who.subject, one.at // DAY) for one in of if one.type is T.EXPIRED)
            if "admin" in who.roles:
                spans[who.subject] += [(of[0].at, 1), (of[-1].at, -1)] if of[-1].type in ENDS else [(of[0].at, 1)]
    days = sorted(per_day.values())
    assert 1 <= days[len(days) // 2] <= 5
    assert days[-1] <= 25
    for borders in spans.values():
        at_once = most = 0
        for _, step in sorted(borders):
            at_once += step
            most = max(most, at_once)
        assert most <= 2


def test_services_sessions_last_for_hours_unless_they_are_deployed_and_authenticate_anew_once_a_day() -> None:
    _, entries = lived(HEALTHY)
    services = [of for of in records(entries).values() if of[0].attributes.roles == ("service",)]
    renewed = [of for of in services if any(one.type is T.REAUTHENTICATED for one in of)]
    assert 0 < len(renewed) < len(services)
    for of in renewed:
        begun = [one.started_at for one in of if one.type in {T.OPENED, T.REAUTHENTICATED}]
        assert all(19 * HOUR < later - earlier < 21 * HOUR for earlier, later in pairwise(begun))
        assert all(one.type is not T.REINSTATED for one in of)
    ages = Counter((of[-1].at - of[0].at) // HOUR >= 3 for of in services if of[-1].type in ENDS and of not in renewed)
    assert ages[True] > ages[False]


# --- what labels say is there -----------------------------------------------------------------------------------------


def test_labels_lie_within_the_stream_after_what_is_there_to_learn_from() -> None:
    history, entries = lived(SMALL)
    assert Counter(label.detector for label in history.labels) == dict.fromkeys(Detector, SMALL.each)
    known = records(entries)
    for label in history.labels:
        assert SMALL.learns_until <= label.begins < label.ends < SMALL.ends
        assert (label.subject, label.session_id, label.gateway) != (None, None, None)
        assert set(label.sessions) <= set(known)
        assert all(known[name][0].attributes.subject == label.subject for name in label.sessions if label.subject)
    assert len({label.subject for label in history.labels if label.subject}) == sum(1 for label in history.labels if label.subject)


def test_churn_is_many_timeouts_of_one_subject() -> None:
    found, of, _ = labels(Detector.TIMEOUT_CHURN)
    for label in found:
        ends = [of[name][-1].at for name in label.sessions if of[name][-1].reason == "idle_timeout"]
        assert len(ends) == len(label.sessions) >= 20
        assert max(later - earlier for earlier, later in pairwise(sorted(ends))) < 7 * MINUTE


def test_a_runaway_lives_far_longer_than_its_like() -> None:
    found, of, _ = labels(Detector.LONG_SESSION)
    ran = {name: told[-1].at - told[0].at for name, told in of.items() if told[0].attributes.workload == "agent-run" and told[-1].type in ENDS}
    abusive = [ran.pop(label.session_id) for label in found]
    assert min(abusive) > 10 * HOUR - MINUTE
    assert max(ran.values()) < 8 * HOUR


def test_evaders_sessions_follow_each_other_beyond_the_limit() -> None:
    found, of, _ = labels(Detector.CAP_EVASION)
    for label in found:
        spans = [(of[name][0].at, of[name][-1].at) for name in label.sessions]
        assert max(ends - begins for begins, ends in spans) < 12 * HOUR < spans[-1][1] - spans[0][0]
        assert all(0 < after[0] - before[1] <= 2 * MINUTE for before, after in pairwise(spans))


def test_a_crowd_is_more_than_its_rule_allows_at_once() -> None:
    found, of, _ = labels(Detector.CONCURRENT_SESSIONS)
    plan = lived(SMALL)[0].limits.of(of[found[0].sessions[0]][0].attributes)
    assert plan.concurrent == 3
    for label in found:
        opened, ended = max(of[name][0].at for name in label.sessions), min(of[name][-1].at for name in label.sessions)
        assert len(label.sessions) > 4
        assert ended - opened >= HOUR - MINUTE


def test_a_mismatch_names_somebody_else() -> None:
    found, _, entries = labels(Detector.SUBJECT_MISMATCH)
    told = [entry.what for entry in entries if isinstance(entry.what, Mismatched)]
    for label in found:
        own = [one for one in told if one.session_id == label.session_id]
        assert (own[0].at, own[0].subject, own[0].named != label.subject) == (label.begins, label.subject, True)
    assert {one.session_id for one in told} == {label.session_id for label in found}


def test_a_stolen_session_is_used_from_several_networks_at_once() -> None:
    found, of, _ = labels(Detector.SESSION_MOVED)
    for label in found:
        first = [one.attributes for one in of[label.session_id] if label.begins <= one.at < label.begins + 10 * MINUTE]
        assert len({one.client_ip for one in first}) >= 3
        assert len({one.user_agent for one in first}) >= 2


def test_what_is_held_open_has_keepalives_alone() -> None:
    found, of, _ = labels(Detector.KEEPALIVE_ONLY)
    for label in found:
        end = of[label.session_id][-1]
        assert (end.counts[:3], end.counts[3] > 100, end.last_activity) == ((0, 1, 0), True, label.begins)
        assert end.at - label.begins >= 4 * HOUR


def test_a_lax_gateway_lets_ended_sessions_go_on_after_its_receipt() -> None:
    found, of, entries = labels(Detector.UNENFORCED)
    commands = {entry.what.session_id: entry.what for entry in entries if isinstance(entry.what, Commanded)}
    for label in found:
        receipts = [entry.what for entry in entries if isinstance(entry.what, Applied) and entry.what.gateway == label.gateway]
        for name in label.sessions:
            late = [one for one in of[name] if one.type is T.LATE_ACTIVITY]
            command = commands[name]
            applied = min(int(one.at) for one in receipts if one.positions[command.partition] >= command.offset)
            assert len(late) >= 5
            assert {one.source for one in late} == {label.gateway}
            assert late[-1].at > applied
            assert all(label.begins <= one.at <= label.ends for one in late)
            assert len({one.log_time // MINUTE for one in late}) == len(late)


def test_a_mute_gateway_is_silent_or_stands_still_while_others_go_on() -> None:
    found, _, entries = labels(Detector.UNACKNOWLEDGED)
    kinds = Counter()
    for label in found:
        told = [entry for entry in entries if isinstance(entry.what, Applied) and entry.what.gateway == label.gateway]
        during = [entry for entry in told if label.begins + SECOND <= entry.at < label.ends]
        assert told[0].at < label.begins - 20 * MINUTE
        assert told[-1].at > label.ends
        kinds["silent" if not during else "hung"] += 1
        assert len({tuple(entry.what.positions.items()) for entry in during}) <= 1
        if during:
            missing = [e for e in entries if isinstance(e.what, Commanded) and label.begins <= e.at < label.begins + MINUTE]
            assert missing
    assert min(kinds["silent"], kinds["hung"]) > 0


def test_healthy_gateways_are_heard_all_the_time_and_apply_what_was_commanded() -> None:
    history, entries = lived(SMALL)
    told = defaultdict(list)
    for entry in entries:
        if isinstance(entry.what, Applied | Stopped):
            told[entry.what.gateway].append(entry)
    bad = {label.gateway for label in history.labels}
    healthy = [of for name, of in told.items() if name not in bad]
    assert len(healthy) == 3
    for of in healthy:
        gaps = [b.at - a.at for a, b in pairwise(of) if isinstance(a.what, Applied)]
        assert max(gaps) < 10 * SECOND
        assert sum(isinstance(entry.what, Stopped) for entry in of) >= 1


def test_some_kinds_alone() -> None:
    shape = msgspec.structs.replace(SMALL, kinds=(Detector.CAP_EVASION,))
    assert History(shape).labels == tuple(label for label in lived(SMALL)[0].labels if label.detector is Detector.CAP_EVASION)


@pytest.mark.parametrize("shape", [Shape(days=3), Shape(watched=5 * HOUR)])
def test_without_room_for_abuse_it_says_so(shape) -> None:
    with pytest.raises(InputError, match="ask for 4 days and 6 hours"):
        History(shape)
    assert History(msgspec.structs.replace(shape, each=0, sessions=10)).labels == ()
