"""The feed of a session: what its client is told, when, and never twice."""

import asyncio
import threading
from itertools import pairwise

import pytest

from monitor.core.controls import Target
from monitor.core.instants import HOUR, MINUTE, SECOND
from monitor.gateway import Now
from monitor.gateway.api import feed as feeds
from monitor.gateway.api import hub as hubs
from monitor.gateway.changes import Change, ChangeKind
from monitor.gateway.metrics import GatewayMetrics
from tests.gateway.asking import fresh
from tests.gateway.calling import HOLDER, NOW, Feed, api, call, client, following, scope

SESSION = "s-81f2"
ENDED = {
    "message": "Session Expired: Please Reauthenticate", "session_id": SESSION, "reason": "idle_timeout",
    "effective_at": "2026-11-24T05:59:55.000Z", "reauth": {"allowed": True},
}  # fmt: skip


async def turns(count: int = 20) -> None:
    """Let everything that is ready happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_it_begins_at_once_and_nobody_on_the_way_keeps_it() -> None:
    async with following(api().app) as feed:
        assert feed.start["status"] == 200
        assert dict(feed.start["headers"]) == {b"content-type": b"text/event-stream", b"cache-control": b"no-store", b"x-accel-buffering": b"no"}
        assert feed.text == "retry: 3000\n\n"


async def test_a_session_is_warned_of_ends_and_lives_again() -> None:
    view = fresh()
    async with following(api(view).app) as feed:
        view.warn(SESSION, NOW + MINUTE)
        assert await feed.event("session.expiring") == {
            "session_id": SESSION, "reason": "idle_timeout", "effective_at": "2026-11-24T06:01:00.000Z", "time_left_ms": MINUTE,
        }  # fmt: skip
        view.expire(SESSION, NOW - 5 * SECOND)
        assert await feed.event("session.expired") == ENDED
        view.reinstate(SESSION, NOW, epoch=1)
        assert await feed.event("session.reinstated") == {"session_id": SESSION}
        view.revoke(SESSION, NOW, epoch=1)
        assert (await feed.event("session.expired"))["reason"] == "admin_revoked"
        assert [name for name, _ in feed.events] == ["session.expiring", "session.expired", "session.reinstated", "session.expired"]


async def test_who_comes_late_is_told_at_once() -> None:
    view = fresh()
    called = api(view)
    view.warn("s-warned", NOW + MINUTE)
    view.expire(SESSION, NOW - 5 * SECOND)
    async with following(called.app, "s-warned") as warned, following(called.app) as ended:
        assert [name for name, _ in warned.events] == ["session.expiring"]
        assert ended.events == [("session.expired", ENDED)]


async def test_what_happens_to_others_is_not_told() -> None:
    view = fresh()
    async with following(api(view).app) as feed:
        view.expire("s-other", NOW)
        view.warn("s-other", NOW + MINUTE)
        await turns()
        assert feed.events == []


async def test_who_is_forgotten_has_not_come_back() -> None:
    view = fresh()
    called = api(view)
    async with following(called.app) as feed, following(called.app, headers=client()) as client_feed:
        view.expire(SESSION, NOW - 5 * SECOND)
        await feed.event("session.expired")
        await client_feed.event("session.expired")
        view.forget(SESSION)
        await turns()
        assert len(feed.events) == len(client_feed.events) == 1
        # The id has another life, and ends again.
        view.expire(SESSION, NOW)
        await feed.until(lambda one: len(one.events) == 2)


async def test_the_same_is_not_told_twice() -> None:
    view = fresh()
    async with following(api(view).app) as feed:
        view.expire(SESSION, NOW - 5 * SECOND)
        await feed.event("session.expired")
        view.expire(SESSION, NOW - 5 * SECOND)
        view.lock(Target(subject="somebody"), NOW)
        await turns()
        assert len(feed.events) == 1


async def test_a_lock_meets_the_client_that_it_means_and_lets_it_go() -> None:
    view = fresh()
    async with following(api(view).app, headers=client()) as feed:
        view.lock(Target(subject="alice@example.com"), NOW)
        told = await feed.event("session.expired")
        assert (told["reason"], told["reauth"]) == ("locked", {"allowed": False})
        view.unlock(NOW + 1)
        await feed.event("session.reinstated")


async def test_another_policy_is_looked_at() -> None:
    view = fresh()
    async with following(api(view).app, headers=client(auth_time=NOW // SECOND - 7200)) as feed:
        view.rule("version: 1\ndefaults: {idle: 10m, absolute: 1h}\n")
        assert (await feed.event("session.expired"))["reason"] == "absolute_timeout"


async def test_an_outage_of_the_monitor_ends_nobody() -> None:
    view = fresh()
    called = api(view)
    async with following(called.app) as feed:
        called.clock.now = Now(NOW + HOUR, HOUR)
        called.hub.told([Change(ChangeKind.CONTROLS)])
        await turns()
        assert feed.events == []
        view.expire(SESSION, NOW - 5 * SECOND)
        assert await feed.event("session.expired") == ENDED


class TestComingBack:
    """With the id of the event that was told last."""

    async def last(self, view) -> str:
        async with following(api(view).app) as feed:
            await feed.until(lambda one: one.events)
            return feed.frames[-1]["id"]

    @pytest.mark.parametrize("act", ["expire", "warn"])
    async def test_what_is_known_already_is_not_told_again(self, act) -> None:
        view = fresh()
        called = api(view)
        getattr(view, act)(SESSION, NOW + MINUTE)
        async with following(called.app) as feed:
            last = feed.frames[-1]["id"]
        async with following(called.app, headers=HOLDER | {"Last-Event-ID": last}) as feed:
            await turns()
            assert feed.events == []
            view.revoke(SESSION, NOW)
            await feed.event("session.expired")

    async def test_what_has_changed_meanwhile_is_told(self) -> None:
        view = fresh()
        view.expire(SESSION, NOW)
        back = HOLDER | {"Last-Event-ID": await self.last(view)}
        view.reinstate(SESSION, NOW, epoch=1)
        async with following(api(view).app, headers=back) as feed:
            assert feed.events == [("session.reinstated", {"session_id": SESSION})]

    @pytest.mark.parametrize("id_", ["", "é", "a\tb", "x" * 65, "expired", "42"])
    async def test_an_id_of_somebody_elses_does_no_harm(self, id_) -> None:
        view = fresh()
        view.expire(SESSION, NOW - 5 * SECOND)
        async with following(api(view).app, headers=[*HOLDER.items(), ("Last-Event-ID", id_.encode())]) as feed:
            assert feed.events == [("session.expired", ENDED)]


class TestTime:
    """What happens though nothing is told."""

    async def test_a_silent_feed_beats(self, monkeypatch) -> None:
        monkeypatch.setattr(feeds, "HEARTBEAT", 5)
        async with following(api().app) as feed:
            await feed.until(lambda one: one.text.count(":\n\n") >= 3)
            assert feed.events == []

    async def test_it_ends_with_the_token(self, monkeypatch) -> None:
        monkeypatch.setattr(feeds, "HEARTBEAT", 5)
        called = api()
        async with following(called.app, headers=client(exp=NOW // SECOND + 60)) as feed:
            called.clock.pass_by(MINUTE - 1)
            await feed.until(lambda one: one.text.count(":\n\n") >= 2)
            assert not feed.over
            called.clock.pass_by(1)
            await feed.until(lambda one: one.over)
        assert len(called.hub) == 0

    async def test_the_absolute_limit_strikes_without_the_monitor(self, monkeypatch) -> None:
        monkeypatch.setattr(feeds, "HEARTBEAT", 5)
        view = fresh(policy="version: 1\ndefaults: {idle: 10m, absolute: 1h}\n")
        called = api(view)
        async with following(called.app, headers=client(auth_time=NOW // SECOND - 1800, exp=NOW // SECOND + 7200)) as feed:
            called.clock.pass_by(HOUR // 2 - 1)
            await turns()
            assert feed.events == []
            called.clock.pass_by(SECOND)
            assert (await feed.event("session.expired"))["reason"] == "absolute_timeout"

    async def test_who_takes_nothing_is_let_go(self, monkeypatch) -> None:
        monkeypatch.setattr(feeds, "STUCK", 0.05)
        view = fresh()
        called = api(view)
        feed, stuck = Feed(), asyncio.Event()

        async def send(message):
            await feed.send(message)
            if b"session.expired" in message.get("body", b""):
                await stuck.wait()

        view.expire(SESSION, NOW)
        await asyncio.wait_for(called.app(scope(f"/v1/sessions/{SESSION}/events", HOLDER), feed.receive, send), 30)
        assert not feed.over
        assert len(called.hub) == 0


class TestPlaces:
    """How many may follow at once."""

    async def test_beyond_the_bound_others_wait(self) -> None:
        called = api(subscribers=2)
        async with following(called.app, "a"), following(called.app, "b"):
            answered = await call(called.app, "/v1/sessions/c/events", HOLDER)
            assert (answered.status, answered.headers["retry-after"], answered.problem["reason"]) == (503, "5", "too_many_subscribers")
        async with following(called.app, "c"):
            assert len(called.hub) == 1

    async def test_one_session_does_not_take_them_all(self) -> None:
        called = api(per_session=1)
        async with following(called.app, "a"), following(called.app, "b"):
            answered = await call(called.app, "/v1/sessions/a/events", HOLDER)
            assert (answered.status, answered.problem["reason"]) == (429, "too_many_of_session")

    async def test_they_are_counted(self) -> None:
        metrics = GatewayMetrics()
        called = api(metrics=metrics)
        async with following(called.app):
            assert metrics.registry.get_sample_value("session_monitor_gateway_api_subscribers") == 1
        assert metrics.registry.get_sample_value("session_monitor_gateway_api_subscribers") == 0

    async def test_a_stop_ends_them_and_admits_nobody(self) -> None:
        called = api()
        async with following(called.app) as feed:
            await called.hub.stop()
            await feed.until(lambda one: one.over)
            assert (await call(called.app, f"/v1/sessions/{SESSION}/events", HOLDER)).status == 503
        await called.hub.stop()


class TestManyChanges:
    """From the follower's thread."""

    async def test_a_hundred_thousand_at_once_wake_the_loop_once(self, monkeypatch) -> None:
        called, woken = api(), []
        loop = asyncio.get_running_loop()
        real = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *given: woken.append(1) or real(*given))
        changes = [Change(ChangeKind.ENDED, f"s-{n}") for n in range(100_000)]
        async with following(called.app, "s-7"), following(called.app, "s-99999"):
            thread = threading.Thread(target=called.hub.told, args=(changes,))
            thread.start()
            thread.join()  # the loop is held meanwhile: it can't have been woken in between
            assert len(woken) == 1
            called.hub.told(changes)
            assert len(woken) == 1
            called.hub.told([Change(ChangeKind.ENDED, "s-8")])
            assert len(woken) == 1
            await turns()
            called.hub.told(changes)
            assert len(woken) == 2

    async def test_others_have_their_turn_while_everybody_is_looked_at(self, monkeypatch) -> None:
        monkeypatch.setattr(hubs, "SLICE", 10)
        called = api()
        looked: list[int] = []

        def news() -> None:
            looked.append(1)

        with_turns = []
        places = [called.hub.subscribed(f"s-{n}", news) for n in range(100)]
        for place in places:
            place.__enter__()
        called.hub.told([Change(ChangeKind.CONTROLS)])
        while len(looked) < 100:
            with_turns.append(len(looked))
            await asyncio.sleep(0)
        with_turns.append(len(looked))
        assert max(after - before for before, after in pairwise(with_turns)) <= 10
        for place in places:
            place.__exit__(None, None, None)
        await called.hub.stop()

    async def test_what_comes_while_they_are_looked_at_is_looked_at_too(self) -> None:
        called = api()
        looked: list[int] = []

        def news() -> None:
            looked.append(1)
            if len(looked) == 1:
                called.hub.told([Change(ChangeKind.ENDED, "s-1")])

        with called.hub.subscribed("s-1", news):
            called.hub.told([Change(ChangeKind.ENDED, "s-1")])
            await turns()
            assert len(looked) == 2
        await called.hub.stop()

    def test_a_loop_that_has_been_closed_is_nobodys_fault(self) -> None:
        async def subscribe():
            called = api()
            place = called.hub.subscribed("s-1", lambda: None)
            place.__enter__()
            return called.hub, place

        hub, place = asyncio.run(subscribe())
        hub.told([Change(ChangeKind.ENDED, "s-1")])
        place.__exit__(None, None, None)
