"""Session ids are names, never credentials."""

from hashlib import sha256

from monitor.core.errors import InputError


def hashed_session_id(raw_token: str | bytes) -> str:
    """The session id of a secret session token: its SHA-256, 64 hex digits.

    A session id stands in topics, dashboards and logs, so whoever reads them must not be able to use it. Give
    what a cookie or a header holds through this; the gateways do the same (DESIGN section 7), so both sides
    name the session alike. An id that is no secret (an OIDC `sid` claim) may be used as it is. Text counts as
    its UTF-8 bytes.
    """
    if not raw_token:
        raise InputError(
            "hashed_session_id: the token is empty, so every such session would share one id; give the token"
        )
    return sha256(raw_token.encode("utf-8") if isinstance(raw_token, str) else raw_token).hexdigest()
