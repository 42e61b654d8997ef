"""Events before they are sent: checked when they are made, so that nothing bad reaches the topic."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias, TypedDict
from uuid import uuid4

import msgspec

from monitor.core.errors import InputError
from monitor.core.events import ACTIVITY_KINDS, Principal
from monitor.core.instants import EventMillis
from monitor.wire.bad_record import BadTime
from monitor.wire.events import MAX_ROLES, MAX_SESSION_ID, MAX_TEXT
from monitor.wire.times import format_time, parse_expires, parse_time

Kind: TypeAlias = Literal["human", "agent", "inflight", "keepalive"]
Instant: TypeAlias = datetime | str
"""A datetime with a zone, or RFC 3339 text with a zone."""

SOURCE_ALIVE: Final = "source.alive"
WORDS: Final = ("subject", "classification", "workload", "route", "tenant", "client_ip", "user_agent", "acr")
PRINCIPALS: Final = tuple(principal.value for principal in Principal)
KINDS: Final = tuple(ACTIVITY_KINDS)
FIELDS: Final = (*WORDS, "principal", "roles", "auth_time", "expires", "kind", "time", "id")


class Fields(TypedDict, total=False):
    """What may be said of a session with any event. Left out or None: unchanged (DESIGN section 4.1)."""

    subject: str | None
    principal: Literal["user", "service"] | None
    roles: Iterable[str] | None
    classification: str | None
    workload: str | None
    route: str | None
    tenant: str | None
    client_ip: str | None
    user_agent: str | None
    auth_time: Instant | float | None
    """A number is seconds since 1970, as in a JWT."""
    acr: str | None
    expires: Instant | float | None
    """When the credential ends by itself; a number as in `auth_time`."""
    kind: Kind | None
    """The activity's kind; left out: `human` for a user, `agent` for a service."""
    time: Instant | None
    """When it happened; left out: now."""
    id: str | None
    """Unique per event; left out: made up."""


class Draft(msgspec.Struct, eq=False):
    """One checked event on its way. `stated` holds what it says of the session, by wire name."""

    type: str
    session_id: str
    id: str
    kind: str | None = None
    time: EventMillis | None = None
    stated: Mapping[str, object] = {}
    final: bool = False
    """Of `source.alive` only: the source withdraws."""
    encoded: bytes | None = None
    """A record that came encoded: it is sent as it came."""
    tag: int | None = None


def draft(type_: str, session_id: str, fields: Mapping[str, object], tag: int | None = None) -> Draft:
    """An event of the SDK's caller, checked. Raises InputError: which field, what it was, what is allowed."""
    for name in fields:
        if name not in FIELDS:
            raise InputError(f"{type_}: there is no field {name!r}; the fields are {', '.join(FIELDS)}")
    stated: dict[str, object] = {}
    for name in WORDS:
        if (value := fields.get(name)) is not None:
            stated[name] = _word(type_, name, value)
    if (principal := fields.get("principal")) is not None:
        stated["principal"] = _one_of(type_, "principal", principal, PRINCIPALS)
    if (roles := fields.get("roles")) is not None:
        stated["roles"] = _roles(type_, roles)
    for name in ("auth_time", "expires"):
        if (instant := fields.get(name)) is not None:
            stated[name] = _credential_time(type_, name, instant)
    kind, time, id_ = fields.get("kind"), fields.get("time"), fields.get("id")
    return Draft(
        type=type_,
        session_id=checked_session_id(type_, session_id),
        id=uuid4().hex if id_ is None else _word(type_, "id", id_),
        kind=None if kind is None else _one_of(type_, "kind", kind, KINDS),
        time=None if time is None else _millis(type_, "time", time),
        stated=stated,
        tag=tag,
    )


def checked_session_id(type_: str, session_id: object) -> str:
    """The id, where it obeys DESIGN section 4.1: 1 to 256 characters, not beginning with `~`."""
    text = _word(type_, "session_id", session_id)
    if len(text) > MAX_SESSION_ID:
        raise InputError(
            f"{type_}: session_id has {len(text)} characters; allowed are 1 to {MAX_SESSION_ID} (hashed_session_id makes 64)"
        )
    if text.startswith("~"):
        raise InputError(
            f"{type_}: session_id {text!r} begins with '~', which is kept for the monitor's own records"
        )
    return text


def _word(type_: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"{type_}: {name} is {_shown(value)}; it must be text")
    if len(value) > MAX_TEXT:
        raise InputError(f"{type_}: {name} has {len(value)} characters; allowed are up to {MAX_TEXT}")
    if not value:
        raise InputError(
            f"{type_}: {name} is empty; give at least one character, or leave it out where it is unknown"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{type_}: {name} can't be written as UTF-8 (position {error.start})") from None
    return value


def _one_of(type_: str, name: str, value: object, allowed: tuple[str, ...]) -> str:
    text = value.value if isinstance(value, Principal) else value
    if text not in allowed:
        raise InputError(f"{type_}: {name} is {_shown(value)}; allowed are {', '.join(allowed)}")
    return str(text)


def _roles(type_: str, value: object) -> tuple[str, ...]:
    # One text is iterable too: without this, "admin" would become the roles a, d, i, m, n.
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InputError(f"{type_}: roles is {_shown(value)}; it must be a list of texts")
    roles = tuple(sorted({_word(type_, "each of roles", role) for role in value}))
    if len(roles) > MAX_ROLES:
        raise InputError(f"{type_}: roles has {len(roles)} entries; allowed are up to {MAX_ROLES}")
    return roles


def _credential_time(type_: str, name: str, value: object) -> float | str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            parse_expires(value)
        except BadTime as error:
            raise InputError(f"{type_}: {name} is {value}: {error.detail}") from None
        return value  # a number stays one: of an `auth_time` in whole seconds the worker takes the end of its second
    return format_time(_millis(type_, name, value))


def _millis(type_: str, name: str, value: object) -> EventMillis:
    text = value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InputError(
                f"{type_}: {name} is {value.isoformat()}, which has no zone; give the datetime a tzinfo"
            )
        text = value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    if not isinstance(text, str):
        raise InputError(
            f"{type_}: {name} is {_shown(value)}; it must be a datetime or RFC 3339 text such as 2026-11-23T07:09:00.123Z"
        )
    try:
        return parse_time(text)
    except BadTime as error:
        raise InputError(f"{type_}: {name} is {_shown(value)}: {error.detail}") from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
