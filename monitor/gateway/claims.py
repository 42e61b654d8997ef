"""`Claims`: what a gateway takes from a verified token. Pure: the signature has been checked before, elsewhere.

A claim is named by its name, or by the way to it: `realm_access.roles` is the member `roles` of the claim
`realm_access`. A dot may also be part of a name (`https://acme.example/roles`): whatever leads to a value counts, the longest
name first.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from monitor.core.errors import InputError
from monitor.core.events import Principal
from monitor.core.instants import SECOND, EventMillis, Millis
from monitor.gateway.facts import Posture
from monitor.gateway.refusals import BadToken, TokenFault
from monitor.wire.bad_record import BadTime
from monitor.wire.events import MAX_ROLES, MAX_TEXT
from monitor.wire.times import parse_expires

LEEWAY: Final[Millis] = 30 * SECOND
"""How far clocks may lie apart, unless configured."""
LARGEST_LEEWAY: Final[Millis] = 300 * SECOND
NO_SESSION: Final = "no-session"
"""The service rule, unless configured."""

# A back-channel logout token or a security event is signed with the same keys and may name the same audience.
_EVENTS: Final = "events"


class ServiceRule(msgspec.Struct, frozen=True):
    """What marks a token as a service's. Without a claim: that it has neither `sid` nor `auth_time` (nobody logged in)."""

    claim: str | None = None
    value: str | None = None
    """What the claim must be, or have among its entries; None: it need only be there."""


class ClaimRules(msgspec.Struct, frozen=True):
    """Which tokens are meant for this gateway, and where in them things stand."""

    issuer: str
    """Exactly as in `iss`."""
    audiences: tuple[str, ...]
    """One of them must be in `aud`."""
    session_ids: tuple[str, ...] = ("sid",)
    subject: str = "sub"
    roles: str | None = None
    tenant: str | None = None
    posture: str | None = None
    """What a stale view means to this principal: `strict` or `best_effort`."""
    service: ServiceRule = ServiceRule()
    leeway: Millis = LEEWAY

    def __post_init__(self) -> None:
        """Raise InputError where nothing could be verified by these rules."""
        if not self.audiences or not all(self.audiences):
            raise InputError(
                "tokens: no audience is given, so a token for any other application would be taken; give the one in 'aud'"
            )
        if not 0 <= self.leeway <= LARGEST_LEEWAY:
            raise InputError(
                f"tokens: the clock leeway is {self.leeway} ms; allowed are 0 to {LARGEST_LEEWAY} ms, as it lets tokens live longer"
            )


class Claims(msgspec.Struct, frozen=True, gc=False):
    """A verified token, as far as gateways need it."""

    subject: str
    principal: Principal
    expires: Millis
    """`exp`, without the leeway."""
    session_ids: Mapping[str, str] = {}
    """By the name in `ClaimRules.session_ids`; those that the token has."""
    auth_time: Millis | None = None
    """Of a whole second, its first millisecond."""
    whole_second: bool = False
    """`auth_time` was told in whole seconds: it may lie anywhere in its second (DESIGN section 7)."""
    acr: str | None = None
    roles: tuple[str, ...] | None = None
    """Sorted, without duplicates; `()`: there are none; None: not known, as no claim is configured for them."""
    tenant: str | None = None
    posture: Posture | None = None


def parse_service_rule(text: str) -> ServiceRule:
    """The rule of an option's text: `no-session`, `claim:NAME` or `claim:NAME=VALUE`. Raises InputError."""
    if text == NO_SESSION:
        return ServiceRule()
    kind, _, rest = text.partition(":")
    name, equals, value = rest.partition("=")
    if kind != "claim" or not name or (equals and not value):
        raise InputError(
            f"service tokens: {text!r} is no rule; allowed are {NO_SESSION}, claim:NAME and claim:NAME=VALUE (like claim:idtyp=app)"
        )
    return ServiceRule(name, value or None)


def read_claims(payload: bytes, rules: ClaimRules, now: EventMillis) -> Claims:
    """The claims of a payload whose signature is good, valid at `now` within the leeway. Raises BadToken."""
    said = _object(payload)
    if _EVENTS in said:
        raise BadToken(TokenFault.TYPE, "it has the claim 'events': a logout token or a security event")
    if said.get("iss") != rules.issuer:
        raise BadToken(TokenFault.ISSUER)
    audience = said.get("aud")
    meant_for = audience if isinstance(audience, list) else [audience]
    if not any(one in meant_for for one in rules.audiences):
        raise BadToken(TokenFault.AUDIENCE)
    expires = _expires(said, rules, now)
    auth_time = _auth_time(said, rules, now)
    return Claims(
        subject=_required(said, rules.subject),
        principal=Principal.SERVICE if _is_service(said, rules.service) else Principal.USER,
        expires=expires,
        session_ids={name: value for name in rules.session_ids if (value := _text(said, name)) is not None},
        auth_time=auth_time,
        whole_second=auth_time is not None and float(said["auth_time"]).is_integer(),
        acr=_text(said, "acr"),
        roles=_roles(said, rules.roles) if rules.roles else None,
        tenant=_text(said, rules.tenant) if rules.tenant else None,
        posture=_posture(said, rules.posture) if rules.posture else None,
    )


def _object(payload: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadToken(TokenFault.MALFORMED, "its payload is not a JSON object") from None


def _expires(said: dict[str, Any], rules: ClaimRules, now: EventMillis) -> Millis:
    expires = _instant(said, "exp")
    if expires is None:
        raise BadToken(TokenFault.CLAIMS, "exp is missing")
    if now >= expires + rules.leeway:
        raise BadToken(TokenFault.EXPIRED)
    for name in ("nbf", "iat"):
        since = _instant(said, name)
        if since is not None and since > now + rules.leeway:
            raise BadToken(TokenFault.NOT_YET_VALID, f"{name} is in the future")
    return expires


def _auth_time(said: dict[str, Any], rules: ClaimRules, now: EventMillis) -> Millis | None:
    since = _instant(said, "auth_time")
    # A future one would count as a re-authentication after every cut-off until then.
    if since is not None and since > now + rules.leeway:
        raise BadToken(TokenFault.AUTH_TIME)
    return since


def _instant(said: dict[str, Any], name: str) -> Millis | None:
    value = said.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken(TokenFault.CLAIMS, f"{name} is not a number of seconds")
    try:
        return parse_expires(value)
    except BadTime as error:
        raise BadToken(TokenFault.CLAIMS, f"{name}: {error.detail}") from None


def _is_service(said: dict[str, Any], rule: ServiceRule) -> bool:
    if rule.claim is None:
        return said.get("sid") is None and said.get("auth_time") is None
    value = _at(said, rule.claim)
    if rule.value is None:
        return value is not None and value is not False
    entries = value if isinstance(value, list) else [value]
    # JSON's true is written `true` in a rule.
    return any(rule.value == (str(one).lower() if isinstance(one, bool) else str(one)) for one in entries)


def _roles(said: dict[str, Any], name: str) -> tuple[str, ...]:
    value = _at(said, name)
    if value is None:
        return ()
    # A text is a list with spaces between, as `scope` is (RFC 8693 section 4.2).
    entries = value.split() if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(one, str) and one for one in entries):
        raise BadToken(TokenFault.CLAIMS, f"{name} is not a list of texts")
    roles = tuple(sorted(set(entries)))
    # What an access event can't hold would be lost on the way to the monitor, and its limits with it.
    if len(roles) > MAX_ROLES or any(len(one) > MAX_TEXT for one in roles):
        raise BadToken(
            TokenFault.CLAIMS, f"{name} has more than {MAX_ROLES} roles, or one beyond {MAX_TEXT} characters"
        )
    return roles


def _posture(said: dict[str, Any], name: str) -> Posture | None:
    value = _at(said, name)
    if value is None:
        return None
    # What is meant by another word is not known, and must not loosen anything.
    return Posture.BEST_EFFORT if value in ("best_effort", "best-effort") else Posture.STRICT


def _required(said: dict[str, Any], name: str) -> str:
    value = _text(said, name)
    if not value:
        raise BadToken(TokenFault.CLAIMS, f"{name} is missing or empty")
    return value


def _text(said: dict[str, Any], name: str) -> str | None:
    value = _at(said, name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadToken(TokenFault.CLAIMS, f"{name} is not a text")
    if len(value) > MAX_TEXT:
        raise BadToken(TokenFault.CLAIMS, f"{name} is longer than {MAX_TEXT} characters")
    return value


def _at(said: Any, way: str) -> Any:
    """What the way leads to, the longest name first; None where it leads nowhere."""
    if not isinstance(said, dict):
        return None
    if way in said:
        return said[way]
    end = way.rfind(".")
    while end > 0:
        found = _at(said.get(way[:end]), way[end + 1 :])
        if found is not None:
            return found
        end = way.rfind(".", 0, end)
    return None
