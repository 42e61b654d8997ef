"""`Watch`: what one partition of session-lifecycle is watched with. Records and time go in; alerts to be published and state to be kept come out.

State is kept in pieces, each with the offset up to which it has taken records, or with instants that say the same: any part of a checkpoint may
have been written before a crash, and a replay from the committed offset counts nothing twice. Pieces, by the beginning of their key: `p/` a
principal, `s/` a session whose subject is not known, `moved/` where a session has been seen, `cohort/` how old sessions of a kind get, and those
of the book of alerts, which are written first (`Book.changed`).
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from monitor.core.controls import Control
from monitor.core.events import Attributes
from monitor.core.instants import SECOND, Millis
from monitor.core.lifecycle import Lifecycle
from monitor.detect import cap_evasion, concurrent_sessions, long_session, timeout_churn
from monitor.detect.acts import ActDue
from monitor.detect.book import Book, Effect, Forgotten
from monitor.detect.cohorts import Cohorts
from monitor.detect.exempt import exempted
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.living import Living
from monitor.detect.looks import Looks
from monitor.detect.pool import Pool
from monitor.detect.principal import Exempt, Keep, Known, Principal, decode, encode, nobody, principal_of
from monitor.detect.session_moved import SIGHTINGS, Whereabouts
from monitor.detect.settings import Common, Detector, Settings
from monitor.detect.timeout_churn import Rates
from monitor.policy import CompiledPolicy
from monitor.wire.alerts import encode_alert, encode_forgotten
from monitor.wire.bad_record import BadRecord
from monitor.wire.codec import Record
from monitor.wire.lifecycle import decode_lifecycle
from monitor.wire.silences import Silence

AGAIN: Final[Millis] = 20 * SECOND
"""How often whoever stands out is looked at again, though nothing came: what is not seen for a minute is over."""
_COHORT: Final = b"cohort/"
_PRINCIPALS: Final = (b"p/", b"s/")
_MOVED: Final = "moved/"
_OFFSET: Final = 8
"""Bytes of an offset."""

Rules = Callable[[], CompiledPolicy]
Silences = Callable[[], tuple[Silence, ...]]


class Watch:
    """Of one partition. Restore it, then tell it records in the order of their offsets, and time."""

    def __init__(self, number: int, rules: Rules, silences: Silences = tuple, pool: Pool | None = None) -> None:
        """`number` is the partition's; `rules` gives the newest policy; `silences` those that there are, another tuple where they have changed.

        What a cohort has on other partitions is known by the `pool`; without one, this partition's sessions are compared among themselves.
        """
        self.now: Millis = 0
        """Log time: the latest of all records, or what `advance` was told."""
        self.refused = 0
        """Records that were no lifecycle records: passed over."""
        self._acts: list[ActDue] = []
        self._rules, self._silences = rules, silences
        self._silenced: tuple[Silence, ...] = ()
        self._offset = -1
        self._pieces: dict[str, bytes] = {}
        """Principals, and where sessions have been seen, by their keys."""
        self._dirty: dict[str, None] = {}
        self._looks = Looks()
        self._again: Millis = 0
        self._rates = Rates()
        self._ahead: dict[bytes, int] = {}
        """Cohorts of which more is known than was committed: up to which offset."""
        self._told: list[Record] = []
        self._policy = rules()
        self._settings: Settings = self._policy.detection
        self._book = Book(self._settings, str(number))
        self._cohorts = Cohorts(self._settings.long_session.fades)
        self._pool = pool or Pool()
        self._pool.join(number, self._cohorts)
        self._take_up(self._policy)

    # --- what it is told -------------------------------------------------------------------------------

    def restore(self, key: bytes, value: bytes) -> None:
        """A piece of state, as `changed` gave it. Raises InvariantError for other bytes."""
        if key.startswith(_COHORT):
            self._ahead[key.removeprefix(_COHORT)] = int.from_bytes(value[:_OFFSET], signed=True)
            self._cohorts.load(key.removeprefix(_COHORT), value[_OFFSET:])
        elif key.startswith((*_PRINCIPALS, _MOVED.encode())):
            self._pieces[key.decode()] = value
            self._looks.arm(key.decode(), 0)
            if not key.startswith(_MOVED.encode()):
                self._rates.restore(decode(value))
        else:
            self._book.restore(key, value)

    def take(self, offset: int, value: bytes) -> None:
        """One record, at its offset. What can't be read is counted, and passed over."""
        self._follow()
        self._offset = max(self._offset, offset)
        try:
            record = decode_lifecycle(value)
        except BadRecord:
            self.refused += 1
            return
        self._remember()
        if self.now and record.log_time > self.now + AGAIN:
            self.advance(record.log_time)
        self.now = max(self.now, record.log_time)
        name = _name(record)
        held = self._pieces.get(name)
        who = principal_of(record) if held is None else decode(held)
        if who.take(record, offset, self._keep, self._exempt_churn):
            self._learn(record, offset)
            self._judge(name, who)
            self._arm(name, self._grows_long(who, record.session_id))
            self._put(name, encode(who))
        if record.type in SIGHTINGS:
            self._see(record)

    def advance(self, now: Millis) -> None:
        """Time has come to `now`; in steps, where something stands out and has to be seen again meanwhile."""
        self._follow()
        self._remember()
        while self.now < now:
            steps = self.now and next(self._book.open(), None) is not None
            self.now = min(now, self.now + AGAIN) if steps else now
            self._pass()

    def _remember(self) -> None:
        """After a restart: what stands out was seen by then, and time goes on from there."""
        if not self.now:
            self.now = max((one.seen for one in self._book.open()), default=0)

    def _pass(self) -> None:
        for name in self._looks.due(self.now):
            self._look(name)
        if self.now >= self._again:
            self._again = self.now + AGAIN
            for name in dict.fromkeys(_spoken_of(one.about) for one in self._book.open()):
                self._look(name)
        self._do(self._book.advance(self.now))

    def alerts(self) -> Iterable[Record]:
        """What is to be published; each once."""
        told, self._told = self._told, []
        return told

    def controls(self) -> Iterable[Control]:
        """What alerts do by themselves: to be written on session-control; each once."""
        acts, self._acts = self._acts, []
        return [act.control() for act in acts]

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """State that has changed since the last call, in the order in which it has to be written; None: it is gone."""
        yield from self._book.changed()
        offset = self._offset.to_bytes(_OFFSET, signed=True)
        for key, value in self._cohorts.changes():
            yield _COHORT + key, None if value is None else offset + value
        dirty, self._dirty = self._dirty, {}
        for name in dirty:
            yield name.encode(), self._pieces.get(name)

    # --- looking ---------------------------------------------------------------------------------------

    def _look(self, name: str) -> None:
        """Time alone may have changed something."""
        held = self._pieces.get(name)
        if held is None:
            return
        if name.startswith(_MOVED):
            self._look_where(name, Whereabouts.from_bytes(held))
            return
        who = decode(held)
        who.trim(self.now, self._keep)
        self._judge(name, who)
        told, cohorts, rank = self._settings.long_session, self._pool.known(self.now), self._policy.rank
        for one in who.sessions:
            if not one.rank:
                living = self._living(who, one)
                self._tell(long_session.judge(living, self.now, cohorts, told, rank))
                self._arm(name, long_session.next_look(living, self.now, cohorts, told, rank))
        self._put(name, None if who.empty else encode(who))

    def _judge(self, name: str, who: Principal) -> None:
        settings, now, plans = self._settings, self.now, self._policy.plan
        typical = self._rates.typical(settings.timeout_churn.minimum)
        self._rates.follow(who, now, settings.timeout_churn, self._exempt_churn)
        self._tell(timeout_churn.judge(who, now, settings.timeout_churn, typical, self._exempt_churn))
        for one in cap_evasion.judge(who, now, settings.cap_evasion, plans, self._exempt_cap):
            self._tell(one)
        self._tell(concurrent_sessions.judge(who, now, settings.concurrent_sessions, plans, self._exempt_crowd))
        self._arm(name, who.fades_at(self._keep))
        self._arm(name, timeout_churn.next_look(who, settings.timeout_churn, typical))
        self._arm(name, cap_evasion.next_look(who, now, settings.cap_evasion, plans, self._exempt_cap))
        self._arm(name, concurrent_sessions.next_look(who, now, plans))

    def _grows_long(self, who: Principal, session_id: str) -> Millis | None:
        """When this session of it is long, if it lives."""
        one = next((one for one in who.sessions if one.session_id == session_id and not one.rank), None)
        if one is None:
            return None
        return long_session.next_look(self._living(who, one), self.now, self._pool.known(self.now), self._settings.long_session, self._policy.rank)

    def _living(self, who: Principal, one: Known) -> Living:
        attributes = who.profile(one.profile).attributes(who.subject)
        return Living(one.session_id, one.epoch, attributes, one.opened_at, one.started_at, 0, abnormal_after=self._abnormal_after(attributes))

    def _abnormal_after(self, attributes: Attributes) -> Millis | None:
        if not self._some_abnormal:
            return None
        return min((rule.abnormal_after for rule in self._policy.matching(attributes, self.now) if rule.abnormal_after is not None), default=None)

    def _see(self, record: Lifecycle) -> None:
        """Where a session was, when its principal did something."""
        name, told = f"{_MOVED}{record.session_id}", self._settings.session_moved
        held = self._pieces.get(name)
        where = Whereabouts(record.session_id) if held is None else Whereabouts.from_bytes(held)
        self._tell(where.take(record, told, self._exempt_moved))
        self._keep_where(name, where)

    def _look_where(self, name: str, where: Whereabouts) -> None:
        self._tell(where.judge(self.now, self._settings.session_moved))
        self._keep_where(name, where)

    def _keep_where(self, name: str, where: Whereabouts) -> None:
        told = self._settings.session_moved
        self._put(name, None if where.forget(self.now, told) else where.to_bytes())
        self._arm(name, where.next_look(self.now, told))
        self._arm(name, where.newest + told.window)

    def _arm(self, name: str, when: Millis | None) -> None:
        """Look at it at `when`; what stands out since before is looked at again in any case."""
        if when is not None and when > self.now:
            self._looks.arm(name, when)

    def _put(self, name: str, piece: bytes | None) -> None:
        if piece is not None:
            self._pieces[name] = piece
        elif self._pieces.pop(name, None) is None:
            return
        self._dirty[name] = None

    # --- cohorts ---------------------------------------------------------------------------------------

    def _learn(self, record: Lifecycle, offset: int) -> None:
        """Count a session's end, but in no cohort that has counted it before the replay."""
        told, rank = self._settings.long_session, self._policy.rank
        cleared = long_session.over(record)
        if cleared is not None:
            self._tell(cleared)
        ahead = [key for key, applied in self._ahead.items() if applied >= offset]
        if not ahead:
            self._ahead.clear()
            long_session.learn(record, self._cohorts, told, rank)
            return
        before = self._cohorts.stored(ahead)
        long_session.learn(record, self._cohorts, told, rank)
        for key, stored in before.items():
            self._cohorts.load(key, stored)

    # --- telling ---------------------------------------------------------------------------------------

    def _tell(self, one: Finding | Cleared | None) -> None:
        if one is not None:
            self._do(self._book.take(one))

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, ActDue):
                self._acts.append(effect)
            elif isinstance(effect, Forgotten):
                self._told.append(encode_forgotten(effect.fingerprint))
            else:
                self._told.append(encode_alert(effect))

    # --- the policy ------------------------------------------------------------------------------------

    def _follow(self) -> None:
        policy = self._rules()
        if policy is not self._policy:
            self._take_up(policy)
            self._do(self._book.tell(self._settings, self.now))
            self._cohorts.fade_by(self._settings.long_session.fades)
        silences = self._silences()
        if silences is not self._silenced:
            self._silenced = silences
            self._do(self._book.silence(silences, self.now))

    def _take_up(self, policy: CompiledPolicy) -> None:
        self._policy, self._settings = policy, policy.detection
        self._keep = Keep.of(self._settings)
        self._exempt_churn = self._exempt(self._settings.timeout_churn)
        self._exempt_cap = self._exempt(self._settings.cap_evasion)
        self._exempt_crowd = self._exempt(self._settings.concurrent_sessions)
        self._exempt_moved = self._exempt(self._settings.session_moved)
        rules = (policy.defaults, *policy.rules, *policy.exceptions)
        self._some_abnormal = any(rule.abnormal_after is not None for rule in rules)

    def _exempt(self, told: Common) -> Exempt:
        return partial(exempted, told.exempt, rank=self._policy.rank) if told.exempt else nobody


def _name(record: Lifecycle) -> str:
    return _named(record.attributes.subject, record.session_id)


def _spoken_of(about: Subject) -> str:
    return f"{_MOVED}{about.session_id}" if about.detector is Detector.SESSION_MOVED else _named(about.subject, about.session_id)


def _named(subject: str | None, session_id: str | None) -> str:
    return f"p/{subject}" if subject is not None else f"s/{session_id}"
