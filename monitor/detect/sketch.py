"""`Sketch`: quantiles of durations, within a relative error, from a bounded number of weighted buckets.

Buckets are logarithmic, as in DDSketch (Masson, Rim and Lee, VLDB 2019): with gamma = (1 + alpha) / (1 - alpha), bucket i
has the durations in (gamma ** (i - 1), gamma ** i], and 2 * gamma ** i / (gamma + 1) is within `alpha` of all of them.
"""

import struct
from array import array
from math import ceil, exp, inf, log
from typing import Final

import msgspec

from monitor.core.errors import InvariantError
from monitor.core.instants import Millis

ALPHA: Final = 0.01
MOST_BUCKETS: Final = 1024
"""8 KiB at the most. At 1 %, they span a factor of 760 million: from half a second to ten years."""

FAINT: Final = 2.0**-40
"""What has faded below this weight is gone."""


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """A sketch as bytes keep it: the buckets that are not empty."""

    alpha: float
    most: int
    zero: float
    steps: list[int]
    """The first one's index, then the distance from one to the next."""
    weights: bytes
    """A little-endian double each."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Stored).decode


class Sketch:
    """Weighted durations in milliseconds, and their quantiles.

    A quantile is within `alpha` of the exact one (0 is exact), unless it falls into the lowest of `most` buckets: what
    is shorter than those can tell apart, counted down from the longest, is collapsed into that one. Such a quantile
    may be too long, never too short; those above it are as exact as ever. What it holds is a function of what it was
    given, in whatever order and from whatever sketches it was merged, but for the rounding of sums.
    """

    __slots__ = ("_gamma", "_log_gamma", "alpha", "low", "most", "weights", "zero")

    def __init__(self, alpha: float = ALPHA, most: int = MOST_BUCKETS) -> None:
        """Empty. `alpha` lies between 0 and 1; `most` buckets, 1 at the least."""
        if not (0 < alpha < 1 and most >= 1):
            raise ValueError(f"no sketch has alpha {alpha!r} and {most!r} buckets")
        self.alpha = alpha
        self.most = most
        self._gamma = (1 + alpha) / (1 - alpha)
        self._log_gamma = log(self._gamma)
        self.zero = 0.0
        """The weight of what took no time."""
        self.low = 0
        """The index of the first of `weights`, which are one for each bucket from the lowest to the highest."""
        self.weights = _empty(0)

    @property
    def count(self) -> float:
        """The sum of all weights. O(buckets)."""
        return self.zero + sum(self.weights)

    def bucket(self, duration: Millis) -> int | None:
        """The bucket of a duration in all sketches with this `alpha`, for `put`; None: of 0, as of all that is negative."""
        return ceil(log(duration) / self._log_gamma) if duration > 0 else None

    def add(self, duration: Millis, weight: float = 1.0) -> None:
        """One duration. Its weight is positive; O(1) but where the range of buckets grows."""
        self.put(self.bucket(duration), weight)

    def put(self, bucket: int | None, weight: float) -> None:
        """A weight into a bucket that `bucket` has named."""
        if not 0 <= weight < inf:
            raise ValueError(f"no duration weighs {weight!r}")
        if bucket is None:
            self.zero += weight
        elif weight:
            if not 0 <= bucket - self.low < len(self.weights):
                self._reach(bucket, bucket)
            self.weights[max(0, bucket - self.low)] += weight

    def merge(self, other: "Sketch") -> None:
        """Take in all that another holds, which stays as it is. Both have the same `alpha` and `most`."""
        if (other.alpha, other.most) != (self.alpha, self.most):
            raise ValueError("only sketches of the same alpha and number of buckets can be merged")
        self.zero += other.zero
        if not other.weights:
            return
        self._reach(other.low, other.low + len(other.weights) - 1)
        for index, weight in enumerate(other.weights, other.low - self.low):
            self.weights[max(0, index)] += weight

    def fade(self, factor: float) -> None:
        """Multiply all weights by a positive factor. What is fainter than `FAINT` then is gone. O(buckets)."""
        if not 0 <= factor < inf:
            raise ValueError(f"no weight fades by {factor!r}")
        self.zero = _faded(self.zero, factor)
        self.weights = array("d", [_faded(weight, factor) for weight in self.weights])
        self._trim()

    def quantile(self, share: float) -> float | None:
        """The duration that this share of the weight does not exceed (nearest rank), in milliseconds; None of none. O(buckets)."""
        if not 0 <= share <= 1:
            raise ValueError(f"{share!r} is no share")
        sought = share * self.count
        seen = self.zero
        if seen and seen >= sought:
            return 0.0
        highest = None
        for index, weight in enumerate(self.weights, self.low):
            if weight:
                seen += weight
                highest = index
                if seen >= sought:
                    break
        # Where rounding has left the sum short, it is the highest.
        if highest is None:
            return 0.0 if self.zero else None
        return 2 * exp(highest * self._log_gamma) / (self._gamma + 1)

    def to_bytes(self) -> bytes:
        """About 9 bytes for each bucket that is not empty. Equal sketches have equal bytes."""
        steps, weights, before = [], [], 0
        for index, weight in enumerate(self.weights, self.low):
            if weight:
                steps.append(index - before)
                weights.append(weight)
                before = index
        return _encode(_Stored(self.alpha, self.most, self.zero, steps, struct.pack(f"<{len(weights)}d", *weights)))

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Sketch":
        """What `to_bytes` wrote, to the last bit. Raises InvariantError where it can't be read."""
        try:
            found = _decode(stored)
            weights = struct.unpack(f"<{len(found.steps)}d", found.weights)
            sketch, index = cls(found.alpha, found.most), 0
            sketch.put(None, found.zero)
            for step, weight in zip(found.steps, weights, strict=True):
                index += step
                sketch.put(index, weight)
        except (msgspec.MsgspecError, struct.error, ValueError) as error:
            raise InvariantError(f"a sketch can't be read: {error}") from error
        return sketch

    def _reach(self, low: int, high: int) -> None:
        """Have room for these buckets, all at once; what lies too low for `most` goes into the lowest."""
        if not self.weights:
            self.low, self.weights = high, _empty(1)
        top = max(high, self.low + len(self.weights) - 1)
        low = max(min(low, self.low), top - self.most + 1)
        if low < self.low:
            self.weights = _empty(self.low - low) + self.weights
        elif low > self.low:
            collapsed = sum(self.weights[: low - self.low + 1])
            self.weights[: low - self.low + 1] = array("d", [collapsed])
        self.low = low
        self.weights.extend(_empty(top - low + 1 - len(self.weights)))

    def _trim(self) -> None:
        """Let go of empty buckets at both ends."""
        full = [place for place, weight in enumerate(self.weights) if weight]
        if not full:
            self.weights = _empty(0)
            return
        self.weights = self.weights[full[0] : full[-1] + 1]
        self.low += full[0]


def _empty(buckets: int) -> "array[float]":
    return array("d", bytes(8 * buckets))


def _faded(weight: float, factor: float) -> float:
    faded = weight * factor
    return faded if faded >= FAINT else 0.0
