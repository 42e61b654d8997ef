"""`Webhook`: alerts as signed POSTs, each state of an alert once.

The body is the alert's record with a `version`. The receiver checks the signature over the very bytes that it got, and
that its time is near; it may get a state twice, and knows that by `Idempotency-Key`.
"""

import hmac
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from monitor.core.errors import InputError
from monitor.core.instants import SECOND, Millis
from monitor.notify.answer import Answer, Verdict
from monitor.notify.clock import wall
from monitor.notify.endpoint import Endpoint
from monitor.notify.receiver import check_name, idempotency_key
from monitor.wire.alerts import AlertRecord
from monitor.wire.codec import encode

VERSION: Final = 1
"""Of the body. New members may come within one; a change of what is there takes a new one."""
SIGNATURE: Final = "X-Session-Monitor-Signature"
KEY: Final = "Idempotency-Key"
SHORTEST: Final = 16
LONGEST: Final = 1024


class Webhook:
    """A `Receiver` that takes POSTs. Its secret is in no text made of it."""

    def __init__(self, name: str, endpoint: Endpoint, secret_file: Path, *, now: Callable[[], Millis] = wall) -> None:
        """`secret_file` holds what both sides know, 16 bytes or more; it is read anew for each attempt, so that it can be changed.

        Raises InputError where there is no such file, it is too short, or others could read it.
        """
        self.name = check_name(name)
        self._endpoint, self._secret_file = endpoint, secret_file
        self._now = now
        read_key(secret_file)

    def __repr__(self) -> str:
        """Its name, and to whom it goes."""
        return f"Webhook({self.name!r}, {self._endpoint!r})"

    def deliver(self, alert: AlertRecord) -> Answer:
        """One attempt, signed anew."""
        try:
            key = read_key(self._secret_file)
        except InputError as error:
            return Answer(Verdict.AGAIN, str(error))
        body = encode_body(alert)
        signature = sign(key, self._now() // SECOND, body)
        return self._endpoint.post(body, {SIGNATURE: signature, KEY: idempotency_key(alert)})

    def update(self, alert: AlertRecord) -> None:
        """Nothing to remember."""

    def drop(self, fingerprint: str) -> None:
        """Nothing to forget."""

    def tend(self, now: Millis) -> None:
        """Nothing is ever due."""


def encode_body(alert: AlertRecord) -> bytes:
    """What is posted."""
    return encode({"version": VERSION, **msgspec.json.decode(encode(alert))})


def sign(key: bytes, seconds: int, body: bytes) -> str:
    """The header: HMAC-SHA256 over the time, a full stop and the body."""
    made = hmac.new(key, str(seconds).encode() + b"." + body, sha256).hexdigest()
    return f"t={seconds},v1={made}"


def read_key(path: Path) -> bytes:
    """What the file holds, without a line break at its end. Raises InputError, without repeating it."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise InputError(f"{path} can be read by others: chmod 600 it")
            key = file.read(LONGEST + 3).rstrip(b"\r\n")
    except OSError as error:
        raise InputError(f"{path}, with what a webhook is signed, can't be read: {error.strerror}") from error
    if not SHORTEST <= len(key) <= LONGEST:
        raise InputError(f"{path}, with what a webhook is signed, must hold {SHORTEST} to {LONGEST} bytes")
    return key
