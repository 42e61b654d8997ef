"""The state of one principal: what records make of it, that nothing counts twice, and that it stays small."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.events import Attributes
from monitor.core.events import Principal as Kind
from monitor.core.instants import DAY, HOUR, MINUTE, SECOND
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.detect.finding import Finding
from monitor.detect.principal import (
    FORGET_LIVE,
    LATELY,
    MOST_SESSIONS,
    MOST_SPANS,
    SPAN_NAMES,
    Exempt,
    Keep,
    Principal,
    decode,
    encode,
    nobody,
    principal_of,
)
from monitor.detect.settings import DEFAULTS, Detector
from monitor.testing.driver import Driver
from monitor.wire.lifecycle import decode_lifecycle, encode_lifecycle
from monitor.wire.times import format_time

T = 1_795_500_000_000
KEEP = Keep.of(DEFAULTS)
LT = LifecycleType


class Story:
    """Sessions of one principal, told as a worker tells them: the offsets of access events rise within a partition."""

    def __init__(self, subject: str | None = "alice", *, keep: Keep = KEEP, exempt: Exempt = nobody) -> None:
        self.records: list[Lifecycle] = []
        self.subject, self.keep, self.exempt = subject, keep, exempt
        self.who = Principal(subject)
        self.last: dict[str, Lifecycle] = {}
        self.log = 0

    def open(self, session_id: str, at: int, *, partition: int = 0, auth: int | None = None, **attributes) -> "Story":
        known = Attributes(self.subject, Kind.USER, ("clerk",), "internal", "console")
        started = T + (at if auth is None else auth)
        return self._tell(
            Lifecycle(
                LT.OPENED, session_id, 0, T + at, T + at, partition, 0, msgspec.structs.replace(known, **attributes), started,
                T + at, T + at, (1, 0, 0, 0),
            )
        )  # fmt: skip

    def end(self, session_id: str, at: int, reason: str = "closed", *, used: int | None = None) -> "Story":
        kind = {"closed": LT.CLOSED, "admin_revoked": LT.REVOKED}.get(reason, LT.EXPIRED)
        used = at if used is None else used
        return self.change(session_id, kind, at, reason=reason, last_activity=T + used)

    def reauthenticate(self, session_id: str, at: int) -> "Story":
        epoch = self.last[session_id].epoch + 1
        return self.change(session_id, LT.REAUTHENTICATED, at, epoch=epoch, started_at=T + at, last_activity=T + at)

    def change(self, session_id: str, kind: LifecycleType, at: int, **changes) -> "Story":
        changes = {"reason": None, "log_time": T + at} | changes
        return self._tell(msgspec.structs.replace(self.last[session_id], type=kind, at=T + at, **changes))

    def _tell(self, record: Lifecycle) -> "Story":
        record = msgspec.structs.replace(record, offset=len(self.records) + 1)
        self.last[record.session_id] = record
        self.records.append(record)
        self.again(record)
        return self

    def again(self, record: Lifecycle) -> bool:
        """At the next offset of session-lifecycle."""
        self.log += 1
        return self.who.take(record, self.log, self.keep, self.exempt)

    @property
    def live(self) -> list[str]:
        return [one.session_id for one in self.who.sessions if not one.rank]


def without_offset(who: Principal) -> Principal:
    return msgspec.structs.replace(decode(encode(who)), applied=0)


def test_a_session_lives_from_its_opening_to_its_end() -> None:
    story = Story().open("a", 0).open("b", 5)
    assert story.live == ["a", "b"]
    story.end("a", MINUTE)
    assert story.live == ["b"]
    story.reauthenticate("a", 2 * MINUTE)
    assert story.live == ["a", "b"]


def test_only_timeouts_count_as_timeouts() -> None:
    story = Story()
    for number, reason in enumerate(["closed", "admin_revoked", "locked", "idle_timeout", "absolute_timeout"]):
        story.open(f"s-{number}", number).end(f"s-{number}", number + 10, reason)
    story.open("s-9", 20).change("s-9", LT.EXPIRED, 25, reason="idle_timeout", observe=True)
    assert story.who.timeouts.exact == [T + 13, T + 14]
    assert story.who.lately == ["s-3", "s-4"]
    assert story.live == ["s-9"]


def test_an_exempt_session_times_out_unseen() -> None:
    story = Story(exempt=lambda a: a.workload == "batch")
    story.open("a", 0, workload="batch").open("b", 1).end("a", 10, "idle_timeout").end("b", 11, "idle_timeout")
    assert story.who.timeouts.exact == [T + 11]


def test_a_record_at_or_below_the_applied_offset_changes_nothing() -> None:
    story = Story().open("a", 0).end("a", 10, "idle_timeout")
    before = encode(story.who)
    later = msgspec.structs.replace(story.records[0], session_id="other", offset=99)
    assert [story.who.take(later, offset, KEEP) for offset in (1, 2)] == [False, False]
    assert encode(story.who) == before
    assert story.who.take(later, 3, KEEP)


def test_a_copy_at_a_later_offset_counts_once() -> None:
    story = Story().open("a", 0).end("a", 10, "idle_timeout").reauthenticate("a", 20).end("a", 30, "idle_timeout")
    before = without_offset(story.who)
    assert not any(story.again(record) for record in story.records)
    assert without_offset(story.who) == before
    assert before.timeouts.exact == [T + 10, T + 30]


def test_a_copy_of_a_session_that_is_no_longer_known_counts_no_more() -> None:
    story = Story().open("a", 0).end("a", 10, "idle_timeout")
    story.open("b", 30 * MINUTE)
    assert [one.session_id for one in story.who.sessions] == ["b"], "a is forgotten after the gap"
    before = without_offset(story.who)
    assert not any(story.again(record) for record in story.records[:2])
    assert without_offset(story.who) == before
    # But what another partition, which was away for long, tells late is new.
    late = msgspec.structs.replace(story.records[0], session_id="c", partition=1)
    assert story.again(late)
    assert story.live == ["b", "c"]


def test_a_revocation_after_an_expiry_ends_it_no_later_and_counts_no_timeout() -> None:
    story = Story().open("a", 0).end("a", MINUTE, "idle_timeout", used=30).end("a", 2 * MINUTE, "admin_revoked")
    (known,) = story.who.sessions
    assert (known.rank, known.ended, len(story.who.timeouts.exact)) == (2, T + 30, 1)


def test_an_idle_session_was_left_at_its_last_activity() -> None:
    story = Story().open("a", 0).open("b", MINUTE).end("a", 10 * MINUTE, "idle_timeout", used=5 * MINUTE - 1)
    story.end("b", 10 * MINUTE, "absolute_timeout", used=9 * MINUTE)
    assert [one.ended for one in story.who.sessions] == [T + 10 * MINUTE], "the other was left longer ago than the gap"
    assert [(span.start, span.end) for span in story.who.spans] == [(T, T + 5 * MINUTE - 1)]


@pytest.mark.parametrize("kind", [LT.ATTRIBUTES_CHANGED, LT.WARNED, LT.REAUTHENTICATED, LT.REINSTATED])
def test_a_session_that_is_met_in_the_middle_of_its_life_lives(kind: LifecycleType) -> None:
    told = Story().open("a", 0).change("a", kind, 10).records[-1]
    who = principal_of(told)
    assert who.take(told, 0, KEEP)
    assert [one.session_id for one in who.sessions if not one.rank] == ["a"]


def test_late_activity_says_nothing_of_how_a_session_stands() -> None:
    story = Story().open("a", 0).end("a", 10).change("a", LT.LATE_ACTIVITY, 20)
    assert story.live == []


def test_where_the_subject_is_not_known_only_timeouts_are_kept() -> None:
    story = Story(None).open("a", 0)
    assert principal_of(story.records[0]).session_id == "a"
    assert story.who.empty
    story.end("a", 10, "idle_timeout").reauthenticate("a", 20).end("a", 30, "idle_timeout")
    assert (story.who.timeouts.exact, story.who.sessions) == ([T + 10, T + 30], [])
    assert not any(story.again(record) for record in story.records)


def test_attributes_are_those_that_were_heard_of_last() -> None:
    story = Story().open("a", 0, roles=("analyst",)).open("b", 5, workload="batch")
    assert (story.who.attributes.workload, story.who.attributes.subject) == ("batch", "alice")
    changed = msgspec.structs.replace(story.records[0].attributes, classification="restricted")
    story.change("a", LT.ATTRIBUTES_CHANGED, 10, attributes=changed)
    assert story.who.attributes == msgspec.structs.replace(changed, client_ip=None)
    assert len(story.who.profiles) == 2


def test_sessions_that_ended_longer_ago_than_the_gap_become_a_span_while_others_may_join_it() -> None:
    story = Story().open("a", 0).end("a", HOUR).open("b", HOUR + 2 * MINUTE)
    story.open("c", 2 * HOUR)
    assert [(one.session_id) for one in story.who.sessions] == ["b", "c"]
    assert [(span.start, span.end, span.parts, span.names) for span in story.who.spans] == [(T, T + HOUR, 1, ["a"])]
    story.end("b", 3 * HOUR).end("c", 3 * HOUR + 1)
    story.who.trim(T + 3 * HOUR + 1 + KEEP.gap, KEEP)
    assert story.who.spans
    story.who.trim(T + 3 * HOUR + 2 + KEEP.gap, KEEP)
    assert (story.who.spans, story.who.sessions) == ([], [])
    assert story.who.empty


def test_a_span_that_nothing_can_join_is_let_go() -> None:
    story = Story().open("a", 0).end("a", HOUR).open("b", HOUR + KEEP.gap + 1).open("c", 2 * HOUR)
    assert story.who.spans == []


def test_a_session_is_itself_for_the_gap_after_its_end_and_then_part_of_one_span() -> None:
    story = Story().open("z", 0).open("a", 1).open("b", 1 + KEEP.gap).end("z", 2).end("a", 3)
    story.change("b", LT.WARNED, 3 + KEEP.gap)
    assert [one.session_id for one in story.who.sessions] == ["a", "b"], "it may be re-authenticated, and is no part of what it joins"
    story.change("b", LT.WARNED, 4 + KEEP.gap)
    assert [one.session_id for one in story.who.sessions] == ["b"]
    story.end("b", 5 + KEEP.gap).open("c", 5 + 2 * KEEP.gap).end("c", 6 + 2 * KEEP.gap).open("d", 7 + 2 * KEEP.gap)
    story.open("e", 7 + 3 * KEEP.gap)
    assert [(span.parts, span.start, span.end) for span in story.who.spans] == [(4, T, T + 6 + 2 * KEEP.gap)]


def test_a_live_session_without_an_end_is_forgotten_in_the_end() -> None:
    story = Story().open("a", 0)
    story.who.trim(T + FORGET_LIVE, KEEP)
    assert story.live == ["a"]
    story.who.trim(T + FORGET_LIVE + 1, KEEP)
    assert story.live == []


def test_of_too_many_live_sessions_the_oldest_and_the_newest_are_known() -> None:
    story = Story()
    for number in range(MOST_SESSIONS + 10):
        story.open(f"s-{number:03}", number)
    assert story.live == [*(f"s-{number:03}" for number in range(MOST_SESSIONS - 1)), f"s-{MOST_SESSIONS + 9:03}"]
    story.end("s-130", 200, "idle_timeout")
    assert (len(story.who.timeouts.exact), len(story.who.sessions)) == (1, MOST_SESSIONS)


def test_whatever_comes_its_bytes_stay_few() -> None:
    story = Story()
    for number in range(3000):
        name, at = f"session-{number:028}", number * 17 * SECOND
        story.open(name, at, partition=number % 8, workload=f"w-{number % 12}", route=f"/v1/{number % 5}")
        if number % 3:
            story.end(name, at + 10 * SECOND, "idle_timeout")
    who = story.who
    assert (len(who.sessions), len(who.spans), len(who.lately)) == (MOST_SESSIONS, MOST_SPANS, LATELY)
    assert all(len(span.names) <= SPAN_NAMES for span in who.spans)
    assert len(who.profiles) <= 60
    assert len(encode(who)) < 20_000


def test_a_cleared_finding_is_told_once() -> None:
    who = Principal("alice")
    about = who.about(Detector.CAP_EVASION, "console")
    finding = Finding(about, T, "it does", {}, {})
    assert who.note(about, None, T) is None
    assert who.note(about, finding, T) is finding
    who = decode(encode(who))
    assert who.stands_out(Detector.CAP_EVASION, "console")
    assert not who.stands_out(Detector.CAP_EVASION)
    assert who.note(who.about(Detector.CAP_EVASION), None, T) is None
    cleared = who.note(about, None, T + 5)
    assert (cleared.about, cleared.at) == (about, T + 5)
    assert who.note(about, None, T + 6) is None
    assert who.empty


@st.composite
def stories(draw) -> list[Lifecycle]:
    story, at = Story(), 0
    for _ in range(draw(st.integers(1, 40))):
        at += draw(st.sampled_from([SECOND, MINUTE, 4 * MINUTE, 6 * MINUTE, HOUR]))
        session_id = draw(st.sampled_from("abcdef"))
        what = draw(st.sampled_from(["open", "closed", "idle_timeout", "absolute_timeout", "admin_revoked", "again"]))
        last = story.last.get(session_id)
        live = last is not None and last.type not in {LT.CLOSED, LT.EXPIRED, LT.REVOKED}
        if last is None:
            story.open(session_id, at, partition="abcdef".index(session_id) % 2, workload=draw(st.sampled_from(["console", "batch"])))
        elif what == "again" and last.type is not LT.REVOKED:
            story.reauthenticate(session_id, at)
        elif what not in {"open", "again"} and live:
            story.end(session_id, at, what, used=max(0, at - MINUTE))
    return story.records


@given(stories(), st.data())
def test_neither_a_restart_nor_a_replay_nor_copies_change_anything(records: list[Lifecycle], data) -> None:
    """Copies come in the order of their partition, from anywhere up to what was last told."""
    plain = Principal("alice")
    for offset, record in enumerate(records):
        plain.take(record, offset, KEEP)
    who, log, saved = Principal("alice"), [], encode(Principal("alice"))
    for place, record in enumerate(records):
        log.append(record)
        who.take(record, len(log) - 1, KEEP)
        match data.draw(st.sampled_from(["on", "on", "on", "save", "restart", "copies"])):
            case "save":
                saved = encode(who)
            case "restart":
                who = decode(saved)
                for offset, again in enumerate(log):
                    who.take(again, offset, KEEP)
            case "copies":
                partition, begin = data.draw(st.integers(0, 1)), data.draw(st.integers(0, place))
                for again in records[begin : place + 1]:
                    if again.partition == partition:
                        log.append(again)
                        assert not who.take(again, len(log) - 1, KEEP)
            case _:
                pass
    assert without_offset(who) == without_offset(plain)


@given(stories())
def test_it_knows_those_that_live_and_all_that_timed_out(records: list[Lifecycle]) -> None:
    who, live, timeouts = Principal("alice"), set(), []
    for offset, record in enumerate(records):
        who.take(record, offset, KEEP)
        ends = record.type in {LT.CLOSED, LT.EXPIRED, LT.REVOKED}
        (live.discard if ends else live.add)(record.session_id)
        if record.type is LT.EXPIRED:
            timeouts.append(record.at)
    now = records[-1].log_time
    assert {one.session_id for one in who.sessions if not one.rank} == live
    assert who.timeouts.exact == [at for at in timeouts if at > now - KEEP.window]
    assert now < T + 100 * DAY


@given(stories())
def test_when_it_fades_nothing_is_left_and_a_moment_before_something_is(records: list[Lifecycle]) -> None:
    who = Principal("alice")
    for offset, record in enumerate(records):
        who.take(record, offset, KEEP)
    at = who.fades_at(KEEP)
    if at > records[-1].log_time:
        who.trim(at - 1, KEEP)
        assert not who.empty
    who.trim(at, KEEP)
    assert who.empty
    assert who.fades_at(KEEP) == 0


POLICY = """
version: 1
defaults: {idle: 5m, absolute: 1h, warn_before: [1m]}
"""


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["session.opened", "session.activity", "session.reauthenticated", "session.closed", "revoke", "tick"]),
            st.sampled_from("abc"), st.sampled_from([SECOND, MINUTE, 4 * MINUTE, 11 * MINUTE]),
            st.sampled_from(["on", "on", "on", "checkpoint", "write ahead", "restart"]),
        ),
        min_size=1, max_size=40,
    )
)  # fmt: skip
def test_a_worker_that_is_killed_and_replays_leaves_it_as_one_that_lives(steps) -> None:
    """The engine's own records: what it writes again after a crash changes nothing."""
    calm, shaken = Driver(POLICY, now=T), Driver(POLICY, now=T)
    at = T
    for kind, name, pause, fate in steps:
        at += pause
        for driver in (calm, shaken):
            if kind == "revoke":
                driver.control({"type": "control.revoke", "id": f"c-{at}", "target": {"session_id": name}, "reason": "r", "by": "b"}, at)
            if kind in {"revoke", "tick"}:
                driver.tick(at)
            else:
                said = {"type": kind, "session_id": name, "subject": "alice", "roles": ["clerk"], "workload": "console"}
                driver.append(said | {"time": format_time(at)}, at)
        if fate == "checkpoint":
            shaken.checkpoint()
        elif fate != "on":
            if fate == "write ahead":
                shaken.write_ahead()
            shaken.restart()
    for driver in (calm, shaken):
        driver.tick(at + 10 * MINUTE)
    assert without_offset(told(shaken.lifecycle)) == without_offset(told(calm.lifecycle))


def told(records: list[Lifecycle]) -> Principal:
    who = Principal("alice")
    for offset, record in enumerate(records):
        who.take(decode_lifecycle(encode_lifecycle(record).value), offset, KEEP)
    return who
