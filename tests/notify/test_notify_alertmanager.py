"""What Alertmanager gets: as a server of ours takes it, and as a real one shows it with amtool."""

import msgspec
import pytest

from monitor.core.errors import InputError
from monitor.core.instants import HOUR, MINUTE, SECOND
from monitor.notify.alertmanager import AT_ONCE, Alertmanager
from monitor.notify.answer import Verdict
from monitor.notify.clock import wall
from monitor.notify.endpoint import Endpoint
from monitor.notify.wording import LONGEST, alert_name, description
from monitor.wire.alerts import AlertState
from monitor.wire.times import format_time
from tests.notify.alerts import T, alert
from tests.notify.listening import Listening, until
from tests.notify.real_alertmanager import RealAlertmanager
from tests.notify.worlds import Alerts, notifying

EVIDENCE = {
    "cohort": {"roles": ["analyst", "auditor"], "workload": "console", "role": None},
    "expected": {"timeouts": 3, "within_ms": 3_600_000},
    "seen": {"timeouts": 12},
    "sessions": ["s-1", "s-2"],
    "more_of_it": True,
}


@pytest.fixture
def receiver(listening):
    return Alertmanager(
        "am", Endpoint(listening.url), now=lambda: T + 90 * SECOND, labels={"cluster": "eu"},
        generator_url="https://monitor.example.com/alerts/{fingerprint}",
    )  # fmt: skip


class Silenceable(msgspec.Struct, frozen=True):
    """An alert with all that it may come to have."""

    fingerprint: str = "f1"
    alert: str = "unacknowledged"
    state: AlertState = AlertState.FIRING
    severity: str = "critical"
    since: int = T
    updated: int = T
    summary: str = "gateway-1 does not apply commands"
    subject: str | None = None
    session_id: str | None = None
    gateway: str | None = "gateway-1"
    workload: str | None = "inference"
    tenant: str | None = "acme"
    evidence: dict = {}
    silenced_by: tuple[str, ...] = ()
    ended: int | None = None


def fires(listening):
    """Fingerprints in each request."""
    return [[one["labels"]["fingerprint"] for one in post.said] for post in listening.posts]


def test_labels_and_annotations_by_convention(receiver, listening):
    assert receiver.deliver(alert(5, session_id="s-1", evidence=EVIDENCE)).verdict is Verdict.TAKEN
    (post,) = listening.posts
    assert post.path == "/api/v2/alerts"
    assert post.said == [{
        "labels": {
            "alertname": "TimeoutChurn", "severity": "warning", "subject": "alice", "session_id": "s-1", "fingerprint": f"{5:032x}", "cluster": "eu",
        },
        "annotations": {
            "summary": "alice timed out 12 times within the hour",
            "description": "Expected: timeouts 3, within_ms 3600000. Seen: timeouts 12. Sessions: s-1, s-2."
            " Cohort: roles analyst, auditor, workload console. More of it: yes.",
        },
        "startsAt": "2026-11-24T06:00:00.000Z", "endsAt": "2026-11-24T06:06:30.000Z",
        "generatorURL": f"https://monitor.example.com/alerts/{5:032x}",
    }]  # fmt: skip


def test_a_gateways_alert_names_it(receiver, listening):
    receiver.deliver(Silenceable())
    assert listening.posts[0].said[0]["labels"] == {
        "alertname": "Unacknowledged", "severity": "critical", "gateway": "gateway-1", "workload": "inference", "tenant": "acme",
        "fingerprint": "f1", "cluster": "eu",
    }  # fmt: skip
    assert "description" not in listening.posts[0].said[0]["annotations"]


def test_a_resolved_one_ends_under_the_labels_that_it_fired_with(receiver, listening):
    receiver.deliver(alert(1))
    receiver.update(alert(1, severity="critical", updated=T + 1))
    assert receiver.deliver(alert(1, state="resolved", summary="over", since=T + 9, updated=T + MINUTE)).verdict is Verdict.TAKEN
    (fired,), (over,) = (post.said for post in listening.posts)
    assert over["labels"] == fired["labels"] | {"severity": "critical"}
    assert (over["startsAt"], over["endsAt"], over["annotations"]["summary"]) == (fired["startsAt"], "2026-11-24T06:01:00.000Z", "over")
    assert receiver.firing == 0


def test_its_end_is_what_its_record_says(receiver, listening):
    receiver.deliver(Silenceable(state=AlertState.RESOLVED, updated=T + HOUR, ended=T + MINUTE))
    receiver.deliver(Silenceable(state=AlertState.RESOLVED, updated=T - HOUR))
    assert [post.said[0]["endsAt"] for post in listening.posts] == ["2026-11-24T06:01:00.000Z", "2026-11-24T06:00:00.000Z"]


def test_what_fires_is_sent_again_every_minute(receiver, listening):
    receiver.tend(T)
    assert listening.posts == []
    receiver.deliver(alert(1))
    receiver.deliver(alert(2))
    receiver.update(alert(2, summary="13 times", updated=T + 1))
    receiver.tend(T + MINUTE - 1)
    assert len(listening.posts) == 2
    receiver.tend(T + MINUTE)
    receiver.tend(T + MINUTE + 1)
    receiver.deliver(alert(1, state="resolved"))
    receiver.tend(T + 2 * MINUTE)
    assert fires(listening)[2:] == [[f"{1:032x}", f"{2:032x}"], [f"{1:032x}"], [f"{2:032x}"]]
    assert listening.posts[2].said[1]["annotations"]["summary"] == "13 times"


def test_what_was_told_in_an_earlier_life_is_sent_again_at_once(receiver, listening):
    receiver.update(alert(1))
    receiver.update(alert(2))
    receiver.update(alert(2, state="resolved"))
    receiver.update(Silenceable(silenced_by=("s-1",)))
    receiver.tend(T)
    assert fires(listening) == [[f"{1:032x}"]]


def test_a_silenced_one_is_sent_no_more_and_again_when_its_silence_ends(receiver, listening):
    receiver.deliver(Silenceable())
    receiver.update(Silenceable(silenced_by=("s-1",)))
    receiver.tend(T)
    receiver.update(Silenceable())
    receiver.tend(T + MINUTE)
    receiver.drop("f1")
    receiver.tend(T + 2 * MINUTE)
    assert fires(listening) == [["f1"], ["f1"]]


def test_a_repeat_that_failed_is_made_again_soon(receiver, listening):
    receiver.update(alert(1))
    listening.status = 503
    receiver.tend(T)
    receiver.tend(T + 5 * SECOND - 1)
    assert (len(listening.posts), receiver.repeat_failures) == (1, 1)
    listening.status = 200
    receiver.tend(T + 5 * SECOND)
    receiver.tend(T + 6 * SECOND)
    assert (len(listening.posts), receiver.repeat_failures) == (2, 0)


def test_a_clock_that_is_set_back_does_not_silence_it(receiver, listening):
    receiver.update(alert(1))
    receiver.tend(T)
    receiver.tend(T - HOUR)
    assert len(listening.posts) == 2


def test_many_are_sent_in_parts_and_one_at_fault_does_not_take_others_with_it(receiver, listening):
    for number in range(AT_ONCE + 1):
        receiver.update(alert(number))
    receiver.tend(T)
    assert [len(post.said) for post in listening.posts] == [AT_ONCE, 1]
    listening.posts.clear()
    listening.status = lambda number: 400 if number in (0, 7) else 200
    receiver.tend(T + MINUTE)
    assert [len(post.said) for post in listening.posts] == [AT_ONCE, *[1] * AT_ONCE, 1]
    listening.posts.clear()
    listening.status = 200
    receiver.tend(T + 2 * MINUTE)
    assert [len(post.said) for post in listening.posts] == [AT_ONCE]  # without the one at fault
    assert f"{6:032x}" not in fires(listening)[0]


@pytest.mark.parametrize(("name", "said"), [("long_session", "LongSession"), ("unenforced", "Unenforced"), ("", ""), ("a__b", "AB"), ("aBC_d", "ABCD")])
def test_names_in_camel_case(name, said):
    assert alert_name(name) == said


def test_a_description_is_bounded():
    assert description(alert(evidence={"sessions": ["s-" + "x" * 100] * 100})).endswith("…")
    assert len(description(alert(evidence={"sessions": ["s-" + "x" * 100] * 100}))) == LONGEST
    assert description(alert(evidence={"expected": {}, "seen": None})) == ""


def test_a_repeat_without_time_between_is_refused():
    with pytest.raises(InputError, match="repeats"):
        Alertmanager("am", Endpoint("http://localhost:1"), repeat=0)


@pytest.mark.parametrize("label", ["", "a-b", "1a", "ä", "a b"])
def test_a_label_that_it_would_refuse_is_refused(label):
    with pytest.raises(InputError, match="labels can't be called"):
        Alertmanager("am", Endpoint("http://localhost:1"), labels={"cluster": "eu", label: "x"})


def test_its_repr_says_where_it_is(receiver, listening):
    assert repr(receiver) == f"Alertmanager('am', Endpoint({listening.url}))"


@pytest.fixture
def real(tmp_path):
    """A real Alertmanager, and where it notifies."""
    hook = Listening()
    hook.start()
    one = RealAlertmanager(tmp_path, hook=hook.url)
    try:
        one.start()
        yield one, hook
    finally:
        one.stop()
        hook.stop()


@pytest.fixture
def world(embedded, own_topics):
    return own_topics(embedded)


@pytest.fixture
def alerts(world):
    one = Alerts(world)
    yield one
    one.close()


def notified(hook):
    """What Alertmanager has notified: status, alertname."""
    return [(one["status"], one["labels"]["alertname"]) for post in hook.posts for one in post.said["alerts"]]


@pytest.mark.alertmanager
@pytest.mark.embedded
def test_a_real_one_shows_what_fires_and_what_is_over(real, world, alerts):
    server, hook = real
    now = wall()
    receiver = Alertmanager("am", Endpoint(server.url), generator_url="https://monitor.example.com/alerts/{fingerprint}")
    with notifying(world, receiver):
        alerts.write(alert(1, since=now, session_id="s-1", evidence=EVIDENCE), alert(2, since=now, severity="critical", subject="bob"))
        until(lambda: len(server.alerts()) == 2)
        (one,) = server.alerts("alertname=TimeoutChurn", "severity=warning", "subject=alice")
        assert one["labels"] == {
            "alertname": "TimeoutChurn", "severity": "warning", "subject": "alice", "session_id": "s-1", "fingerprint": f"{1:032x}",
        }
        assert one["annotations"] == {"summary": alert(1).summary, "description": description(alert(evidence=EVIDENCE))}
        assert one["generatorURL"] == f"https://monitor.example.com/alerts/{1:032x}"
        assert (one["startsAt"], one["status"]["state"]) == (format_time(now), "active")
        until(lambda: notified(hook).count(("firing", "TimeoutChurn")) == 2)
        alerts.write(alert(1, state="resolved", since=now, updated=now + 1))
        until(lambda: [one["labels"]["subject"] for one in server.alerts()] == ["bob"])
        until(lambda: ("resolved", "TimeoutChurn") in notified(hook))


@pytest.mark.alertmanager
@pytest.mark.embedded
def test_silences_of_a_real_one_hold(real, world, alerts):
    server, hook = real
    now = wall()
    silence = server.amtool("silence", "add", "--author=carol", "--comment=known", "--duration=1h", "subject=alice", "alertname=TimeoutChurn")
    with notifying(world, Alertmanager("am", Endpoint(server.url), repeat=200)):
        alerts.write(alert(1, since=now), alert(2, since=now, subject="bob"))
        until(lambda: len(server.alerts("--active", "--silenced")) == 2)
        (silenced,) = server.alerts("--silenced", "subject=alice")
        assert (silenced["status"]["state"], silenced["status"]["silencedBy"]) == ("suppressed", [silence])
        assert [one["labels"]["subject"] for one in server.alerts()] == ["bob"]
        until(lambda: notified(hook))
        assert {one["labels"]["subject"] for post in hook.posts for one in post.said["alerts"]} == {"bob"}
        server.amtool("silence", "expire", silence)
        until(lambda: {one["labels"]["subject"] for one in server.alerts()} == {"alice", "bob"})


@pytest.mark.alertmanager
@pytest.mark.embedded
def test_a_real_one_that_forgets_everything_is_told_again_and_what_nobody_sends_goes(real, world, alerts):
    server, _ = real
    now = wall()
    with notifying(world, Alertmanager("am", Endpoint(server.url), repeat=300)):
        alerts.write(alert(1, since=now))
        until(lambda: len(server.alerts()) == 1)
        server.stop()
        server.start()
        until(lambda: len(server.alerts()) == 1)
    until(lambda: server.alerts() == [])


@pytest.mark.alertmanager
def test_a_real_one_refuses_what_it_does_not_take(real):
    server, _ = real
    answer = Endpoint(server.url).below("/api/v2/alerts").post(b'[{"labels": {"": "x"}}]', {})
    assert answer.verdict is Verdict.REFUSED
