"""`unacknowledged`: a gateway that lacks a command for too long, or has gone silent."""

from typing import Final, Self

import msgspec

from monitor.core.instants import Millis
from monitor.detect.enforcement import Ledger, Ordered, Waiting
from monitor.detect.finding import Cleared, Finding, Subject
from monitor.detect.settings import Detector, Unacknowledged
from monitor.detect.words import many, rounded


class Wait(msgspec.Struct, frozen=True, array_like=True):
    """The oldest command that a gateway lacks, and since when."""

    command: Ordered
    since: Millis


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(dict[str, Wait | None]).decode


class Waits:
    """What each gateway was waited for when it was last looked at: a ledger forgets, but nobody is let off by that.

    Holds one entry for each gateway that the ledger knows.
    """

    def __init__(self) -> None:
        """Nobody has been looked at."""
        self._waits: dict[str, Wait | None] = {}

    def judge(self, ledger: Ledger, now: Millis, settings: Unacknowledged) -> list[Finding | Cleared]:
        """How each gateway stands at `now`, in the order of their names; `Cleared` also of those that the ledger has let go.

        `now` must not be ahead of what the ledger has been told: what was not read yet looks like silence.
        """
        before, self._waits = self._waits, {}
        found: list[Finding | Cleared] = []
        for waiting in ledger.waiting():
            wait = self._waits[waiting.gateway] = _wait(waiting, before.get(waiting.gateway), ledger)
            found.append(_judge(waiting, wait, now, settings))
        found += [Cleared(_about(gone), now) for gone in sorted(before.keys() - self._waits.keys())]
        return found

    def next_look(self, ledger: Ledger, now: Millis, settings: Unacknowledged) -> Millis | None:
        """When time alone makes a gateway stand out that does not at `now`; None: of none."""
        dues: list[Millis] = []
        for waiting in ledger.waiting():
            if not waiting.stopped:
                wait = _wait(waiting, self._waits.get(waiting.gateway), ledger)
                dues += [waiting.heard + settings.silent] + ([] if wait is None else [wait.since + settings.within])
        return min((due for due in dues if due > now), default=None)

    def to_bytes(self) -> bytes:
        """Everything that `from_bytes` needs."""
        return _encode(self._waits)

    @classmethod
    def from_bytes(cls, written: bytes) -> Self:
        """As it was when it was written. Raises msgspec.DecodeError."""
        found = cls()
        found._waits = _decode(written)
        return found


def _wait(waiting: Waiting, before: Wait | None, ledger: Ledger) -> Wait | None:
    if waiting.stopped:
        return None
    if before is not None and not ledger.has_applied(waiting.gateway, before.command):
        return before
    return None if waiting.oldest is None or waiting.since is None else Wait(waiting.oldest, waiting.since)


def _judge(waiting: Waiting, wait: Wait | None, now: Millis, settings: Unacknowledged) -> Finding | Cleared:
    about = _about(waiting.gateway)
    waited, silent = 0 if wait is None else now - wait.since, now - waiting.heard
    lacks, mute = wait is not None and waited >= settings.within, silent >= settings.silent
    if waiting.stopped or not (lacks or mute):
        return Cleared(about, now)
    said = []
    if lacks:
        said.append(f"lacks {many(max(1, waiting.unapplied), 'command')}, the oldest for {rounded(waited)}: it was expected within {rounded(settings.within)}")
    if mute:
        said.append(f"has said nothing for {rounded(silent)}, without word that it stopped: a word was expected every few seconds")
    return Finding(
        about, now, f"gateway {waiting.gateway} " + ", and ".join(said),
        expected={"within_ms": settings.within, "silent_ms": settings.silent},
        seen={
            "unapplied": 0 if wait is None else max(1, waiting.unapplied), "oldest_ms": waited, "silent_ms": max(0, silent),
            "last_heard": waiting.heard, "oldest": None if wait is None else [wait.command.partition, wait.command.offset],
            "sessions": 0 if wait is None else 1,
        },
        sessions=() if wait is None else (wait.command.session_id,),
    )  # fmt: skip


def _about(gateway: str) -> Subject:
    return Subject(Detector.UNACKNOWLEDGED, gateway=gateway)
