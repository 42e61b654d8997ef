"""How good alerts are, held against labels. Pure.

- An alert **finds** a label of its detector if it names the label's session, subject or gateway and comes while the abuse
  lasts, or up to `SLACK` after. The first one counts, further ones are `again`: neither right nor wrong.
- A storm's alert finds every label of its detector (of its subject, if it names one) that is going on while it fires.
- An alert that finds nothing is **false**, unless it speaks of somebody whom a label of another detector names: a client that
  logs in again and again also has many sessions. Such alerts stand `beside`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from monitor.bench.figures import percentile
from monitor.bench.labelled.records import Label
from monitor.core.instants import MINUTE, Millis
from monitor.detect.finding import Finding
from monitor.detect.settings import Detector

SLACK: Final[Millis] = 15 * MINUTE
PER: Final = 10_000
COLUMNS: Final = ("detector", "labels", "found", "recall", "precision", "false", "false_per_10k", "again", "beside", "median", "worst")


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """That something was alerted, and when."""

    detector: Detector
    at: Millis
    ends: Millis | None = None
    """When it was resolved. Only a storm's matters."""
    subject: str | None = None
    session_id: str | None = None
    gateway: str | None = None
    sessions: tuple[str, ...] = ()
    storm: bool = False


class Score(msgspec.Struct, frozen=True):
    """Of one detector."""

    detector: Detector
    labels: int
    found: int
    false: int
    again: int
    beside: int
    healthy_sessions: int
    precision: float | None
    """Of the labels found and the false alerts together: the share of the former. None: neither."""
    recall: float | None
    """None: no labels."""
    median: Millis | None
    """From the beginning of an abuse to its first alert."""
    worst: Millis | None
    missed: tuple[Label, ...] = ()
    wrong: tuple[Alert, ...] = ()
    """The false alerts themselves."""

    @property
    def false_per_10k(self) -> float | None:
        """False alerts for each 10,000 healthy sessions; None: there were none."""
        return self.false * PER / self.healthy_sessions if self.healthy_sessions else None


def alert_of(finding: Finding) -> Alert:
    """The alert that a finding would be, if it fired at once."""
    about = finding.about
    return Alert(
        detector=about.detector, at=finding.at, subject=about.subject, session_id=about.session_id, gateway=about.gateway,
        sessions=finding.sessions,
    )  # fmt: skip


def score(labels: Iterable[Label], alerts: Iterable[Alert], healthy_sessions: int) -> list[Score]:
    """The score of each detector that has labels or alerts, in the order of DESIGN section 8. O(labels + alerts) but for storms."""
    known, told = list(labels), sorted(alerts, key=_at)
    names = [_names(label) for label in known]
    found = []
    for detector in Detector:
        own = [place for place, label in enumerate(known) if label.detector is detector]
        raised = [alert for alert in told if alert.detector is detector]
        if own or raised:
            others = {name for place, of in enumerate(names) if known[place].detector is not detector for name in of}
            found.append(_score(detector, [known[place] for place in own], raised, others, healthy_sessions))
    return found


def _score(detector: Detector, labels: list[Label], alerts: list[Alert], others: set[tuple[str, str]], healthy: int) -> Score:
    by_name: dict[tuple[str, str], list[int]] = {}
    for place, label in enumerate(labels):
        for name in _names(label):
            by_name.setdefault(name, []).append(place)
    first: dict[int, Millis] = {}
    wrong, again, beside = [], 0, 0
    for alert in alerts:
        about = _spoken_of(alert)
        places = range(len(labels)) if alert.storm else sorted({place for name in about for place in by_name.get(name, ())})
        met = [place for place in places if _meets(labels[place], alert)]
        new = [place for place in met if place not in first]
        first |= {place: max(0, alert.at - labels[place].begins) for place in new}
        if met and not new:
            again += 1
        elif not met and about & others:
            beside += 1
        elif not met:
            wrong.append(alert)
    took = sorted(first.values())
    return Score(
        detector, len(labels), len(first), len(wrong), again, beside, healthy, _share(len(first), len(first) + len(wrong)),
        _share(len(first), len(labels)), int(percentile(took, 0.5)) if took else None, took[-1] if took else None,
        tuple(label for place, label in enumerate(labels) if place not in first), tuple(wrong),
    )  # fmt: skip


def _names(label: Label) -> set[tuple[str, str]]:
    """Whom a label names: an alert that speaks of one of them speaks of it."""
    found = {("session", name) for name in label.sessions}
    for kind, name in (("subject", label.subject), ("session", label.session_id), ("gateway", label.gateway)):
        if name is not None:
            found.add((kind, name))
    return found


def _spoken_of(alert: Alert) -> set[tuple[str, str]]:
    """Whom an alert speaks of. What it names as its own counts; of sessions that it only lists, any."""
    found = {("session", name) for name in alert.sessions}
    for kind, name in (("subject", alert.subject), ("session", alert.session_id), ("gateway", alert.gateway)):
        if name is not None:
            found.add((kind, name))
    return found


def _meets(label: Label, alert: Alert) -> bool:
    if not alert.storm:
        return label.begins <= alert.at <= label.ends + SLACK
    if alert.subject is not None and alert.subject != label.subject:
        return False
    return label.begins <= (alert.at if alert.ends is None else alert.ends) and alert.at <= label.ends + SLACK


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def table(scores: Sequence[Score]) -> list[dict[str, object]]:
    """Rows with `COLUMNS`, for people: durations in minutes, shares with three digits."""
    return [
        {
            "detector": one.detector.value, "labels": one.labels, "found": one.found, "recall": _rounded(one.recall, 3),
            "precision": _rounded(one.precision, 3), "false": one.false, "false_per_10k": _rounded(one.false_per_10k, 2),
            "again": one.again, "beside": one.beside, "median": _minutes(one.median), "worst": _minutes(one.worst),
        }
        for one in scores
    ]  # fmt: skip


def _rounded(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _minutes(value: Millis | None) -> str:
    return "-" if value is None else f"{value / MINUTE:.1f} min"


def _at(alert: Alert) -> Millis:
    return alert.at
