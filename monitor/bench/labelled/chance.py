"""Chance with a seed: a source of its own for every actor and day, so that none depends on what others draw."""

from collections.abc import Mapping
from hashlib import blake2b
from math import log
from random import Random
from typing import TypeVar

from monitor.core.instants import Millis

Word = TypeVar("Word")


def chance(*names: int | str) -> Random:
    """The source that these names have, always the same."""
    digest = blake2b("/".join(map(str, names)).encode(), digest_size=8).digest()
    return Random(int.from_bytes(digest, "big"))  # noqa: S311 - chance with a seed is the point


def heavy(source: Random, median: Millis, sigma: float, least: Millis, most: Millis) -> Millis:
    """A duration with a lognormal tail: `sigma` 1 makes one in a hundred ten times the median. Cut to least..most."""
    return min(most, max(least, int(source.lognormvariate(log(median), sigma))))


def weighted(source: Random, words: Mapping[Word, float]) -> Word:
    """One of the words, by weight."""
    left = source.random() * sum(words.values())
    chosen = None
    for chosen, weight in words.items():  # noqa: B007 - the last stands where rounding leaves something
        left -= weight
        if left < 0:
            break
    if chosen is None:
        raise ValueError("of no words none can be chosen")
    return chosen


def named(source: Random) -> str:
    """A session id."""
    return f"s-{source.getrandbits(64):016x}"
