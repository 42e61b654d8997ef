"""What commands have said of sessions: for each the strongest, in as little memory as Python gives it.

A session takes one dict entry, its id, and one integer in which everything is packed; what many share (reason, rule,
what re-authentication must bring) stands once, in a table. The integer holds, the lowest first, `effective_at`, the
number of what is shared, the epoch, and how far the cut-off lies from `effective_at`: in the common case (the first
epochs, a cut-off at the deadline) it has 60 bits, which Python keeps in 32 bytes. What is kept is the greatest of all
commands in one total order (epoch, kind, no re-authentication before re-authentication, cut-off), so duplicates,
repetitions and what compaction has already removed change nothing.
"""

import sys
from enum import IntEnum
from typing import Final

import msgspec

from monitor.core.commands import CommandType, Reauth, command_id
from monitor.core.instants import Millis
from monitor.core.reasons import Reason
from monitor.gateway.verdict import NO_REAUTH
from monitor.wire.problem import Refusal

_INSTANT_BITS: Final = 43
"""Up to the year 2248, one added: 0 is no instant."""
_SHARED_BITS: Final = 16
_EPOCH_BITS: Final = 24
_INSTANT: Final = (1 << _INSTANT_BITS) - 1
_NUMBER: Final = (1 << _SHARED_BITS) - 1
FOREVER: Final = (1 << _EPOCH_BITS) - 1
"""The epoch of a command that doesn't say its epoch in our words: no later one of any epoch lifts it."""
_EPOCH_AT: Final = _INSTANT_BITS + _SHARED_BITS
_APART_AT: Final = _EPOCH_AT + _EPOCH_BITS
_REASONS: Final = frozenset(Reason)
_HEX: Final = 64
"""Characters of a hash (SHA-256) in hex."""


class Kind(IntEnum):
    """The kinds of commands, the weakest first."""

    REINSTATE = 0
    EXPIRE = 1
    REVOKE = 2
    UNKNOWN = 3
    """Not understood here: refused."""


class Shared(msgspec.Struct, frozen=True):
    """What commands say that many have in common."""

    kind: Kind
    reason: str
    rule: str | None
    reauth: Reauth


class Entry(msgspec.Struct, frozen=True):
    """What is known of one session, unpacked."""

    epoch: int
    shared: Shared
    effective_at: Millis | None
    cutoff: Millis


def packed_cutoff(packed: int) -> Millis:
    """The cut-off that a value of `Commanded.get` says; -1: none."""
    apart = packed >> _APART_AT
    return (packed & _INSTANT) - 1 - (apart >> 1 ^ -(apart & 1))


def packed_effective_at(packed: int) -> Millis | None:
    """The `effective_at` that a value of `Commanded.get` says."""
    at = packed & _INSTANT
    return at - 1 if at else None


def _half(session_id: str) -> str | bytes:
    """The bytes of a hash in hex; the id itself where it is none, or not in the one spelling that gives it back."""
    try:
        half = bytes.fromhex(session_id)
    except ValueError:
        return session_id
    return half if half.hex() == session_id else session_id


class Commanded:
    """The strongest command of each session. All is O(1)."""

    def __init__(self) -> None:
        """Nothing commanded yet."""
        self._packed: Final[dict[str | bytes, int]] = {}
        # Should there ever be more kinds of commands than numbers, they are taken for the strictest of their kind.
        self._shared = [Shared(kind, Refusal.COMMAND_UNKNOWN.value, None, NO_REAUTH) for kind in Kind]
        self._numbers = {shared: number for number, shared in enumerate(self._shared)}
        self._controls: dict[str | bytes, str] = {}
        self.outranked: Final[set[str]] = set()
        """Sessions whose last command is weaker than one before it: a zombie's, or that of another life of the id."""

    def __len__(self) -> int:
        """Sessions of which something is known, reinstated ones too."""
        return len(self._packed)

    def get(self, session_id: str) -> int | None:
        """What is known of a session, packed: `shared` and the functions above read it. None: nothing."""
        return self._packed.get(session_id if len(session_id) != _HEX else _half(session_id))

    def number(self, shared: Shared) -> int:
        """The number of what many have in common; the same for equals."""
        number = self._numbers.get(shared)
        if number is None:
            if len(self._shared) > _NUMBER:
                return shared.kind.value
            number = self._numbers[shared] = len(self._shared)
            self._shared.append(shared)
        return number

    def merge(
        self, session_id: str, epoch: int, number: int, effective_at: Millis, cutoff: Millis, control_id: str = ""
    ) -> bool:
        """Take a command; False where what is known already is as strong, and nothing changed."""
        # In the common case two operations: a million of them are merged while a gateway starts.
        new = min(epoch, FOREVER) << _EPOCH_AT | number << _INSTANT_BITS | effective_at + 1
        if effective_at != cutoff:
            apart = effective_at - cutoff
            new |= (apart << 1 ^ apart >> 63) << _APART_AT
        key = session_id if len(session_id) != _HEX else _half(session_id)
        old = self._packed.get(key)
        if self.outranked:
            self.outranked.discard(session_id)
        if old is not None and (new == old or self._rank(new) <= self._rank(old)):
            if new != old and self._rank(new) < self._rank(old):
                self.outranked.add(session_id)
            return False
        self._packed[key] = new
        if control_id:
            # One revocation ends many: they share the text of its id, as long as one of them is there.
            self._controls[key] = sys.intern(control_id)
        elif old is not None:
            self._controls.pop(key, None)
        return True

    def drop(self, session_id: str) -> bool:
        """Forget a session (its tombstone); whether there was anything to forget."""
        key = session_id if len(session_id) != _HEX else _half(session_id)
        self._controls.pop(key, None)
        self.outranked.discard(session_id)
        return self._packed.pop(key, None) is not None

    def shared(self, packed: int) -> Shared:
        """What such a value says that many say."""
        return self._shared[packed >> _INSTANT_BITS & _NUMBER]

    def entry(self, session_id: str) -> Entry | None:
        """What is known of a session."""
        packed = self.get(session_id)
        if packed is None:
            return None
        return Entry(packed >> _EPOCH_AT & FOREVER, self.shared(packed), packed_effective_at(packed), packed_cutoff(packed))

    def command_id(self, session_id: str) -> str | None:
        """The id of the command that ended a session; None where none did, or it is not understood here."""
        entry = self.entry(session_id)
        if entry is None or entry.effective_at is None or entry.shared.kind in (Kind.REINSTATE, Kind.UNKNOWN) or entry.shared.reason not in _REASONS:
            return None
        kind = CommandType.EXPIRE if entry.shared.kind is Kind.EXPIRE else CommandType.REVOKE
        reason, control_id = Reason(entry.shared.reason), self._controls.get(session_id if len(session_id) != _HEX else _half(session_id), "")
        return command_id(session_id, entry.epoch, kind, reason, entry.effective_at, control_id)

    def _rank(self, packed: int) -> tuple[int, int, bool, int]:
        shared = self.shared(packed)
        return packed >> _EPOCH_AT & FOREVER, shared.kind, not shared.reauth.allowed, packed_cutoff(packed)
