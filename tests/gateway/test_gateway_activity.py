"""What is told of a request, and what is not."""

import pytest
from msgspec.structs import replace

from monitor.core.commands import Reauth
from monitor.core.controls import Target
from monitor.core.events import Principal
from monitor.core.reasons import Reason
from monitor.gateway import Facts, MemoryView, Now, WithoutSession
from monitor.gateway.activity import Activity
from monitor.gateway.enforcer import NOTHING_SEEN, Enforcer, Seen
from monitor.gateway.evidence import in_flight, to_draft
from tests.gateway.worlds import T

POLICY = "version: 1\ndefaults: {idle: 30m, absolute: 12h}\n"
SECOND = T // 1000
ALICE = Facts(
    "s-1", "alice", Principal.USER, ("admin", "b"), "acme", "10.0.0.1", "internal", "console", "/v1", T - 60_000, whole_second=True, acr="aal2"
)
SEEN = Seen("curl/8", T + 300_500)


class World:
    """An enforcer with an activity that is written down."""

    def __init__(self, **settings) -> None:
        self.view = MemoryView(policy=POLICY)
        self.view.watermark(T, 0)
        self.told = []
        self.now = Now(T, 0)
        self.activity = Activity(self.view, self, **settings)
        self.enforcer = Enforcer(self.view, lambda: self.now, witnesses=[self.activity])

    def put(self, evidence) -> None:
        self.told.append(evidence)

    def ask(self, facts=ALICE, seen=SEEN, *, ago: int | None = None) -> str:
        """Ask, with an authentication so many seconds ago; the verdict's reason."""
        facts = facts if ago is None else replace(facts, auth_time=T - ago * 1000)
        return self.enforcer.decide(facts, seen).reason

    def types(self) -> list[str]:
        return [one.type.value.removeprefix("session.") for one in self.told]


@pytest.fixture
def world():
    return World()


def test_an_admitted_request_says_all_that_is_known(world) -> None:
    assert world.ask() == ""
    (evidence,) = world.told
    event = to_draft(evidence)
    assert (event.type, event.session_id, event.kind, event.time) == ("session.activity", "s-1", None, T)
    assert event.stated == {
        "subject": "alice", "principal": "user", "roles": ("admin", "b"), "tenant": "acme", "client_ip": "10.0.0.1", "classification": "internal",
        "workload": "console", "route": "/v1", "auth_time": SECOND - 60, "acr": "aal2", "user_agent": "curl/8", "expires": SECOND + 300.5,
    }  # fmt: skip
    assert isinstance(event.stated["auth_time"], int)
    assert to_draft(replace(evidence, facts=replace(ALICE, whole_second=False))).stated["auth_time"] == SECOND - 60.0


def test_what_is_not_known_or_empty_is_not_said(world) -> None:
    world.ask(Facts("s-1", tenant="", acr=""), NOTHING_SEEN)
    assert to_draft(world.told[0]).stated == {}


def test_an_activity_may_have_a_kind(world) -> None:
    world.ask(seen=Seen(kind="keepalive"))
    assert to_draft(world.told[0]).kind == "keepalive"
    event = to_draft(in_flight("s-1", T))
    assert (event.type, event.kind, event.stated) == ("session.activity", "inflight", {})


def test_a_request_without_a_session_says_nothing(world) -> None:
    assert world.ask(Facts(subject="alice", auth_time=T)) == "login_required"
    assert world.ask(Facts(subject="alice", auth_time=T, without_session=WithoutSession.ADMIT)) == ""
    assert world.told == []


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda view: view.expire("s-1", T), "idle_timeout"),
        (lambda view: view.revoke("s-1", T), "admin_revoked"),
        (lambda view: view.lock(Target(subject="alice"), T), "locked"),
        (lambda view: view.cut_off(Target(subject="alice"), T), "admin_revoked"),
    ],
)
def test_a_refused_request_is_no_activity(world, prepare, reason) -> None:
    prepare(world.view)
    assert world.ask() == reason
    assert world.told == []


def test_a_stale_view_says_nothing_of_whom_it_refuses(world) -> None:
    strict = replace(ALICE, classification=None)
    world.ask(strict, ago=60)
    world.now = Now(T, 61_000)
    assert world.ask(strict, ago=50) == "view_stale"
    assert world.types() == ["activity"]


class TestAuthentication:
    """A newer one than was told."""

    def test_a_newer_one_is_told_once_and_then_is_activity(self, world) -> None:
        for ago in (60, 60, 50, 50):
            assert world.ask(ago=ago) == ""
        assert world.types() == ["activity", "activity", "reauthenticated", "activity"]
        assert world.told[2].facts.auth_time == T - 50_000

    def test_an_older_token_beside_it_says_nothing_of_its_authentication(self, world) -> None:
        for ago in (50, 60):
            world.ask(ago=ago)
        assert world.types() == ["activity", "activity"]
        assert to_draft(world.told[1]).stated.keys() & {"auth_time", "acr", "expires"} == set()
        assert to_draft(world.told[1]).stated["subject"] == "alice"
        world.ask(ago=50)
        assert world.types()[2] == "activity"

    def test_who_passes_though_it_has_ended_was_authenticated_anew(self, world) -> None:
        world.view.expire("s-1", T - 55_000)
        assert world.ask(ago=50) == ""
        assert world.types() == ["reauthenticated"]
        world.ask(ago=50)
        assert world.types() == ["reauthenticated", "activity"]

    def test_of_a_reinstated_session_the_first_is_activity(self, world) -> None:
        world.view.expire("s-1", T - 55_000)
        world.view.reinstate("s-1", T - 55_000, epoch=1)
        assert world.ask(ago=50) == ""
        assert world.types() == ["activity"]

    def test_a_refused_one_is_told_where_it_is_after_the_cut_off_and_once(self, world) -> None:
        world.view.expire("s-1", T - 55_000, reauth=Reauth(allowed=True, acr_values=("aal3",)))
        assert [world.ask(ago=50), world.ask(ago=50)] == ["idle_timeout"] * 2
        assert world.types() == ["reauthenticated"]
        world.ask(ago=40)
        assert world.types() == ["reauthenticated"] * 2

    def test_one_before_the_cut_off_is_not_told(self, world) -> None:
        """The monitor would take it for activity after the end."""
        world.ask(ago=70)
        world.view.expire("s-1", T - 55_000)
        assert world.ask(ago=60) == "idle_timeout"
        assert world.types() == ["activity"]

    def test_of_a_whole_second_its_end_is_compared(self, world) -> None:
        world.view.expire("s-1", T - 55_001, reauth=Reauth(allowed=True, acr_values=("aal3",)))
        world.ask(ago=56)
        assert world.types() == []
        world.view.expire("s-1", T - 55_002, epoch=1, reauth=Reauth(allowed=True, acr_values=("aal3",)))
        world.ask(ago=56)
        assert world.types() == ["reauthenticated"]

    def test_nothing_brings_back_what_was_revoked_or_is_locked(self, world) -> None:
        world.ask(ago=60)
        world.view.revoke("s-1", T - 55_000)
        assert world.ask(ago=50) == "admin_revoked"
        world.ask(replace(ALICE, session_id="s-2"), ago=60)
        world.view.expire("s-2", T - 55_000)
        world.view.lock(Target(subject="alice"), T)
        assert world.ask(replace(ALICE, session_id="s-2"), ago=40) == "locked"
        assert world.types() == ["activity", "activity"]

    def test_one_too_old_by_itself_is_told_where_it_is_newer_than_what_was(self, world) -> None:
        day = 24 * 3600
        world.ask(ago=2 * day)
        assert world.types() == []
        world.activity.admitted(replace(ALICE, auth_time=T - 3 * day * 1000), SEEN, world.now)
        assert world.ask(ago=2 * day) == Reason.ABSOLUTE_TIMEOUT
        assert world.types() == ["activity", "reauthenticated"]

    def test_the_memory_is_bounded_and_keeps_who_was_seen_last(self) -> None:
        world = World(remembered=2)
        for name in ("a", "b", "a", "c"):
            world.ask(replace(ALICE, session_id=name), ago=60)
        assert list(world.activity._authenticated) == ["a", "c"]
        for name in ("a", "b"):
            world.ask(replace(ALICE, session_id=name), ago=50)
        assert world.types()[4:] == ["reauthenticated", "activity"]
