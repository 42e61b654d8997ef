"""Tokens verified from threads and from event loops that are not the issuer's."""

import asyncio
import threading

import pytest

from monitor.gateway import shared_verifier
from monitor.gateway.background import Background
from monitor.gateway.claims import Claims
from monitor.gateway.jwks import parse_jwks
from monitor.gateway.refusals import TokenFault, TokenRefused
from monitor.gateway.shared_verifier import SharedVerifier
from monitor.gateway.tokens import TokenVerifier
from tests.gateway.signing import NOW, RULES, ec, held, jwks, rsa, signed


class Keys:
    """Keys of which the issuer has one more, and tells who asks in which thread."""

    def __init__(self) -> None:
        self._keys, self.asked_in = held(rsa()), []
        self._keys.coming = parse_jwks(jwks(rsa(), ec()))
        self.fault = None

    def current(self):
        return self._keys.current()

    async def renew(self) -> None:
        self.asked_in.append(threading.current_thread().name)
        await self._keys.renew()


@pytest.fixture
def world():
    class World:
        background, keys = Background("under-test"), Keys()

    World.background.start()
    World.tokens = SharedVerifier(TokenVerifier(RULES, World.keys), World.background)
    yield World
    World.background.stop()


def test_a_thread_asks_the_issuer_in_the_background_and_only_for_what_is_not_known(world) -> None:
    assert isinstance(world.tokens.verify_now(signed(), NOW), Claims)
    assert world.tokens.verify_now("x", NOW).fault is TokenFault.MALFORMED
    assert world.keys.asked_in == []
    assert isinstance(world.tokens.verify_now(signed(key=ec(), alg="ES256"), NOW), Claims)
    assert world.keys.asked_in == ["under-test"]


async def test_so_does_a_task_on_another_event_loop(world) -> None:
    assert isinstance(await world.tokens.verify(signed(), NOW), Claims)
    assert world.keys.asked_in == []
    found = await asyncio.gather(*(world.tokens.verify(signed(key=ec(), alg="ES256"), NOW) for _ in range(3)))
    assert {type(one) for one in found} == {Claims}
    assert set(world.keys.asked_in) == {"under-test"}


def test_an_issuer_that_is_too_slow_can_not_be_asked(world, monkeypatch) -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(world.keys, "renew", for_ever)
    monkeypatch.setattr(shared_verifier, "LONGEST", 0.05)
    assert world.tokens.verify_now(signed(key=ec(), alg="ES256"), NOW) == TokenRefused(TokenFault.KEYS_UNAVAILABLE)
