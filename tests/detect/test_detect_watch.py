"""What one partition is watched with: from lifecycle records to alerts, and the same whatever is killed when."""

from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from monitor.core.controls import ControlType
from monitor.core.events import Attributes
from monitor.core.instants import HOUR, MINUTE, SECOND
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.core.reasons import Reason
from monitor.detect.cohorts import Cohort
from monitor.detect.pool import Pool
from monitor.detect.principal import decode
from monitor.detect.watch import Watch
from monitor.policy import compile_policy
from monitor.wire.alerts import AlertRecord, AlertState, decode_alert
from monitor.wire.lifecycle import encode_lifecycle
from monitor.wire.silences import Silence, SilenceRecord, checked
from monitor.wire.times import Instant

NOW = 1_795_000_000_000
POLICY = compile_policy("""
version: 1
defaults: {idle: 10m, absolute: 12h}
rules:
  - {name: few, when: {workload: [console]}, concurrent: 2}
  - {name: short, when: {workload: [agent-run]}, abnormal_after: 3h}
detect: {timeout_churn: {count: 3, window: 1h, resolve_after: 5m}, storm: {per_subject: 50, per_alert: 500}}
""")


class Stream:
    """Lifecycle records as a worker writes them: each session's own, one access event after the other."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self._offset = 0

    def add(self, type_: LifecycleType, at: int, session: str, subject: str = "alice", *, opened: int = NOW, **more: Any) -> None:
        self._offset += 1
        known = Attributes(subject=subject, workload=more.pop("workload", "chat"), client_ip=more.pop("client_ip", None))
        record = Lifecycle(type_, session, 0, at, at, 0, self._offset, known, opened, opened, opened, (1, 0, 0, 0), **more)
        self.values.append(encode_lifecycle(record).value or b"")

    def opened(self, at: int, session: str, subject: str = "alice", **more: Any) -> None:
        self.add(LifecycleType.OPENED, at, session, subject, opened=at, **more)

    def timed_out(self, at: int, session: str, subject: str = "alice", **more: Any) -> None:
        self.add(LifecycleType.EXPIRED, at, session, subject, opened=at - 10 * MINUTE, reason=Reason.IDLE_TIMEOUT.value, **more)


def told(watch: Watch) -> list[AlertRecord]:
    return [decode_alert(record.value) for record in watch.alerts() if record.value is not None]


def fed(stream: Stream, watch: Watch | None = None, start: int = 0) -> Watch:
    watch = watch or Watch(0, lambda: POLICY)
    for offset, value in enumerate(stream.values[start:], start):
        watch.take(offset, value)
    return watch


def churn(stream: Stream, times: int, subject: str = "alice", begin: int = NOW) -> int:
    at = begin
    for number in range(times):
        at = begin + number * 12 * MINUTE
        stream.opened(at, f"{subject}-{number}", subject)
        stream.timed_out(at + 10 * MINUTE, f"{subject}-{number}", subject)
    return at + 10 * MINUTE


def test_churn_one_below_is_silent_at_it_fires_once_and_after_it_resolves() -> None:
    stream = Stream()
    last = churn(stream, 2)
    watch = fed(stream)
    assert told(watch) == []
    stream.opened(last + SECOND, "third")
    stream.timed_out(last + 10 * MINUTE, "third")
    fed(stream, watch, 4)
    (alert,) = told(watch)
    assert (alert.alert, alert.state, alert.subject) == ("timeout_churn", AlertState.FIRING, "alice")
    assert alert.evidence["seen"]["timeouts"] == 3
    for minute in range(120):
        watch.advance(last + 10 * MINUTE + minute * MINUTE)
    (over,) = [one for one in told(watch) if one.state is AlertState.RESOLVED]
    assert (over.fingerprint, over.since) == (alert.fingerprint, alert.since)


def test_a_session_is_long_by_its_rule_while_it_lives_and_no_more_when_it_ends() -> None:
    stream = Stream()
    stream.opened(NOW, "run", "svc", workload="agent-run")
    watch = fed(stream)
    watch.advance(NOW + 3 * HOUR - 1)
    assert told(watch) == []
    watch.advance(NOW + 3 * HOUR)
    (alert,) = told(watch)
    assert (alert.alert, alert.session_id) == ("long_session", "run")
    for minute in range(30):
        watch.advance(NOW + 3 * HOUR + minute * MINUTE)
    assert all(one.state is AlertState.FIRING for one in told(watch)), "it lives: it is seen again"
    stream.add(LifecycleType.CLOSED, NOW + 4 * HOUR, "run", "svc", workload="agent-run", reason="closed")
    fed(stream, watch, 1)
    watch.advance(NOW + 5 * HOUR)
    assert [one.state for one in told(watch)][-1] is AlertState.RESOLVED


def test_too_many_at_once_until_one_ends() -> None:
    stream = Stream()
    for number in range(3):
        stream.opened(NOW + number, f"c-{number}", workload="console")
    watch = fed(stream)
    (alert,) = told(watch)
    assert (alert.alert, alert.evidence["seen"]["sessions"]) == ("concurrent_sessions", 3)


def test_one_session_from_several_networks_until_that_is_long_ago() -> None:
    stream = Stream()
    stream.add(LifecycleType.OPENED, NOW, "m", client_ip="10.1.0.1")
    stream.add(LifecycleType.ATTRIBUTES_CHANGED, NOW + MINUTE, "m", client_ip="20.1.0.1")
    watch = fed(stream)
    assert told(watch) == []
    stream.add(LifecycleType.ATTRIBUTES_CHANGED, NOW + 2 * MINUTE, "m", client_ip="30.1.0.1")
    fed(stream, watch, 2)
    (alert,) = told(watch)
    assert (alert.alert, alert.session_id, alert.evidence["seen"]["networks"]) == ("session_moved", "m", 3)
    for minute in range(3, 30):
        watch.advance(NOW + minute * MINUTE)
    assert [one.state for one in told(watch)][-1] is AlertState.RESOLVED
    assert not [key for key, value in watch.changed() if key.startswith(b"moved/") and value is not None]


def test_what_is_no_record_is_counted_and_passed_over() -> None:
    watch = Watch(0, lambda: POLICY)
    watch.take(0, b"{}")
    assert (watch.refused, told(watch)) == (1, [])


def test_a_policy_that_disables_a_detector_ends_its_alerts() -> None:
    stream = Stream()
    churn(stream, 3)
    policy = POLICY
    watch = fed(stream, Watch(0, lambda: policy))
    assert [one.state for one in told(watch)] == [AlertState.FIRING]
    policy = compile_policy("version: 1\ndefaults: {idle: 10m, absolute: 12h}\ndetect: {timeout_churn: {enabled: false}}\n")
    watch.advance(watch.now + SECOND)
    assert [one.state for one in told(watch)] == [AlertState.RESOLVED]


def test_a_silence_is_told_with_the_alert_and_when_it_is_lifted() -> None:
    record = SilenceRecord("s1", ("subject=alice",), "me", "known", Instant(NOW), Instant(NOW + 9 * HOUR))
    silences: tuple[Silence, ...] = (checked(record),)
    stream = Stream()
    churn(stream, 3)
    watch = fed(stream, Watch(0, lambda: POLICY, lambda: silences))
    assert [one.silenced_by for one in told(watch)] == [("s1",)]
    silences = ()
    watch.advance(watch.now + SECOND)
    assert [one.silenced_by for one in told(watch)] == [()]


def test_what_is_usual_on_other_partitions_counts_too() -> None:
    policy = compile_policy(
        "version: 1\ndefaults: {idle: 10m, absolute: 12h}\n"
        "detect: {long_session: {minimum: 20, known_for: 0s, at_least: 30m, factor: 2, quantile: 0.9}}\n"
    )
    pool = Pool()
    one, other = Watch(0, lambda: policy, pool=pool), Watch(1, lambda: policy, pool=pool)
    stream = Stream()
    for number in range(20):
        at = NOW + number * MINUTE
        stream.opened(at, f"s{number}", f"u{number}")
        stream.add(LifecycleType.CLOSED, at + 20 * MINUTE, f"s{number}", f"u{number}", opened=at, reason="closed")
    fed(stream, other)
    mine = Stream()
    mine.opened(NOW + HOUR, "runaway", "svc")
    fed(mine, one)
    one.advance(NOW + HOUR + 39 * MINUTE)
    assert told(one) == []
    one.advance(NOW + HOUR + 41 * MINUTE)
    assert [(alert.alert, alert.session_id, alert.evidence["expected"]["sample"]) for alert in told(one)] == [("long_session", "runaway", 20)]
    pool.leave(1)
    assert len(pool.known(NOW)) == 0


def test_time_that_leaps_does_not_end_what_still_stands_out() -> None:
    stream = Stream()
    for number in range(3):
        stream.opened(NOW + number, f"c-{number}", workload="console")
    watch = fed(stream)
    (fired,) = told(watch)
    watch.advance(NOW + 10 * HOUR)
    assert {(one.state, one.since) for one in told(watch)} <= {(AlertState.FIRING, fired.since)}


def test_an_alert_acts_once_where_the_policy_lets_it() -> None:
    policy = compile_policy(
        "version: 1\ndefaults: {idle: 10m, absolute: 12h}\ndetect: {timeout_churn: {count: 3, act: lock, act_for: 30m}}\n"
    )
    stream = Stream()
    last = churn(stream, 4)
    watch = fed(stream, Watch(0, lambda: policy))
    (control,) = watch.controls()
    assert (control.type, control.target.subject, control.by) == (ControlType.LOCK, "alice", "detection/timeout_churn")
    assert NOW < control.expires - 30 * MINUTE <= last
    assert list(watch.controls()) == []
    (again,) = fed(stream, Watch(0, lambda: policy)).controls()
    assert again.id == control.id


def test_what_tells_nothing_of_anybody_leaves_nothing_behind() -> None:
    stream = Stream()
    stream.add(LifecycleType.LATE_ACTIVITY, NOW, "s", "nobody")
    watch = fed(stream)
    assert [*watch.changed()] == []


def cohorts_of(watch: Watch) -> dict[bytes, bytes]:
    return {key: value for key, value in watch.changed() if key.startswith(b"cohort/") and value is not None}


def test_another_half_life_holds_for_what_is_known_already() -> None:
    stream, policy = Stream(), POLICY
    churn(stream, 1)
    watch = fed(stream, Watch(0, lambda: policy))
    assert {Cohort.from_bytes(value[8:]).fades for value in cohorts_of(watch).values()} == {POLICY.detection.long_session.fades}
    policy = compile_policy("version: 1\ndefaults: {idle: 10m, absolute: 12h}\ndetect: {long_session: {fades: 1d}}\n")
    watch.advance(watch.now + SECOND)
    assert {Cohort.from_bytes(value[8:]).fades for value in cohorts_of(watch).values()} == {24 * HOUR}


# --- crashes -------------------------------------------------------------------------------------------

def test_cohorts_that_were_written_and_principals_that_were_not_count_each_end_once() -> None:
    stream = Stream()
    churn(stream, 5)
    again = Watch(0, lambda: POLICY)
    for key, value in cohorts_of(fed(stream)).items():
        again.restore(key, value)
    fed(stream, again)
    churn(stream, 1, "bob", begin=again.now)
    fed(stream, again, 10)
    straight = fed(stream)
    assert {key: value[8:] for key, value in cohorts_of(again).items()} == {key: value[8:] for key, value in cohorts_of(straight).items()}


def test_what_stands_out_over_a_restart_and_a_long_silence_is_one_life() -> None:
    stream = Stream()
    for number in range(3):
        stream.opened(NOW + number, f"c-{number}", workload="console")
    watch = fed(stream)
    (fired,) = told(watch)
    again = Watch(0, lambda: POLICY)
    for key, value in watch.changed():
        again.restore(key, value or b"")
    stream.opened(NOW + 10 * HOUR, "other", "bob")
    fed(stream, again, 3)
    again.advance(NOW + 10 * HOUR + MINUTE)
    assert {(one.state, one.since) for one in told(again) if one.subject == "alice"} <= {(AlertState.FIRING, fired.since)}


histories = st.lists(
    st.tuples(st.sampled_from(["alice", "bob"]), st.integers(1, 40), st.booleans()), min_size=1, max_size=40
)
"""Whose session begins so many minutes after the one before, and whether it times out."""


def written(history: Iterable[tuple[str, int, bool]]) -> Stream:
    stream, at = Stream(), NOW
    for number, (subject, minutes, ends) in enumerate(history):
        at += minutes * MINUTE
        stream.opened(at, f"s{number}", subject)
        if ends:
            stream.timed_out(at + 10 * MINUTE, f"s{number}", subject)
            at += 10 * MINUTE
    return stream


def lives(alerts: Iterable[AlertRecord]) -> set[tuple[str, str, int]]:
    return {(one.fingerprint, one.state.value, int(one.since)) for one in alerts}


def principals(state: Mapping[bytes, bytes | None], now: int) -> dict[bytes, tuple[int, list[str]]]:
    """What counts of each: its timeouts within the window, and its live sessions. When the rest is let go of depends on when it is looked at."""
    found = {}
    for key, value in state.items():
        if key.startswith((b"p/", b"s/")) and value is not None:
            who = decode(value)
            counts = who.timeouts.count(now, POLICY.detection.timeout_churn.window), sorted(one.session_id for one in who.sessions if not one.rank)
            if counts != (0, []):
                found[key] = counts
    return found


@settings(max_examples=300, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink))
@given(histories, st.data())
def test_whatever_part_of_a_checkpoint_was_written_a_replay_comes_to_the_same(history: list[tuple[str, int, bool]], data: st.DataObject) -> None:
    stream = written(history)
    straight = fed(stream)
    expected = lives(told(straight))
    log: dict[bytes, bytes] = {}

    def write(changes: list[tuple[bytes, bytes | None]]) -> None:
        for key, value in changes:
            if value is None:
                log.pop(key, None)
            else:
                log[key] = value

    seen: list[AlertRecord] = []
    committed = 0
    for _ in range(data.draw(st.integers(1, 3))):
        watch = Watch(0, lambda: POLICY)
        for key, value in log.items():
            watch.restore(key, value)
        first = data.draw(st.integers(committed, len(stream.values)))
        for offset in range(committed, first):
            watch.take(offset, stream.values[offset])
        write(list(watch.changed()))
        seen += told(watch)
        committed = first
        second = data.draw(st.integers(first, len(stream.values)))
        for offset in range(first, second):
            watch.take(offset, stream.values[offset])
        seen += told(watch)
        changes = list(watch.changed())
        write(changes[: data.draw(st.integers(0, len(changes)))])  # and then it is killed
    watch = Watch(0, lambda: POLICY)
    for key, value in log.items():
        watch.restore(key, value)
    fed(stream, watch, committed)
    seen += told(watch)
    assert lives(seen) == expected
    last = max(watch.now, straight.now)
    write(list(watch.changed()))
    assert principals(log, last) == principals(dict(straight.changed()), last)
