"""The score of alerts against labels, in cases small enough to count by hand."""

import pytest

from monitor.bench.labelled.records import Label
from monitor.bench.labelled.score import COLUMNS, SLACK, Alert, alert_of, score, table
from monitor.core.instants import MINUTE
from monitor.detect.finding import Finding, Subject
from monitor.detect.settings import Detector

CHURN, LONG, LAX = Detector.TIMEOUT_CHURN, Detector.LONG_SESSION, Detector.UNENFORCED


def churn(subject: str, begins: int = 100, ends: int = 200, *sessions: str) -> Label:
    return Label(CHURN, begins, ends, subject=subject, sessions=sessions)


def alert(subject: str, at: int = 150, detector: Detector = CHURN, **more) -> Alert:
    return Alert(detector=detector, at=at, subject=subject, **more)


def only(labels, alerts, healthy: int = 10_000):
    (one,) = score(labels, alerts, healthy)
    return one


def test_all_found_and_nothing_false() -> None:
    one = only([churn("a"), churn("b", 120, 400)], [alert("a", 130), alert("b", 220)])
    assert (one.labels, one.found, one.false, one.recall, one.precision) == (2, 2, 0, 1.0, 1.0)
    assert (one.median, one.worst, one.missed, one.false_per_10k) == (30, 100, (), 0.0)


def test_what_is_missed_and_what_is_false() -> None:
    one = only([churn("a"), churn("b"), churn("c"), churn("d")], [alert("a"), alert("x"), alert("y"), alert("x", 160)], 20_000)
    assert (one.found, one.false, one.recall, one.precision, one.false_per_10k) == (1, 3, 0.25, 0.25, 1.5)
    assert [label.subject for label in one.missed] == ["b", "c", "d"]
    assert [wrong.subject for wrong in one.wrong] == ["x", "y", "x"]


def test_a_label_is_found_once_by_its_first_alert() -> None:
    one = only([churn("a")], [alert("a", 190), alert("a", 110), alert("a", 150)])
    assert (one.found, one.again, one.false, one.precision, one.median) == (1, 2, 0, 1.0, 10)


@pytest.mark.parametrize(("at", "found"), [(99, 0), (100, 1), (200 + SLACK, 1), (201 + SLACK, 0)])
def test_an_alert_counts_while_the_abuse_lasts_and_a_little_after(at, found) -> None:
    one = only([churn("a")], [alert("a", at)])
    assert (one.found, one.false) == (found, 1 - found)


def test_a_label_is_named_by_its_session_its_gateway_or_one_of_its_sessions() -> None:
    labels = [
        Label(LONG, 100, 200, subject="a", session_id="s-1"), Label(LONG, 100, 200, subject="b", sessions=("s-2", "s-3")),
        Label(LAX, 100, 200, gateway="g"),
    ]  # fmt: skip
    alerts = [
        Alert(detector=LONG, at=150, session_id="s-1"), Alert(detector=LONG, at=160, session_id="s-9", sessions=("s-3",)),
        Alert(detector=LAX, at=170, gateway="g"), Alert(detector=LAX, at=170, gateway="other"), Alert(detector=LAX, at=170),
    ]  # fmt: skip
    long, lax = score(labels, alerts, 100)
    assert (long.found, long.false, lax.found, lax.false) == (2, 0, 1, 2)


def test_another_detectors_word_on_an_abuser_is_neither_right_nor_wrong() -> None:
    crowd = Detector.CONCURRENT_SESSIONS
    found = {one.detector: one for one in score([churn("a", 100, 200, "s-1")], [alert("a", detector=crowd), alert("b", detector=crowd)], 10)}
    assert (found[crowd].labels, found[crowd].beside, found[crowd].false, found[crowd].recall, found[crowd].precision) == (0, 1, 1, None, 0.0)
    assert (found[CHURN].recall, found[CHURN].precision, found[CHURN].median, found[CHURN].worst) == (0.0, None, None, None)


def test_its_own_detectors_word_at_another_time_is_wrong() -> None:
    assert only([churn("a")], [alert("a", 90)]).false == 1


def test_a_storm_finds_all_that_goes_on_while_it_fires() -> None:
    labels = [churn("a"), churn("b", 300, 400), churn("c", 5_000_000, 5_000_100)]
    storm = Alert(detector=CHURN, at=150, ends=350, storm=True)
    one = only(labels, [storm])
    assert (one.found, one.false, one.median, one.worst, [label.subject for label in one.missed]) == (2, 0, 0, 50, ["c"])
    # Of one that is not over yet it is known only that it fires.
    assert only(labels, [Alert(detector=CHURN, at=150, storm=True)]).found == 1
    assert only(labels, [alert("b", 150, ends=350, storm=True)]).found == 1
    assert only(labels, [alert("x", 150, ends=350, storm=True)]).false == 1


def test_without_healthy_sessions_there_is_no_rate() -> None:
    assert only([], [alert("x")], 0).false_per_10k is None


def test_a_finding_is_an_alert() -> None:
    about = Subject(LONG, subject="a", session_id="s-1", gateway="g")
    finding = Finding(about, 7, "", {}, {}, ("s-1", "s-2"))
    assert alert_of(finding) == Alert(detector=LONG, at=7, subject="a", session_id="s-1", gateway="g", sessions=("s-1", "s-2"))


def test_the_table_has_a_row_for_each_detector() -> None:
    rows = table(score([churn("a", 0, 10 * MINUTE), Label(LONG, 0, 1, session_id="s")], [alert("a", 3 * MINUTE)], 3))
    assert [tuple(row) for row in rows] == [COLUMNS, COLUMNS]
    assert rows[0] == dict(
        zip(COLUMNS, ("long_session", 1, 0, "0.000", "-", 0, "0.00", 0, 0, "-", "-"), strict=True)
    )  # fmt: skip
    assert (rows[1]["recall"], rows[1]["precision"], rows[1]["median"], rows[1]["worst"]) == ("1.000", "1.000", "3.0 min", "3.0 min")
