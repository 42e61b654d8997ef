"""`Distinct`: how many different things were counted, in bounded memory; counting one again changes nothing.

Exact up to `EXACT`; beyond that HyperLogLog (Flajolet et al. 2007) with 4096 registers, whose standard error is 1.04 / sqrt(4096) = 1.6 %.
Things come as fingerprints, which are hashes already. The order does not matter, so a replay comes to the same.
"""

import math
from typing import Final

EXACT: Final = 1024
"""So many are remembered by 8 bytes of their hash each."""
_BITS: Final = 12
_REGISTERS: Final = 1 << _BITS
_REST: Final = 64 - _BITS
_COUNTED: Final = b"="
_SKETCHED: Final = b"~"


class Distinct:
    """A count of different fingerprints."""

    __slots__ = ("_hashes", "_registers")

    def __init__(self) -> None:
        """Nothing has been counted."""
        self._hashes: set[int] = set()
        self._registers: bytearray | None = None

    def add(self, fingerprint: str) -> bool:
        """Count this one; whether that changed anything."""
        value = int(fingerprint[:16], 16)
        if self._registers is not None:
            return self._raise(self._registers, value)
        if value in self._hashes:
            return False
        self._hashes.add(value)
        if len(self._hashes) > EXACT:
            self._registers = bytearray(_REGISTERS)
            for known in self._hashes:
                self._raise(self._registers, known)
            self._hashes.clear()
        return True

    @staticmethod
    def _raise(registers: bytearray, value: int) -> bool:
        place, rest = value >> _REST, value & ((1 << _REST) - 1)
        rank = _REST - rest.bit_length() + 1
        if registers[place] >= rank:
            return False
        registers[place] = rank
        return True

    @property
    def exact(self) -> bool:
        """Whether `count` is no estimate."""
        return self._registers is None

    @property
    def count(self) -> int:
        """How many different ones. O(1) while exact, else O(4096)."""
        return len(self._hashes) if self._registers is None else max(EXACT + 1, round(_estimate(self._registers)))

    def to_bytes(self) -> bytes:
        """8 bytes for each while exact, else 4 KiB; and one more."""
        if self._registers is not None:
            return _SKETCHED + bytes(self._registers)
        return _COUNTED + b"".join(value.to_bytes(8, "big") for value in sorted(self._hashes))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Distinct":
        """What `to_bytes` wrote. Raises ValueError for what it did not."""
        found, kind, rest = cls(), data[:1], data[1:]
        if kind == _SKETCHED and len(rest) == _REGISTERS:
            found._registers = bytearray(rest)
        elif kind == _COUNTED and len(rest) % 8 == 0:
            found._hashes = {int.from_bytes(rest[at : at + 8], "big") for at in range(0, len(rest), 8)}
        else:
            raise ValueError(f"{len(data)} bytes are no count of different things")
        return found


def _estimate(registers: bytearray) -> float:
    """The improved estimator of Ertl (2017), algorithm 6: without bias from none to the most, and no seam between ranges."""
    most = _REST + 1
    sum_ = _REGISTERS * _tau(1 - registers.count(most) / _REGISTERS)
    for rank in range(most - 1, 0, -1):
        sum_ = 0.5 * (sum_ + registers.count(rank))
    sum_ += _REGISTERS * _sigma(registers.count(0) / _REGISTERS)
    return _REGISTERS**2 / (2 * math.log(2) * sum_)


def _sigma(share: float) -> float:
    """Of the registers that nothing has reached; there is always one that something has."""
    weight, total, before = 1.0, share, -1.0
    while total != before:
        share *= share
        before = total
        total += share * weight
        weight += weight
    return total


def _tau(share: float) -> float:
    """Of the registers that are as high as they can be."""
    if share in {0.0, 1.0}:
        return 0.0
    weight, total, before = 1.0, 1 - share, -1.0
    while total != before:
        share = math.sqrt(share)
        before = total
        weight *= 0.5
        total -= (1 - share) ** 2 * weight
    return total / 3
