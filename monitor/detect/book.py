"""`Book`: the life of every alert. It is told what detectors see, and that log time has passed; it says what to publish and what to do.

- **Pending**: seen, but not yet for `hold` without a break (a break is a `Cleared`, or more than `hold` without being seen). Not published.
- **Firing**: published once, with `since`, when it was seen first. Newer figures are published at most every 30 s.
- **Resolved**: `resolve_after` has passed since it was cleared, or (but not less than a minute) since it was seen last. Remembered for a
  day, so that what is seen in it again by a replay does not begin it anew; then it is forgotten, and wants a tombstone.

What fires again after it was resolved is a new life with another `since`. Storms become one alert with a count (`storms`).

All instants are those of the findings, or deadlines that follow from them, never the moment at which somebody noticed. So what is published
does not depend on how often time is told to pass, and what a replay publishes again is the same by `fingerprint`, `state` and `since`. A
finding older than the newest of its alert is a copy and changes nothing: tell findings of one thing with instants that do not fall. Of a
finding and a `Cleared` in one millisecond the one told later counts.
"""

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush, heapreplace
from typing import Final, TypeAlias

import msgspec

from monitor.core.instants import DAY, NEVER, Millis
from monitor.detect.acts import ActDue, acts
from monitor.detect.alert import UPDATE_EVERY, Alert, Pending, figures, from_bytes, to_bytes
from monitor.detect.evidence import bounded
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.settings import DEFAULTS, Common, Settings
from monitor.detect.silences import next_change, silenced
from monitor.detect.storms import REMEMBERED, Begun, Kind, Storm, bound_of, kinds, storm_fingerprint
from monitor.wire.alerts import AlertRecord
from monitor.wire.silences import Silence

KEPT: Final[Millis] = DAY
"""How long a resolved alert is remembered."""
MOST_RESOLVED: Final = 10_000
"""More are forgotten, the oldest first."""
MOST_OPEN: Final = 20_000
"""Pending and firing. What comes on top is counted as a storm."""
_MOST_BEGUN: Final = 64

_ALERT: Final = "alert/"
_PENDING: Final = "pending/"


class Forgotten(msgspec.Struct, frozen=True):
    """An alert that was over long ago: its record wants a tombstone (`encode_forgotten`)."""

    fingerprint: str


Effect: TypeAlias = AlertRecord | ActDue | Forgotten
"""What is to be published, done, or taken from the topic; in this order, where it matters."""


class Open(msgspec.Struct, frozen=True):
    """Something that stands out and is not over: its detector has to be asked again before long."""

    about: Subject
    firing: bool
    seen: Millis
    """When it was seen last."""


class Book:
    """The alerts of one place. Restore it, tell it the settings and the silences, then findings and time, findings first."""

    def __init__(self, settings: Settings = DEFAULTS, place: str = "") -> None:
        """`place` tells books apart that write to one topic: storms over all subjects have it in their fingerprint."""
        self._settings, self._place = settings, place
        self._alerts: dict[str, Alert] = {}
        self._pending: dict[str, Pending] = {}
        self._resolved: set[str] = set()
        """Of those in `_alerts`."""
        self._storms: dict[Kind, str] = {}
        self._begun = Begun()
        self._silences: tuple[Silence, ...] = ()
        self._silences_change: Millis = NEVER
        self._queue: list[tuple[Millis, str]] = []
        """Of each key at most one entry counts: that of the instant which it is armed for."""
        self._dirty: set[str] = set()

    # --- what it is told -----------------------------------------------------------------------------

    def take(self, told: Finding | Cleared) -> list[Effect]:
        """Something stands out, or no longer does. Of a disabled detector nothing is heard."""
        common = self._settings.of(told.about.detector)
        if not common.enabled:
            return []
        fingerprint = told.about.fingerprint
        effects = self._pass(fingerprint, told.at)
        alert = self._alerts.get(fingerprint)
        if isinstance(told, Cleared):
            return effects + self._clear(fingerprint, alert, told.at)
        if alert is not None and alert.firing:
            return effects + self._see(alert, told)
        if alert is not None and (told.at <= alert.seen or told.at < (alert.ended or 0)):
            return effects  # it was seen in the life that is over
        storm, passed = self._storm_over(told)
        effects += passed
        if storm is not None:
            return effects + self._count(storm, told, fingerprint)
        if self._open >= MOST_OPEN and fingerprint not in self._pending:
            return effects + self._begin_storm((told.about.detector, None), told, fingerprint)
        since = self._held(fingerprint, told, common.hold)
        return effects if since is None else effects + self._begin(fingerprint, told, since)

    def advance(self, now: Millis) -> list[Effect]:
        """Log time has come to `now`: what that alone changes, in the order in which it was due."""
        effects: list[Effect] = []
        while (due := self.next_look) <= now:
            if due == self._silences_change:
                effects += self._hush(due)
                continue
            _, key = self._queue[0]
            effects += self._turn(key, due)
        return effects

    def tell(self, settings: Settings, now: Millis) -> list[Effect]:
        """These settings hold from `now` on. What a detector has said that is disabled is over."""
        self._settings = settings
        effects: list[Effect] = []
        for fingerprint, pending in sorted(self._pending.items()):
            if not settings.of(pending.about.detector).enabled:
                self._drop(fingerprint)
        for alert in self._firing():
            if not settings.of(alert.finding.about.detector).enabled:
                effects += self._resolve(alert, max(now, alert.published))
        for key in [*map(_PENDING.__add__, self._pending), *map(_ALERT.__add__, self._alerts)]:
            self._arm(key)
        return effects

    def silence(self, silences: Iterable[Silence], now: Millis) -> list[Effect]:
        """These are all the silences that there are from `now` on. Alerts that are silenced now, or no longer, are told again."""
        self._silences = tuple(sorted(silences, key=lambda one: one.id))
        return self._hush(now)

    # --- what it knows -------------------------------------------------------------------------------

    @property
    def next_look(self) -> Millis:
        """The instant at which time alone changes something, if nothing is told before; `NEVER` if none does."""
        queue = self._queue
        while queue:
            instant, key = queue[0]
            kept = self._kept(key)
            if kept is None or kept.armed != instant:
                heappop(queue)
                continue
            due = self._due(kept)
            if due <= instant:
                break
            kept.armed = due
            heapreplace(queue, (due, key))
        return min(queue[0][0] if queue else NEVER, self._silences_change)

    def open(self) -> Iterator[Open]:
        """What is pending or firing, storms left out: where a detector does not see it again, it is over."""
        for _, pending in sorted(self._pending.items()):
            yield Open(pending.about, False, pending.seen)
        for alert in self._firing():
            if alert.storm is None:
                yield Open(alert.finding.about, True, alert.seen)

    def firing(self) -> Iterator[AlertRecord]:
        """The alerts that are not over, storms among them, as they stand."""
        for alert in self._firing():
            yield alert.record(self._common(alert), alert.published)

    def changed(self) -> list[tuple[bytes, bytes | None]]:
        """State that has changed since the last call: key -> bytes; None: it is gone.

        In this order it has to be written, and before the state of detectors: of a write that breaks off any beginning can be restored.
        """
        dirty, self._dirty = self._dirty, set()
        return [(key.encode(), None if (kept := self._kept(key)) is None else to_bytes(kept)) for key in sorted(dirty, key=self._order)]

    def restore(self, key: bytes, value: bytes) -> None:
        """A piece of state as `changed` gave it, into a book that was told nothing yet. Raises InvariantError for other bytes."""
        name = key.decode()
        if name.startswith(_PENDING):
            self._pending[name.removeprefix(_PENDING)] = from_bytes(value, Pending)
        else:
            self._restore(from_bytes(value, Alert))
        self._arm(name)

    # --- a finding -----------------------------------------------------------------------------------

    def _see(self, alert: Alert, finding: Finding) -> list[Effect]:
        """It fires already, and is seen again."""
        if finding.at < alert.seen:
            return []
        alert.finding, alert.seen, alert.cleared = bounded(finding), finding.at, None
        alert.changed = alert.told != figures(alert.finding)
        return self._touched(alert, finding.at)

    def _clear(self, fingerprint: str, alert: Alert | None, at: Millis) -> list[Effect]:
        pending = self._pending.get(fingerprint)
        if pending is not None and at >= pending.seen:
            self._drop(fingerprint)
        if alert is None or not alert.firing or at < alert.seen or alert.cleared is not None:
            return []
        alert.cleared = at
        self._touch(_ALERT + fingerprint)
        return self._pass(fingerprint, at)

    def _held(self, fingerprint: str, finding: Finding, hold: Millis) -> Millis | None:
        """Since when it was seen without a break, if that is long enough."""
        if hold <= 0:
            return finding.at
        at, pending = finding.at, self._pending.get(fingerprint)
        if pending is None or at > pending.seen + hold:
            pending = self._pending[fingerprint] = Pending(finding.about, at, at)
        pending.seen = max(pending.seen, at)
        self._touch(_PENDING + fingerprint)
        return pending.since if at - pending.since >= hold else None

    def _drop(self, fingerprint: str) -> None:
        if self._pending.pop(fingerprint, None) is not None:
            self._dirty.add(_PENDING + fingerprint)

    def _begin(self, fingerprint: str, finding: Finding, since: Millis) -> list[Effect]:
        """It fires, unless that is one too many."""
        at, about = finding.at, finding.about
        self._drop(fingerprint)
        kind = self._begun.crowded(about, at, self._settings.storm)
        if kind is not None:
            return self._begin_storm(kind, finding, fingerprint)
        self._begun.add(about, at)
        before = self._alerts.get(fingerprint)
        begun = () if before is None else tuple(one for one in before.begun if one > at - REMEMBERED)
        alert = Alert(fingerprint, bounded(finding), since, at, at, begun=(*begun, at)[-_MOST_BEGUN:])
        return self._fire(alert, at)

    def _fire(self, alert: Alert, at: Millis) -> list[Effect]:
        self._resolved.discard(alert.fingerprint)
        self._alerts[alert.fingerprint] = alert
        record = self._publish(alert, at)
        if alert.storm is not None or alert.silenced_by:
            return [record]
        return [record, *acts(record, alert.finding, self._common(alert), at)]

    # --- storms --------------------------------------------------------------------------------------

    def _storm_over(self, finding: Finding) -> tuple[Alert | None, list[Effect]]:
        """The storm that lasts, or lasted, at this instant over things of this kind; and what its own time has brought by then."""
        effects: list[Effect] = []
        for kind in kinds(finding.about):
            fingerprint = self._storms.get(kind)
            if fingerprint is None:
                continue
            effects += self._pass(fingerprint, finding.at)
            storm = self._alerts.get(fingerprint)
            if storm is not None and storm.since <= finding.at and (storm.ended is None or finding.at < storm.ended):
                return storm, effects
        return None, effects

    def _begin_storm(self, kind: Kind, finding: Finding, fingerprint: str) -> list[Effect]:
        at, bounds = finding.at, self._settings.storm
        storm = Storm(at, bounds.window)
        storm.count(finding, fingerprint)
        name = self._storms[kind] = storm_fingerprint(kind, self._place)
        return self._fire(Alert(name, storm.finding(kind, bounds, at), at, at, at, storm=storm), at)

    def _count(self, alert: Alert, finding: Finding, fingerprint: str) -> list[Effect]:
        """It is one of those that the storm counts. Of a storm that is over, it was one."""
        self._drop(fingerprint)
        if alert.storm is None or not alert.firing:
            return []
        alert.changed |= alert.storm.count(finding, fingerprint)
        alert.seen = max(alert.seen, finding.at)
        return self._touched(alert, finding.at)

    # --- time ----------------------------------------------------------------------------------------

    def _pass(self, fingerprint: str, at: Millis) -> list[Effect]:
        """What its own time has brought to one thing up to `at`."""
        effects: list[Effect] = []
        for key in (_PENDING + fingerprint, _ALERT + fingerprint):
            while (kept := self._kept(key)) is not None and (due := self._due(kept)) <= at:
                effects += self._turn(key, due)
        return effects

    def _due(self, kept: Pending | Alert) -> Millis:
        """When time alone changes it."""
        if isinstance(kept, Pending):
            return kept.seen + self._settings.of(kept.about.detector).hold + 1
        if kept.ended is not None:
            return kept.ended + KEPT
        over = kept.over(self._common(kept)) if kept.storm is None else kept.storm.ends
        return min(over, kept.published + UPDATE_EVERY) if kept.changed else over

    def _turn(self, key: str, due: Millis) -> list[Effect]:
        """Its instant has come."""
        kept = self._kept(key)
        if not isinstance(kept, Alert):
            self._drop(key.removeprefix(_PENDING))
            return []
        if kept.ended is not None:
            return [self._forget(kept)]
        if kept.storm is None:
            over = due >= kept.over(self._common(kept))
        else:
            over = due >= kept.storm.ends and kept.storm.turn(bound_of(self._kind(kept), self._settings.storm))
        if over:
            return self._resolve(kept, due)
        return self._touched(kept, due)

    def _touched(self, alert: Alert, at: Millis) -> list[Effect]:
        """It is another than before: told, if there is something new to tell and the last time is long enough ago."""
        if alert.changed and at >= alert.published + UPDATE_EVERY:
            return [self._publish(alert, at)]
        self._touch(_ALERT + alert.fingerprint)
        return []

    def _resolve(self, alert: Alert, at: Millis) -> list[Effect]:
        alert.ended = at
        self._resolved.add(alert.fingerprint)
        effects: list[Effect] = [self._publish(alert, at)]
        while len(self._resolved) > MOST_RESOLVED:
            effects.append(self._forget(min((self._alerts[one] for one in self._resolved), key=lambda one: (one.ended, one.fingerprint))))
        return effects

    def _forget(self, alert: Alert) -> Forgotten:
        del self._alerts[alert.fingerprint]
        self._resolved.remove(alert.fingerprint)
        if alert.storm is not None:
            del self._storms[self._kind(alert)]
        self._dirty.add(_ALERT + alert.fingerprint)
        return Forgotten(alert.fingerprint)

    def _hush(self, now: Millis) -> list[Effect]:
        """Tell again what is silenced by others than was told."""
        self._silences_change = next_change(self._silences, now)
        return [
            self._publish(alert, now)
            for alert in self._firing()
            if silenced(alert.record(self._common(alert), now), self._silences, now) != alert.silenced_by
        ]

    @property
    def _open(self) -> int:
        return len(self._alerts) - len(self._resolved) + len(self._pending)

    # --- keeping -------------------------------------------------------------------------------------

    def _publish(self, alert: Alert, at: Millis) -> AlertRecord:
        at = max(at, alert.published)
        common = self._common(alert)
        if alert.storm is not None:
            alert.finding = alert.storm.finding(self._kind(alert), self._settings.storm, alert.seen)
        alert.silenced_by = silenced(alert.record(common, at), self._silences, at)
        alert.published, alert.told, alert.changed = at, figures(alert.finding), False
        self._touch(_ALERT + alert.fingerprint)
        return alert.record(common, at)

    def _common(self, alert: Alert) -> Common:
        return self._settings.of(alert.finding.about.detector)

    @staticmethod
    def _kind(storm: Alert) -> Kind:
        return storm.finding.about.detector, storm.finding.about.subject

    def _firing(self) -> list[Alert]:
        return [alert for _, alert in sorted(self._alerts.items()) if alert.firing]

    def _kept(self, key: str) -> Pending | Alert | None:
        if key.startswith(_ALERT):
            return self._alerts.get(key.removeprefix(_ALERT))
        return self._pending.get(key.removeprefix(_PENDING))

    def _touch(self, key: str) -> None:
        """Its state is another: to be written, and perhaps due earlier."""
        self._dirty.add(key)
        self._arm(key)

    def _arm(self, key: str) -> None:
        kept = self._kept(key)
        if kept is not None and (due := self._due(kept)) < kept.armed:
            kept.armed = due
            heappush(self._queue, (due, key))

    def _order(self, key: str) -> tuple[bool, str]:
        """Alerts before storms: a storm is restored only with those that made it one."""
        kept = self._kept(key)
        return isinstance(kept, Alert) and kept.storm is not None, key

    def _restore(self, alert: Alert) -> None:
        self._alerts[alert.fingerprint] = alert
        about = alert.finding.about
        if alert.storm is not None:
            self._storms[about.detector, about.subject] = alert.fingerprint
        for at in alert.begun:
            self._begun.add(about, at)
        if alert.ended is not None:
            self._resolved.add(alert.fingerprint)
