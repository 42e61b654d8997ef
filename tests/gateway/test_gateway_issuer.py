"""The issuer's keys: fetched once by all who miss one, seldom by forgers, and good for a while without the issuer."""

import asyncio
import json
import logging

import pytest

from monitor.core.errors import AbsenceError, InputError
from monitor.gateway.claims import Claims
from monitor.gateway.issuer import IssuerKeys
from monitor.gateway.refusals import TokenFault, TokenRefused
from monitor.gateway.tokens import TokenVerifier
from tests.gateway.signing import ISSUER, NOW, RULES, jwks, rsa, signed

CONFIGURATION = f"{ISSUER}/.well-known/openid-configuration"
KEYS_URL = "https://id.example.com/keys"


class Issuer:
    """An issuer in memory, and the clock of who asks it."""

    def __init__(self, *keys):
        self.keys = keys
        self.now = 1_000_000
        self.up = True
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, url):
        self.asked += url == CONFIGURATION
        await self.open.wait()
        if not self.up:
            raise AbsenceError(f"{url} can't be had")
        if url == CONFIGURATION:
            return json.dumps({"issuer": ISSUER, "jwks_uri": KEYS_URL}).encode()
        assert url == KEYS_URL
        return jwks(*self.keys)

    def keys_of(self, **settings) -> IssuerKeys:
        return IssuerKeys(ISSUER, fetch=self.fetch, monotonic=lambda: self.now, **settings)


def fault(found) -> TokenFault:
    assert isinstance(found, TokenRefused), found
    return found.fault


async def until(true, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_rotated_key_is_fetched_when_it_is_first_met():
    issuer = Issuer(rsa("one"))
    tokens = TokenVerifier(RULES, issuer.keys_of())
    assert isinstance(await tokens.verify(signed(key=rsa("one")), NOW), Claims)
    issuer.keys = (rsa("two"),)
    issuer.now += 5_000
    assert isinstance(await tokens.verify(signed(key=rsa("two")), NOW), Claims)
    assert fault(await tokens.verify(signed(key=rsa("one")), NOW)) is TokenFault.UNKNOWN_KEY
    assert issuer.asked == 2


async def test_forged_keys_reach_the_issuer_once_in_a_pause():
    issuer = Issuer(rsa("one"))
    tokens = TokenVerifier(RULES, issuer.keys_of(pause=5_000))
    forged = [signed(key=rsa("foreign"), kid=f"k{n}") for n in range(20)]
    for _ in range(3):
        for token in forged:
            assert fault(await tokens.verify(token, NOW)) is TokenFault.UNKNOWN_KEY
    assert issuer.asked == 1
    issuer.now += 4_999
    await tokens.verify(forged[0], NOW)
    assert issuer.asked == 1
    issuer.now += 1
    await tokens.verify(forged[0], NOW)
    assert issuer.asked == 2


async def test_all_who_miss_a_key_share_one_fetch_and_none_ends_it_for_the_others():
    issuer = Issuer(rsa("one"))
    issuer.open.clear()
    tokens = TokenVerifier(RULES, issuer.keys_of())
    waiting = [asyncio.create_task(tokens.verify(signed(key=rsa("one")), NOW)) for _ in range(50)]
    await until(lambda: issuer.asked == 1)
    waiting[0].cancel()
    await asyncio.sleep(0)
    issuer.open.set()
    found = await asyncio.gather(*waiting[1:])
    assert all(isinstance(one, Claims) for one in found)
    assert waiting[0].cancelled()
    assert issuer.asked == 1


async def test_old_keys_count_while_the_issuer_is_away_up_to_an_age(caplog):
    issuer = Issuer(rsa("one"))
    keys = issuer.keys_of(oldest=60_000)
    tokens = TokenVerifier(RULES, keys)
    token = signed(key=rsa("one"))
    assert isinstance(await tokens.verify(token, NOW), Claims)
    issuer.up = False
    issuer.now += 60_000
    await keys.renew()
    assert keys.fault is not None
    assert keys.age == 60_000
    assert isinstance(await tokens.verify(token, NOW), Claims)
    issuer.now += 1
    assert fault(await tokens.verify(token, NOW)) is TokenFault.KEYS_UNAVAILABLE
    said = [(record.levelno, record.msg) for record in caplog.records]
    assert (logging.WARNING, "issuer_keys_not_fetched") in said
    issuer.up = True
    issuer.now += 5_000
    assert isinstance(await tokens.verify(token, NOW), Claims)
    assert keys.fault is None


async def test_the_same_keys_again_forget_nothing():
    issuer = Issuer(rsa("one"))
    keys = issuer.keys_of()
    await keys.renew()
    before = keys.current()
    issuer.now += 5_000
    await keys.renew()
    assert issuer.asked == 2
    assert keys.current() is before


async def test_without_any_request_keys_are_fetched_each_lifetime():
    issuer = Issuer(rsa("one"))
    keys = issuer.keys_of(lifetime=10, pause=0)
    await keys.start()
    await keys.start()
    issuer.keys = (rsa("two"),)
    await until(lambda: issuer.asked >= 5)
    await keys.stop()
    await keys.stop()
    assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    tokens = TokenVerifier(RULES, keys)
    assert isinstance(tokens.check(signed(key=rsa("two")), NOW), Claims)
    assert fault(tokens.check(signed(key=rsa("one")), NOW)) is TokenFault.UNKNOWN_KEY


async def test_an_issuer_that_is_away_at_the_start_is_asked_again():
    issuer = Issuer(rsa("one"))
    issuer.up = False
    keys = issuer.keys_of(lifetime=10, pause=0)
    await keys.start()
    assert keys.current() is None
    assert CONFIGURATION in keys.fault
    issuer.up = True
    await until(lambda: keys.current() is not None)
    assert keys.fault is None
    await keys.stop()


async def test_it_stops_at_once_while_the_issuer_hangs():
    issuer = Issuer(rsa("one"))
    keys = issuer.keys_of(lifetime=10, pause=0)
    await keys.start()
    issuer.open.clear()
    await until(lambda: issuer.asked >= 2)
    async with asyncio.timeout(1):
        await keys.stop()


@pytest.mark.parametrize("algorithms", [("HS256",), ("none",)])
def test_an_algorithm_that_proves_nothing_is_refused(algorithms):
    with pytest.raises(InputError, match="allowed are RS256"):
        IssuerKeys(ISSUER, algorithms)
