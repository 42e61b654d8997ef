"""`Receiver`: somebody who is told of alerts. What delivers to it asks no more than this."""

import re
from hashlib import blake2b
from typing import Final, Protocol

import orjson

from monitor.core.errors import InputError
from monitor.core.instants import Millis
from monitor.notify.answer import Answer
from monitor.wire.alerts import AlertRecord

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,62}[a-z0-9])?")


class Receiver(Protocol):
    """One address of people. Called from one thread."""

    @property
    def name(self) -> str:
        """What it is called in logs and metrics, and by which it is known where it left off: unique and lasting."""

    def deliver(self, alert: AlertRecord) -> Answer:
        """One attempt to tell of a state that is new to it. Never raises."""

    def update(self, alert: AlertRecord) -> None:
        """Nothing is to be told: its state has been, or it is silenced. So it stands now. Nothing is sent."""

    def drop(self, fingerprint: str) -> None:
        """It can't be told of it, or there is no such alert any more."""

    def tend(self, now: Millis) -> None:
        """Do what is due by time alone. Called several times a second while nothing else is to be done; never raises."""


def check_name(name: str) -> str:
    """The name, if a receiver can be called so. Raises InputError."""
    if not _NAME.fullmatch(name):
        raise InputError(f"a receiver can't be called {name[:80]!r}: up to 64 of a-z, 0-9 and . _ - within, such as 'pager'")
    return name


def idempotency_key(alert: AlertRecord) -> str:
    """32 hex digits: a hash of fingerprint, state and `since`: the same at each attempt, by whomever, whenever."""
    said = [alert.fingerprint, alert.state.value, int(alert.since)]
    return blake2b(orjson.dumps(said), digest_size=16).hexdigest()
