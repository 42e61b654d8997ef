"""Tokens made by hand, with keys of our own; and a verifier that knows them."""

import functools
import json
from base64 import urlsafe_b64encode

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from monitor.gateway.claims import ClaimRules
from monitor.gateway.jwks import PublicKeys, parse_jwks
from monitor.gateway.tokens import TokenVerifier

NOW = 1_795_500_000_000
SECOND = NOW // 1000
ISSUER = "https://id.example.com/realms/acme"
AUDIENCE = "gateway"
RULES = ClaimRules(issuer=ISSUER, audiences=(AUDIENCE, "other"), roles="realm_access.roles", tenant="org.id")


class _Anything(jws.JWSRegistry):
    """Signs what is asked for, without a warning."""

    max_header_length = 1 << 20

    def check_header(self, header):
        pass

    def get_alg(self, name):
        return self.algorithms[name]


REGISTRY = _Anything(strict_check_header=False)


@functools.cache
def rsa(kid="rsa"):
    return RSAKey.generate_key(2048, {"kid": kid})


@functools.cache
def ec(curve="P-256", kid="ec"):
    return ECKey.generate_key(curve, {"kid": kid})


@functools.cache
def okp(curve="Ed25519", kid="okp"):
    return OKPKey.generate_key(curve, {"kid": kid})


def said(**changes):
    """The claims of a good token, with changes; None takes one out."""
    good = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice@example.com", "sid": "s-81f2", "acr": "aal2",
        "iat": SECOND - 60, "nbf": SECOND - 60, "exp": SECOND + 300, "auth_time": SECOND - 90,
        "realm_access": {"roles": ["b", "a", "b"]}, "org": {"id": "acme"},
    }  # fmt: skip
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(claims=None, key=None, alg="RS256", **header) -> str:
    """A token; its header has the key's `kid` unless changed, None takes a member out."""
    key = key or rsa()
    members = {"alg": alg, "kid": key.kid, "typ": "JWT"} | header
    payload = (
        claims if isinstance(claims, bytes) else json.dumps(said() if claims is None else claims).encode()
    )
    members = {name: value for name, value in members.items() if value is not None}
    return jws.serialize_compact(members, payload, key, registry=REGISTRY)


def encoded(part) -> str:
    """One part of a token."""
    return (
        urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode())
        .rstrip(b"=")
        .decode()
    )


def unsigned(header, claims=None, signature=b"") -> str:
    """A token whose signature is whatever is given."""
    return f"{encoded(header)}.{encoded(said() if claims is None else claims)}.{encoded(signature)}"


def jwks(*keys, **extra) -> bytes:
    """The public keys as an issuer serves them."""
    return json.dumps({"keys": [key.as_dict(private=False) | extra for key in keys]}).encode()


class Held:
    """Keys that are at hand, and change when a test says so. Counts what is asked."""

    def __init__(self, keys: PublicKeys | None):
        self.keys = keys
        self.coming: PublicKeys | None = None
        self.fault = None
        self.renewed = 0

    def current(self):
        return self.keys

    async def renew(self):
        self.renewed += 1
        self.keys = self.coming or self.keys


def held(*keys) -> Held:
    return Held(parse_jwks(jwks(*keys)))


def verifier(*keys, rules=RULES, **settings) -> TokenVerifier:
    """One that knows these keys (an RSA key where none are given)."""
    return TokenVerifier(rules, held(*(keys or (rsa(),))), **settings)
