"""`Cohorts`: how old sessions of a kind are when they end, and which kind is to be asked where one is too rare.

A cohort's key says what its sessions have in common: (roles, workload, classification), and wider ones without the
members at its front: (workload, classification), (classification,), (). Roles are the whole sorted tuple; what is not
known is a value of its own. Each end is counted in all four.

Age at the end is `at` - `opened_at`, not the span of use (`last_activity` - `opened_at`). A live session is held
against the survival curve of the ended ones by its age so far, which runs on through the idle time before its
deadline; ages at the end have that time in them as well. Spans of use have not: beside them, each session would look
older than it is by an idle limit before it ends.

Ageing is forward decay (Cormode et al., ICDE 2009). An end at log time t weighs 2 ** ((t - landmark) / half-life), and
the landmark is the last multiple of 32 half-lives, the same for whoever counts. Where it moves, weights are multiplied
by a power of two, which is exact; so the order of feeding and merging changes nothing but the rounding of sums.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from math import exp2, ldexp
from typing import Any, Final, TypeAlias

import msgspec

from monitor.core.errors import InvariantError
from monitor.core.events import Attributes
from monitor.core.instants import DAY, NEVER, LogMillis, Millis
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.core.plan import LimitKind
from monitor.core.reasons import Reason
from monitor.detect.sketch import Sketch

Key: TypeAlias = tuple[Any, ...]
"""(roles, workload, classification), or what is left of it when members are taken off its front."""

MOST: Final = 512
"""Cohorts, of all widths: a little over 4 MiB at the most."""

KEPT: Final = 3 / 4
"""How many of them stay when room is made."""

HALF_LIVES: Final = 32
"""From one landmark to the next: what is counted in between weighs 1 to 2 ** 32."""

ENDS: Final = frozenset({LifecycleType.EXPIRED, LifecycleType.REVOKED, LifecycleType.CLOSED})

IMPOSED: Final = frozenset({Reason.ADMIN_REVOKED, Reason.LOCKED, Reason.CONCURRENCY_LIMIT, Reason.RISK})
"""Ends that come from outside, to many young sessions at once: they tell what somebody decided, not how long sessions last."""


class Width(StrEnum):
    """What the sessions of a cohort have in common, the narrowest first."""

    EXACT = "roles_workload_classification"
    WORKLOAD = "workload_classification"
    CLASSIFICATION = "classification"
    EVERYBODY = "everybody"


_WIDTHS: Final = tuple(Width)
_MEMBERS: Final = ("roles", "workload", "classification")


def key_of(attributes: Attributes) -> Key:
    """The narrowest cohort of a session."""
    return attributes.roles, attributes.workload, attributes.classification


def age_at_end(record: Lifecycle) -> Millis | None:
    """How old the session was when it ended; None: the record is not of an end that tells how long sessions last.

    Such are all records but of ends; those of rules on trial; imposed ends; the end of a session of which nothing
    but its `session.closed` is known; and a revocation of one that had ended by its own limits before. A session
    that goes on after a re-authentication ends again, and counts again, at the age that it has reached.
    """
    if record.type not in ENDS or record.observe or record.reason in IMPOSED or not any(record.counts):
        return None
    if record.type is LifecycleType.REVOKED and record.at > _deadline(record):
        return None
    return max(0, record.at - record.opened_at)


def _deadline(record: Lifecycle) -> Millis:
    """The first deadline by the limits that have won."""
    begins = {LimitKind.IDLE: record.last_activity, LimitKind.ABSOLUTE: record.started_at}
    return min((begins[link.limit] + link.ms for link in record.chain if link.won and link.ms is not None), default=NEVER)


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """A cohort as bytes keep it."""

    fades: Millis
    landmark: int
    oldest: LogMillis
    newest: LogMillis
    sketch: bytes


_decode: Final = msgspec.msgpack.Decoder(_Stored).decode


class Cohort:
    """The ages at which the sessions of one cohort ended, the newer the weightier."""

    __slots__ = ("_count", "_quantiles", "fades", "landmark", "newest", "oldest", "sketch")

    def __init__(self, fades: Millis) -> None:
        """Empty. `fades` is the half-life."""
        self.fades = fades
        self.landmark = 0
        """In steps of `HALF_LIVES`."""
        self.oldest: LogMillis = NEVER
        """Its first end, and ..."""
        self.newest: LogMillis = 0
        """... its last."""
        self.sketch = Sketch()
        self._count: float | None = None
        self._quantiles: dict[float, float | None] = {}

    def put(self, bucket: int | None, at: LogMillis, landmark: int, weight: float) -> None:
        """One end, whose age lies in this bucket of the sketch; its weight is that since its own landmark."""
        if landmark != self.landmark:
            self._move(landmark)
            weight = ldexp(weight, HALF_LIVES * (landmark - self.landmark))
        self.oldest, self.newest = min(self.oldest, at), max(self.newest, at)
        self.sketch.put(bucket, weight)
        self._changed()

    def count(self, now: LogMillis) -> float:
        """How many ends it stands on, each for what it weighs at `now`."""
        if self._count is None:
            self._count = self.sketch.count
        return self._count * exp2(-self._half_lives(max(now, self.newest)))

    def quantile(self, share: float) -> float | None:
        """The age that this share of them did not exceed, in milliseconds; None of none. Remembered until the next end."""
        if share not in self._quantiles:
            self._quantiles[share] = self.sketch.quantile(share)
        return self._quantiles[share]

    def merge(self, other: "Cohort") -> None:
        """Take in what another that fades alike has counted; it stays as it is."""
        self._move(other.landmark)
        sketch = other.sketch
        if other.landmark < self.landmark:
            sketch = Sketch.from_bytes(sketch.to_bytes())
            sketch.fade(ldexp(1.0, HALF_LIVES * (other.landmark - self.landmark)))
        self.sketch.merge(sketch)
        self.oldest, self.newest = min(self.oldest, other.oldest), max(self.newest, other.newest)
        self._changed()

    def fade_by(self, fades: Millis) -> None:
        """Fade by another half-life from its newest end on. At that instant all weigh what they did."""
        weighed = self._half_lives(self.newest)
        self.fades = fades
        self.landmark = self.newest // (HALF_LIVES * fades)
        self.sketch.fade(exp2(self._half_lives(self.newest) - weighed))
        self._changed()

    def to_bytes(self) -> bytes:
        """Those of its sketch and a few more: 10 KiB at the most."""
        return msgspec.msgpack.encode(_Stored(self.fades, self.landmark, self.oldest, self.newest, self.sketch.to_bytes()))

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Cohort":
        """What `to_bytes` wrote, to the last bit. Raises InvariantError where it can't be read."""
        try:
            found = _decode(stored)
        except msgspec.MsgspecError as error:
            raise InvariantError(f"a cohort can't be read: {error}") from error
        cohort = cls(found.fades)
        cohort.landmark, cohort.oldest, cohort.newest = found.landmark, found.oldest, found.newest
        cohort.sketch = Sketch.from_bytes(found.sketch)
        return cohort

    def _half_lives(self, at: LogMillis) -> float:
        """Since the landmark."""
        return (at - HALF_LIVES * self.fades * self.landmark) / self.fades

    def _move(self, landmark: int) -> None:
        if landmark > self.landmark:
            self.sketch.fade(ldexp(1.0, HALF_LIVES * (self.landmark - landmark)))
            self.landmark = landmark

    def _changed(self) -> None:
        self._count = None
        if self._quantiles:
            self._quantiles.clear()


class Found(msgspec.Struct, frozen=True):
    """The cohort that was asked, and what it stands on."""

    key: Key
    cohort: Cohort
    sample: int
    """Its ends, each for what it weighs now; to the nearest whole number."""

    @property
    def told(self) -> dict[str, object]:
        """The cohort, as a finding tells of it."""
        members = dict(zip(_MEMBERS[len(_MEMBERS) - len(self.key) :], self.key, strict=True))
        return {"width": _WIDTHS[len(_MEMBERS) - len(self.key)].value, **members}


class Cohorts:
    """All cohorts of one partition, or of several that were merged. Bounded: the least used go first.

    How much a cohort is used is the weight of its ends. While none has been dropped, what is known is a function of
    the ends alone, in whatever order they came (see above). Memory: `MOST`.
    """

    def __init__(self, fades: Millis = 7 * DAY, most: int = MOST) -> None:
        """Nothing is known. `fades` is the half-life."""
        self.fades = fades
        self.most = most
        self.newest: LogMillis = 0
        self.dropped = 0
        """Cohorts that went to make room, since it began."""
        self._cohorts: dict[Key, Cohort] = {}
        self._changes: dict[Key, None] = {}

    def __len__(self) -> int:
        """How many cohorts, of all widths."""
        return len(self._cohorts)

    def take(self, record: Lifecycle) -> bool:
        """Count a session's end, and say whether it was one that counts: `age_at_end`. A record that comes again counts again."""
        age = age_at_end(record)
        if age is None:
            return False
        self.add(record.attributes, age, record.log_time)
        return True

    def add(self, attributes: Attributes, age: Millis, at: LogMillis) -> None:
        """A session with these attributes ended at this age."""
        key = key_of(attributes)
        cohorts = [self._cohort(key[members:]) for members in range(len(key) + 1)]
        bucket = cohorts[0].sketch.bucket(age)
        landmark, beyond = divmod(at, HALF_LIVES * self.fades)
        weight = exp2(beyond / self.fades)
        for cohort in cohorts:
            cohort.put(bucket, at, landmark, weight)
        self.newest = max(self.newest, at)
        if len(self._cohorts) > self.most:
            self._make_room()

    def find(self, attributes: Attributes, now: LogMillis, minimum: int, known_for: Millis = 0) -> Found | None:
        """The narrowest cohort of these attributes that has something to say at `now`; None: not even everybody has.

        It stands on `minimum` ends, and the first of them was `known_for` ago: of sessions that began together the
        short ones end first, so that a young cohort knows only those.
        """
        for key, cohort in self._of(attributes):
            if cohort.oldest + known_for <= max(now, cohort.newest) and (sample := round(cohort.count(now))) >= minimum:
                return Found(key, cohort, sample)
        return None

    def matures(self, attributes: Attributes, now: LogMillis, minimum: int, known_for: Millis) -> LogMillis | None:
        """The next instant after `now` at which one of them will have been known for long enough."""
        return min(
            (
                at for _, cohort in self._of(attributes)
                if (at := cohort.oldest + known_for) > max(now, cohort.newest) and round(cohort.count(now)) >= minimum
            ),
            default=None,
        )  # fmt: skip

    def merge(self, other: "Cohorts") -> None:
        """Take in what another knows, which stays as it is. Both fade alike."""
        if other.fades != self.fades:
            raise ValueError(f"cohorts that halve in {other.fades} ms can't be merged into those that do in {self.fades} ms")
        for key, cohort in other.items():
            self._cohort(key).merge(cohort)
        self.newest = max(self.newest, other.newest)
        if len(self._cohorts) > self.most:
            self._make_room()

    @classmethod
    def merged(cls, parts: Iterable["Cohorts"], fades: Millis) -> "Cohorts":
        """What all of them know together; each stays as it is. `fades` is the half-life of all."""
        whole = cls(fades)
        for part in parts:
            whole.merge(part)
        return whole

    def fade_by(self, fades: Millis) -> None:
        """Fade by another half-life from now on: the policy's has changed. O(all)."""
        if fades == self.fades:
            return
        self.fades = fades
        for key, cohort in self._cohorts.items():
            cohort.fade_by(fades)
            self._changes[key] = None

    def items(self) -> Iterator[tuple[Key, Cohort]]:
        """All cohorts, in the order in which they came to be."""
        yield from self._cohorts.items()

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The records, by key, of what has changed since this was last asked; None: the cohort is gone."""
        changed, self._changes = self._changes, {}
        for key in changed:
            cohort = self._cohorts.get(key)
            yield _key_bytes(key), None if cohort is None else cohort.to_bytes()

    def stored(self, keys: Iterable[bytes]) -> dict[bytes, bytes | None]:
        """The records of these, as they are now, for `load`."""
        return {key: None if (cohort := self._cohorts.get(_key_from(key))) is None else cohort.to_bytes() for key in keys}

    def load(self, key: bytes, stored: bytes | None) -> None:
        """A record of `changes`, read back; a later one replaces an earlier one. Raises InvariantError where it can't be read."""
        known = _key_from(key)
        if stored is None:
            self._cohorts.pop(known, None)
            return
        cohort = self._cohorts[known] = Cohort.from_bytes(stored)
        self.newest = max(self.newest, cohort.newest)
        if cohort.fades != self.fades:
            cohort.fade_by(self.fades)
            self._changes[known] = None

    def _of(self, attributes: Attributes) -> Iterator[tuple[Key, Cohort]]:
        """Those that there are, the narrowest first."""
        key = key_of(attributes)
        for members in range(len(key) + 1):
            cohort = self._cohorts.get(key[members:])
            if cohort is not None:
                yield key[members:], cohort

    def _cohort(self, key: Key) -> Cohort:
        """The one with this key, which is about to change."""
        cohort = self._cohorts.get(key)
        if cohort is None:
            cohort = self._cohorts[key] = Cohort(self.fades)
        self._changes[key] = None
        return cohort

    def _make_room(self) -> None:
        """Drop the least used at once, so that it need not be done at each that is new. Of equals, the narrower one goes."""
        ranked = sorted(self._cohorts, key=lambda key: (-self._cohorts[key].count(self.newest), len(key), _key_bytes(key)))
        for key in ranked[max(1, int(self.most * KEPT)) :]:
            del self._cohorts[key]
            self._changes[key] = None
            self.dropped += 1


def _key_bytes(key: Key) -> bytes:
    return msgspec.json.encode(key)


def _key_from(key: bytes) -> Key:
    try:
        members = msgspec.json.decode(key, type=list[list[str] | str | None])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvariantError(f"a cohort's key can't be read: {error}") from error
    if len(members) > len(_MEMBERS):
        raise InvariantError(f"a cohort's key has {len(members)} members, not {len(_MEMBERS)} at the most")
    return tuple(tuple(member) if isinstance(member, list) else member for member in members)
