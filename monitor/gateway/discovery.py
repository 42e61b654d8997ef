"""An issuer's keys over HTTP: OpenID Connect Discovery 1.0, then its JWKS. Needs the extra `gateway`.

The answers of an issuer are trusted as far as its certificate goes, so `http` is for this machine alone unless allowed;
redirects are not followed (they could leave the issuer), and an answer has a size and a time.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import msgspec

from monitor.core.errors import AbsenceError, InputError, MissingExtraError

Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]
"""The document at a URL. Raises AbsenceError where it can't be had."""

LARGEST: Final = 1024 * 1024
"""Bytes of one document."""
SECONDS: Final = 5.0
"""For one document, all in all."""
_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class _Configuration(msgspec.Struct):
    issuer: str
    jwks_uri: str


def check_issuer(url: str, *, insecure: bool = False) -> str:
    """The issuer's URL, if it can be asked. Raises InputError. `insecure` allows `http` to other machines."""
    try:
        parts = urlsplit(url)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        raise InputError(f"issuer: {url!r} is no URL") from None
    if parts.username is not None or parts.password is not None:
        raise InputError(
            "issuer: the URL has a name or password in it, which would stand in logs; leave them out"
        )
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or not port_fits
        or parts.query
        or parts.fragment
    ):
        raise InputError(
            f"issuer: {url!r} must be https://HOST[:PORT][/PATH], without a query, as in the tokens' 'iss'"
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not insecure:
        raise InputError(
            f"issuer: {url!r} is not https, so anybody on the way could hand out keys of their own; use https"
        )
    return url


async def fetch_keys(issuer: str, fetch: Fetch) -> bytes:
    """The issuer's JWKS as it is served. Raises AbsenceError: what was asked, and what came back."""
    url = issuer.rstrip("/") + _WELL_KNOWN
    try:
        said = msgspec.json.decode(await fetch(url), type=_Configuration)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise AbsenceError(
            f"{url} is not an OpenID configuration: an object with 'issuer' and 'jwks_uri'"
        ) from None
    if said.issuer != issuer:
        # OpenID Connect Discovery 1.0 section 4.3: it must be the same, or somebody else's keys would be trusted.
        raise AbsenceError(
            f"{url} speaks for the issuer {said.issuer[:200]!r}; give the issuer exactly like that"
        )
    try:
        check_issuer(said.jwks_uri.partition("?")[0], insecure=issuer.startswith("http:"))
    except InputError:
        raise AbsenceError(
            f"{url} names a jwks_uri that can't be asked: it must be https, without credentials"
        ) from None
    return await fetch(said.jwks_uri)


async def fetch_document(url: str) -> bytes:
    """GET, within `SECONDS` and `LARGEST`. Raises AbsenceError, which names the URL without its query."""
    try:
        import aiohttp
    except ModuleNotFoundError as error:
        raise MissingExtraError("gateway", "an OIDC issuer") from error
    shown = url.partition("?")[0]
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        # Asked every few minutes: a session of its own keeps no connection that could be stale.
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response,
        ):
            if response.status != 200:
                raise AbsenceError(f"{shown} answers {response.status}; 200 is needed")
            body = await response.content.read(LARGEST + 1)
            while len(body) <= LARGEST and (more := await response.content.read(LARGEST + 1)):
                body += more
    except TimeoutError:
        raise AbsenceError(f"{shown} does not answer within {SECONDS:.0f} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # Of others' errors only what can't repeat a URL.
        why = str(error.os_error) if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
        raise AbsenceError(f"{shown} can't be had: {why}") from None
    if len(body) > LARGEST:
        raise AbsenceError(f"{shown} has more than {LARGEST} bytes")
    return body
