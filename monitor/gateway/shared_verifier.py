"""`SharedVerifier`: a token verifier for applications with several threads or event loops; its issuer is asked in the background.

A token whose key is at hand is verified where it is shown. Only what the issuer must be asked about waits for the background.
"""

import asyncio
import contextlib
from typing import Final, Protocol

from monitor.core.instants import EventMillis
from monitor.gateway.background import Background
from monitor.gateway.claims import ClaimRules, Claims
from monitor.gateway.refusals import TokenFault, TokenRefused

LONGEST: Final = 15.0
"""Seconds that a thread waits for an issuer: its configuration, and its keys."""
_STOP_WAIT: Final = 5.0


class Checks(Protocol):
    """`TokenVerifier`."""

    def check(self, token: str, now: EventMillis) -> Claims | TokenRefused:
        """The claims, by the keys at hand; from any thread."""

    async def verify(self, token: str, now: EventMillis) -> Claims | TokenRefused:
        """The same; a key that is not known is asked for at the issuer."""


class Kept(Protocol):
    """`IssuerKeys`: what is kept fresh in the background."""

    async def start(self) -> None:
        """Fetch them, and go on fetching."""

    async def stop(self) -> None:
        """End."""


class SharedVerifier:
    """Verifies wherever it is called, between `start` and `stop`. Nothing here raises."""

    def __init__(self, verifier: Checks, background: Background, keys: Kept | None = None) -> None:
        """`background` runs while tokens are verified; there the issuer's `keys` are kept, if they are ours to keep."""
        self._verifier, self._background, self._keys = verifier, background, keys

    def start(self) -> None:
        """Have the keys fetched; returns at once."""
        if self._keys is not None:
            asyncio.run_coroutine_threadsafe(self._keys.start(), self._background.loop)

    def stop(self) -> None:
        """End that."""
        if self._keys is not None:
            with contextlib.suppress(TimeoutError):
                self._background.wait(self._keys.stop(), _STOP_WAIT)

    async def verify(self, token: str, now: EventMillis) -> Claims | TokenRefused:
        """For event loops: any but the one in the background."""
        found = self._verifier.check(token, now)
        if isinstance(found, Claims) or not found.unsure:
            return found
        asked = asyncio.run_coroutine_threadsafe(self._verifier.verify(token, now), self._background.loop)
        return await asyncio.wrap_future(asked)

    def verify_now(self, token: str, now: EventMillis) -> Claims | TokenRefused:
        """For threads. An issuer that is too slow is one that can't be asked."""
        found = self._verifier.check(token, now)
        if isinstance(found, Claims) or not found.unsure:
            return found
        try:
            return self._background.wait(self._verifier.verify(token, now), LONGEST)
        except TimeoutError:
            return TokenRefused(TokenFault.KEYS_UNAVAILABLE)


def verifier_by(rules: ClaimRules, background: Background) -> SharedVerifier:
    """A verifier of the issuer's tokens. Raises MissingExtraError without the extra `gateway`."""
    # Here, because the cryptography of tokens takes its time to import, and is not part of the base install.
    from monitor.gateway.issuer import IssuerKeys
    from monitor.gateway.tokens import TokenVerifier

    keys = IssuerKeys(rules.issuer)
    return SharedVerifier(TokenVerifier(rules, keys), background, keys)
