"""`session_moved`: one session from several networks, or with several user agents, within a window."""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Self

import msgspec

from monitor.core.events import Attributes
from monitor.core.instants import Millis
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.detect.finding import MOST_SESSIONS, Cleared, Finding, Subject
from monitor.detect.settings import Detector, SessionMoved
from monitor.detect.words import many
from monitor.policy.durations import format_duration

MOST_PLACES: Final = 64
"""Networks of one session, and user agents, that are held: of more the newest."""
_AGENT: Final = 8
"""Bytes of a user agent's hash: no network has as many."""
_LONGEST: Final = 64
"""No address is longer. What came with an event may be, and is not remembered."""
SIGHTINGS: Final = frozenset({LifecycleType.OPENED, LifecycleType.ATTRIBUTES_CHANGED, LifecycleType.REAUTHENTICATED})
"""Records that stand for something that the principal did, with what it was then known by."""


class _Packed(msgspec.Struct, array_like=True):
    """The state as it is written."""

    session_id: str
    subject: str | None
    tenant: str | None
    newest: Millis
    seen: dict[bytes, Millis]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Packed).decode


def network_of(client_ip: str | None, settings: SessionMoved) -> bytes | None:
    """The network of an address, as its bytes and one for the length of the prefix; None of what is no address."""
    packed = None if client_ip is None or len(client_ip) > _LONGEST else _packed(client_ip)
    if packed is None:
        return None
    prefix = settings.prefix_v4 if len(packed) == 4 else settings.prefix_v6
    unused = 8 * len(packed) - prefix
    return (int.from_bytes(packed) >> unused << unused).to_bytes(len(packed)) + bytes((prefix,))


@lru_cache(maxsize=16_384)
def _packed(client_ip: str) -> bytes | None:
    try:
        address = ip_address(client_ip)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).packed


def _hash(user_agent: str) -> bytes:
    return blake2b(user_agent.encode(), digest_size=_AGENT).digest()


def name_of(network: bytes) -> str:
    """As people write it: `10.1.0.0/16`."""
    return str(ip_network((network[:-1], network[-1])))


class Whereabouts:
    """Where one session has been seen lately. A sighting counts while it is less than `window` old.

    Told of the same sightings in whatever order, and however often, it comes to the same. At most `MOST_PLACES`
    of a kind are held; a network is one of the prefix that held when it was seen, and counts while that holds.
    """

    __slots__ = ("_seen", "newest", "session_id", "subject", "tenant")

    def __init__(self, session_id: str) -> None:
        """Nothing has been seen yet."""
        self.session_id = session_id
        self.subject: str | None = None
        self.tenant: str | None = None
        self.newest: Millis = 0
        """The instant of the newest sighting."""
        self._seen: dict[bytes, Millis] = {}
        """Network or hash of a user agent -> when it was last seen."""

    def take(self, record: Lifecycle, settings: SessionMoved, exempt: Callable[[Attributes], bool]) -> Finding | None:
        """What stands out right after a record of this session, if anything does."""
        if record.type not in SIGHTINGS or exempt(record.attributes):
            return None
        self.see(record.at, record.attributes, settings)
        if len(self._seen) < min(settings.networks, settings.user_agents):
            return None
        found = self.judge(self.newest, settings)
        return found if isinstance(found, Finding) else None

    def see(self, at: Millis, attributes: Attributes, settings: SessionMoved) -> None:
        """It was seen at `at`, from this address and with this user agent, where they are known."""
        self.subject, self.tenant = self.subject or attributes.subject, self.tenant or attributes.tenant
        self.newest = max(self.newest, at)
        if self._seen:
            self.forget(self.newest, settings)
        if at > self.newest - settings.window:
            network = network_of(attributes.client_ip, settings)
            if network is not None:
                self._note(network, at)
            if attributes.user_agent:
                self._note(_hash(attributes.user_agent), at)

    def judge(self, now: Millis, settings: SessionMoved) -> Finding | Cleared:
        """Whether it stands out at `now`."""
        networks, agents = self._within(now, settings)
        about = Subject(Detector.SESSION_MOVED, subject=self.subject, session_id=self.session_id, tenant=self.tenant)
        if len(networks) < settings.networks and len(agents) < settings.user_agents:
            return Cleared(about, now)
        return Finding(
            about, now,
            f"one session from {many(len(networks), 'network')} with {many(len(agents), 'user agent')} within {format_duration(settings.window)}: "
            f"fewer than {settings.networks} networks and {settings.user_agents} user agents were expected",
            expected={"networks_below": settings.networks, "user_agents_below": settings.user_agents, "window_ms": settings.window},
            seen={
                "networks": len(networks), "user_agents": len(agents), "sessions": 1,
                "addresses": [name_of(network) for network in sorted(networks, key=lambda one: (networks[one], one))[-MOST_SESSIONS:]],
            },
            sessions=(self.session_id,),
        )  # fmt: skip

    def next_look(self, now: Millis, settings: SessionMoved) -> Millis | None:
        """When it ceases to stand out if nothing more is seen; None: it does not stand out."""
        networks, agents = self._within(now, settings)
        last = [sorted(held.values())[-least] for held, least in ((networks, settings.networks), (agents, settings.user_agents)) if len(held) >= least]
        return max(last) + settings.window if last else None

    def forget(self, now: Millis, settings: SessionMoved) -> bool:
        """Let go of what no longer counts at `now`; whether nothing is left, and the whole may go."""
        before = now - settings.window
        for what in [what for what, at in self._seen.items() if at <= before]:
            del self._seen[what]
        return not self._seen

    def to_bytes(self) -> bytes:
        """Everything that `from_bytes` needs."""
        return _encode(_Packed(self.session_id, self.subject, self.tenant, self.newest, self._seen))

    @classmethod
    def from_bytes(cls, written: bytes) -> Self:
        """As it was when it was written. Raises msgspec.DecodeError."""
        packed = _decode(written)
        found = cls(packed.session_id)
        found.subject, found.tenant, found.newest = packed.subject, packed.tenant, packed.newest
        found._seen = packed.seen
        return found

    def _note(self, what: bytes, at: Millis) -> None:
        self._seen[what] = max(at, self._seen.get(what, at))
        if len(self._seen) <= MOST_PLACES:
            return
        agent = len(what) == _AGENT
        alike = [one for one in self._seen if (len(one) == _AGENT) is agent]
        if len(alike) > MOST_PLACES:
            # By name where instants are equal: which one goes must not depend on the order of the telling.
            del self._seen[min(alike, key=lambda one: (self._seen[one], one))]

    def _within(self, now: Millis, settings: SessionMoved) -> tuple[dict[bytes, Millis], dict[bytes, Millis]]:
        """The networks that count at `now`, and the user agents."""
        before, prefixes = now - settings.window, {5: settings.prefix_v4, 17: settings.prefix_v6}
        lately = [(what, at) for what, at in self._seen.items() if at > before]
        networks = {what: at for what, at in lately if prefixes.get(len(what)) == what[-1]}
        return networks, {what: at for what, at in lately if len(what) == _AGENT}
