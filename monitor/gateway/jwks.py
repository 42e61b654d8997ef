"""`PublicKeys`: the keys of a JWKS (RFC 7517) that can verify, and the verification. Needs the extra `gateway`."""

from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from monitor.core.errors import AbsenceError, InputError, MissingExtraError
from monitor.gateway.refusals import BadToken, TokenFault

try:
    from joserfc.errors import JoseError, UnsupportedAlgorithmError
    from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
    from joserfc.jws import CompactSignature, JWSRegistry, deserialize_compact
except ModuleNotFoundError as error:
    raise MissingExtraError("gateway", "verifying tokens") from error

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "Ed448", "EdDSA",
)  # fmt: skip
"""All that may be allowed: with any other, whoever knows the public key could sign (HS256), or anybody (none)."""
MAX_KEYS: Final = 64
LEAST_RSA_BITS: Final = 2048

_KINDS: Final[dict[str, tuple[type[RSAKey] | type[ECKey] | type[OKPKey], tuple[str, ...]]]] = {
    "RSA": (RSAKey, ("n", "e")),
    "EC": (ECKey, ("crv", "x", "y")),
    "OKP": (OKPKey, ("crv", "x")),
}
"""The public members of each kind of key; all others are left behind, private ones above all."""


class _Set(msgspec.Struct):
    keys: list[dict[str, Any]]


class _Registry(JWSRegistry):
    """joserfc's, for one algorithm; with longer headers, as certificates stand in some."""

    max_header_length = 8192

    def __init__(self, alg: str) -> None:
        super().__init__(strict_check_header=False)
        self.alg = self.algorithms[alg]

    def get_alg(self, name: str) -> Any:
        """That one, without the warning that joserfc has for each token with EdDSA.

        joserfc reads the header once more, and might read another algorithm in it than was read before: `none`, in the end.
        """
        if name != self.alg.name:
            raise UnsupportedAlgorithmError
        return self.alg


_REGISTRIES: Final = {alg: _Registry(alg) for alg in ALGORITHMS}


class _Entry(msgspec.Struct, frozen=True):
    kind: str
    kid: str | None
    alg: str | None
    members: tuple[tuple[str, str], ...]
    """The public ones but `kty`."""


class PublicKeys:
    """The usable keys of one issuer, immutable. Equal to another one where its keys are the same."""

    def __init__(self, entries: dict[_Entry, Key]) -> None:
        """Made by `parse_jwks`."""
        self._entries = entries

    def __eq__(self, other: object) -> bool:
        """By the keys."""
        return isinstance(other, PublicKeys) and self._entries.keys() == other._entries.keys()

    def __hash__(self) -> int:
        """By the keys."""
        return hash(frozenset(self._entries))

    def __len__(self) -> int:
        """How many can be used."""
        return len(self._entries)

    def payload(self, token: str, alg: str, kid: str | None) -> bytes:
        """What the token says, if one of these keys has signed it. Raises BadToken.

        `alg` and `kid` are those of the token's header, `alg` an allowed one. Without a `kid` every key of the kind
        is tried; that none has signed it then means that the key is not known (yet).
        """
        known = False
        registry = _REGISTRIES[alg]
        for key in self._candidates(registry, kid):
            known = True
            try:
                signed: CompactSignature = deserialize_compact(token, key, registry=registry)
            except (JoseError, ValueError, TypeError):
                continue
            return signed.payload
        if known and kid is not None:
            raise BadToken(TokenFault.SIGNATURE)
        raise BadToken(TokenFault.UNKNOWN_KEY)

    def _candidates(self, registry: _Registry, kid: str | None) -> Iterator[Key]:
        for entry, key in self._entries.items():
            if (kid is None or entry.kid == kid) and entry.alg in (None, registry.alg.name):
                try:
                    registry.alg.check_key(key)
                except JoseError:
                    continue
                yield key


def check_algorithms(names: tuple[str, ...]) -> tuple[str, ...]:
    """These algorithms, if each may be allowed. Raises InputError."""
    wrong = [name for name in names if name not in ALGORITHMS]
    if wrong or not names:
        raise InputError(
            f"token algorithms: {', '.join(wrong) or 'none are given'}; allowed are {', '.join(ALGORITHMS)}: only of these"
            " does a public key prove who has signed"
        )
    return names


def parse_jwks(document: bytes, algorithms: tuple[str, ...] = ALGORITHMS) -> PublicKeys:
    """The keys that can verify one of `algorithms`. Others are left out. Raises AbsenceError where none is left."""
    try:
        said = msgspec.json.decode(document, type=_Set).keys
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise AbsenceError(
            "the issuer's keys are not a JWKS (RFC 7517): an object with the list 'keys'"
        ) from None
    entries = {}
    for one in said[:MAX_KEYS]:
        if (entry := _entry(one, algorithms)) is not None and (key := _key(entry)) is not None:
            entries[entry] = key
    if not entries:
        raise AbsenceError(f"of the issuer's {len(said)} keys none can verify {', '.join(algorithms)}")
    return PublicKeys(entries)


def _entry(said: dict[str, Any], algorithms: tuple[str, ...]) -> _Entry | None:
    kind, kid, alg = said.get("kty"), said.get("kid"), said.get("alg")
    if not isinstance(kind, str) or kind not in _KINDS or not isinstance(kid, str | None):
        return None
    operations = said.get("key_ops")
    if said.get("use", "sig") != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return None
    if alg is not None and alg not in algorithms:
        return None
    members = []
    for name in _KINDS[kind][1]:
        if not isinstance(value := said.get(name), str):
            return None
        members.append((name, value))
    return _Entry(kind, kid, alg, tuple(members))


def _key(entry: _Entry) -> Key | None:
    type_, _ = _KINDS[entry.kind]
    try:
        # joserfc would warn of a weak key, and take it.
        if entry.kind == "RSA" and _bits(dict(entry.members)["n"]) < LEAST_RSA_BITS:
            return None
        return type_.import_key({"kty": entry.kind, **dict(entry.members)})
    except (JoseError, ValueError, TypeError):
        return None


def _bits(number: str) -> int:
    return int.from_bytes(urlsafe_b64decode(number + "==")).bit_length()
