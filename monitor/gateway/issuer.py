"""`IssuerKeys`: an issuer's keys, kept fresh. No request waits for the issuer, but one with a key that is not known.

- They are fetched at the start and again each `lifetime`; a key that the issuer has withdrawn is gone within it.
- A key that is not known is asked for at once; all who miss one share the fetch, and between two attempts lies `pause`:
  forged keys can't be used to hammer the issuer. Within the pause a new key stays unknown.
- While the issuer can't be reached the old keys count, up to the age of `oldest`; then there are none, and no token is
  taken. Attempts go on, less and less often, up to once in `SLOWEST`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from monitor.core.errors import AbsenceError
from monitor.core.instants import DAY, MINUTE, SECOND, Millis
from monitor.gateway.discovery import Fetch, check_issuer, fetch_document, fetch_keys
from monitor.gateway.jwks import ALGORITHMS, PublicKeys, check_algorithms, parse_jwks

log = logging.getLogger("monitor.gateway")

LIFETIME: Final[Millis] = 5 * MINUTE
OLDEST: Final[Millis] = DAY
PAUSE: Final[Millis] = 5 * SECOND
SLOWEST: Final[Millis] = MINUTE


def _monotonic() -> Millis:
    return time.monotonic_ns() // 1_000_000


class IssuerKeys:
    """Use it with `start` and `stop`, on one event loop."""

    def __init__(
        self, issuer: str, algorithms: tuple[str, ...] = ALGORITHMS, *, lifetime: Millis = LIFETIME, oldest: Millis = OLDEST,
        pause: Millis = PAUSE, insecure: bool = False, fetch: Fetch = fetch_document,
        monotonic: Callable[[], Millis] = _monotonic,
    ) -> None:  # fmt: skip
        """Nothing is fetched before `start`. Raises InputError for an issuer or an algorithm that can't be used."""
        self._issuer = check_issuer(issuer, insecure=insecure)
        self._algorithms = check_algorithms(algorithms)
        self._lifetime = lifetime
        self._oldest = oldest
        self._pause = pause
        self._fetch = fetch
        self._monotonic = monotonic
        self._keys: PublicKeys | None = None
        self._fetched_at: Millis = 0
        self._not_before: Millis | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.fault: str | None = "the issuer's keys have not been asked for yet"
        """Why the last attempt failed, for health and logs; None where it did not."""

    def current(self) -> PublicKeys | None:
        """The keys that count now; None where there are none. The same object until the issuer's keys change."""
        if self._monotonic() - self._fetched_at > self._oldest:
            return None
        return self._keys

    @property
    def age(self) -> Millis | None:
        """Since the keys were fetched; None before."""
        return None if self._keys is None else self._monotonic() - self._fetched_at

    async def start(self) -> None:
        """Fetch the keys, and go on fetching. Where the first attempt fails, `fault` says so. Idempotent."""
        if self._keeping is None:
            await self.renew()
            self._keeping = asyncio.create_task(self._keep(), name="issuer-keys")

    async def stop(self) -> None:
        """End. Idempotent, at once."""
        tasks = [task for task in (self._keeping, self._fetching) if task is not None]
        self._keeping = None
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def renew(self) -> None:
        """Fetch, or wait for the fetch under way, or do nothing within the pause after the last. Raises nothing."""
        if self._fetching is None:
            if self._not_before is not None and self._monotonic() < self._not_before:
                return
            self._fetching = asyncio.create_task(self._attempt(), name="issuer-keys-fetch")
        # One who no longer waits must not end it for the others.
        await asyncio.shield(self._fetching)

    async def _attempt(self) -> None:
        try:
            keys = parse_jwks(await fetch_keys(self._issuer, self._fetch), self._algorithms)
        except AbsenceError as error:
            self.fault = str(error)
            log.warning(
                "issuer_keys_not_fetched",
                extra={"issuer": self._issuer, "error": str(error), "age_ms": self.age},
            )
        else:
            if keys != self._keys:
                log.info("issuer_keys_changed", extra={"issuer": self._issuer, "keys": len(keys)})
                self._keys = keys
            self._fetched_at = self._monotonic()
            self.fault = None
        finally:
            # From its end: an issuer that answers slowly is not asked without a break.
            self._not_before = self._monotonic() + self._pause
            self._fetching = None

    async def _keep(self) -> None:
        wait = self._pause
        while True:
            wait = self._lifetime if self.fault is None else min(2 * wait, SLOWEST, self._lifetime)
            await asyncio.sleep(wait / 1000)
            await self.renew()
